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

    id: int = Field(description="From 1, largest first.")
    centroid_mm: tuple[float, float, float] = Field(description="LPS+ patient millimetres.")
    centroid_voxel: tuple[float, float, float] = Field(description="Slice, row, column, from 0, inferior to superior.")
    slices: tuple[int, int] = Field(description="First and last slice, from 0.")
    volume_mm3: float
    longest_axial_diameter_mm: float
    mean_probability: float


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


class SegmentationModel(BaseModel):
    """A segmentation, from upload to expiry."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": EXAMPLE_ID,
                "state": "done",
                "progress": 1.0,
                "created": "2026-01-05T10:11:12Z",
                "finished": "2026-01-05T10:11:40Z",
                "expires": "2026-01-06T10:11:40Z",
                "version": 3,
                "units": "mm",
                "lesions": [
                    {
                        "id": 1,
                        "centroid_mm": [12.5, -30.1, 44.0],
                        "centroid_voxel": [61.0, 80.2, 95.4],
                        "slices": [59, 63],
                        "volume_mm3": 412.0,
                        "longest_axial_diameter_mm": 9.8,
                        "mean_probability": 0.93,
                    }
                ],
                "results": {
                    "mask.nii.gz": {
                        "href": f"/v1/segmentations/{EXAMPLE_ID}/results/mask.nii.gz",
                        "media_type": "application/gzip",
                        "bytes": 5120,
                    }
                },
                "problem": None,
            }
        }
    )

    id: str
    state: State
    progress: float = Field(ge=0, le=1, description="Share of the segmented slices.")
    created: datetime
    finished: datetime | None = None
    expires: datetime | None = Field(None, description="Time at which the results are deleted.")
    version: int | None = Field(None, description="Version of the model.")
    units: Units | None = None
    lesions: list[LesionModel] | None = Field(None, description="When done; of at least the model's minimum volume.")
    results: dict[str, ResultFile] = Field(default_factory=dict, description="When done: the result files, by name.")
    problem: ProblemDocument | None = Field(None, description="When failed.")


class Health(BaseModel):
    """The gateway runs."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The model server responds."""

    status: Literal["ready"] = "ready"
    model: str
    version: int


UPLOAD: dict[str, JsonValue] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "additionalProperties": False,
                    "properties": {
                        "files": {
                            "type": "array",
                            "minItems": 1,
                            "maxItems": 16,
                            "items": {"type": "string", "format": "binary"},
                            "description": "NIfTI, PNG or TIFF: one file per channel, or one picture with all "
                            "channels; or one zip of a DICOM study. To try it: [sample.png](docs/sample.png).",
                        },
                        "channels": {
                            "type": "string",
                            "maxLength": 4096,
                            "default": "",
                            "description": "Channel of each file, in order, such as `t1n,t2f,t1c`; "
                            "not needed if the file names end in them. For DICOM: `NAME=PATTERN` of a series' "
                            "description, such as `t1c=*ax*post*`.",
                        },
                    },
                },
                "encoding": {"files": {"contentType": "application/octet-stream"}},
            }
        },
    }
}
"""The body of an upload, which is read as a stream and not by FastAPI."""
