"""Requests and responses of the gateway, as its OpenAPI document describes them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

State = Literal["queued", "running", "done", "failed"]
Units = Literal["mm", "voxels"]
EXAMPLE_ID = "0f3c9d2a5b6e47d8a1c4e8f7b2d3c4e5"


class LesionModel(BaseModel):
    """One lesion; lengths are in millimetres if the segmentation's `units` is mm, else in voxels."""

    id: int = Field(description="From 1, largest first.", examples=[1])
    centroid_mm: tuple[float, float, float] = Field(description="LPS+ patient millimetres.", examples=[(12.5, -30, 44)])
    centroid_voxel: tuple[float, float, float] = Field(
        description="Slice, row, column, from 0, inferior to superior.", examples=[(61.0, 80.2, 95.4)]
    )
    slices: tuple[int, int] = Field(description="First and last slice, from 0.", examples=[(59, 63)])
    volume_mm3: float = Field(examples=[412.0])
    longest_axial_diameter_mm: float = Field(examples=[9.8])
    mean_probability: float = Field(examples=[0.93])


class ResultFile(BaseModel):
    """A result file."""

    href: str
    media_type: str
    bytes: int


class ProblemDocument(BaseModel):
    """The reason for a refused request or a failed segmentation (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


EXAMPLE_FILE = ResultFile(
    href=f"/v1/segmentations/{EXAMPLE_ID}/results/mask.nii.gz", media_type="application/gzip", bytes=5120
)


class SegmentationModel(BaseModel):
    """A segmentation, from upload to expiry."""

    id: str = Field(examples=[EXAMPLE_ID])
    state: State = Field(examples=["done"])
    progress: float = Field(ge=0, le=1, description="Share of the segmented slices.", examples=[1.0])
    created: datetime = Field(examples=["2026-01-05T10:11:12Z"])
    finished: datetime | None = Field(None, examples=["2026-01-05T10:11:40Z"])
    expires: datetime | None = Field(
        None, description="Time at which the results are deleted.", examples=["2026-01-06T10:11:40Z"]
    )
    version: int | None = Field(None, description="Version of the model.", examples=[3])
    units: Units | None = Field(None, examples=["mm"])
    lesions: list[LesionModel] | None = Field(None, description="When done; of at least the model's minimum volume.")
    results: dict[str, ResultFile] = Field(
        default_factory=dict,
        description="When done: the result files, by name.",
        examples=[{"mask.nii.gz": EXAMPLE_FILE.model_dump()}],
    )
    problem: ProblemDocument | None = Field(None, description="When failed.", examples=[None])


class Health(BaseModel):
    """The gateway runs."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The model server responds."""

    status: Literal["ready"] = "ready"
    model: str
    version: int


class UploadForm(BaseModel):
    """The form of an upload."""

    model_config = ConfigDict(extra="forbid")

    files: list[bytes] = Field(
        min_length=1,
        max_length=16,
        description="NIfTI, PNG or TIFF: one file per channel, or one picture with all channels; or one zip of a DICOM "
        "study. To try it: [sample.png](docs/sample.png).",
    )
    channels: str = Field(
        "",
        max_length=4096,
        description="Channel of each file, in order, such as `t1n,t2f,t1c`; not needed if the file names end in them. "
        "For DICOM: `NAME=PATTERN` of a series' description, such as `t1c=*ax*post*`.",
    )


_FORM: dict[str, JsonValue] = {
    "schema": UploadForm.model_json_schema(),
    "encoding": {"files": {"contentType": "application/octet-stream"}},
}
UPLOAD: dict[str, JsonValue] = {"requestBody": {"required": True, "content": {"multipart/form-data": _FORM}}}
"""The body of an upload, which is read as a stream and not by FastAPI."""
