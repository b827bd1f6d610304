"""What the gateway answers, as its OpenAPI document describes it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

EXAMPLE_ID = "0f3c9d2a5b6e47d8a1c4e8f7b2d3c4e5"


class Lesion(BaseModel):
    """One lesion; lengths are millimetres where `units` of the segmentation is mm, else voxels."""

    id: int = Field(description="From 1, largest first.")
    centroid_mm: tuple[float, float, float] = Field(description="LPS+ patient millimetres.")
    centroid_voxel: tuple[float, float, float] = Field(description="Slice, row, column, from 0, inferior to superior.")
    slices: tuple[int, int] = Field(description="First and last slice, from 0.")
    volume_mm3: float
    longest_axial_diameter_mm: float
    mean_probability: float


class Result(BaseModel):
    """A file to fetch."""

    href: str
    media_type: str
    bytes: int


class ProblemDocument(BaseModel):
    """Why a request was refused or a segmentation failed (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Segmentation(BaseModel):
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
    state: Literal["queued", "running", "done", "failed"]
    progress: float = Field(ge=0, le=1, description="Share of the slices that are done.")
    created: datetime
    finished: datetime | None = None
    expires: datetime | None = Field(None, description="When the results are deleted.")
    version: int | None = Field(None, description="Model version that answered.")
    units: Literal["mm", "voxels"] | None = None
    lesions: list[Lesion] | None = Field(None, description="When done; of at least the model's minimum volume.")
    results: dict[str, Result] = Field(default_factory=dict, description="When done: files to fetch, by name.")
    problem: ProblemDocument | None = Field(None, description="When failed.")


class Health(BaseModel):
    """The gateway runs."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """The model server answers."""

    status: Literal["ready"] = "ready"
    model: str
    version: int


UPLOAD: dict[str, Any] = {
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
                            "description": "NIfTI, PNG or TIFF, a file a channel or one file with all of them; "
                            "or one zip of a DICOM study.",
                        },
                        "channels": {
                            "type": "string",
                            "maxLength": 4096,
                            "description": "Channel of each file in order, separated by commas, where the files' names "
                            "do not end in them; of DICOM NAME=PATTERN of a series' description.",
                            "example": "t1n,t2f,t1c",
                        },
                    },
                },
                "encoding": {"files": {"contentType": "application/octet-stream"}},
            }
        },
    }
}
"""The body of an upload, which is read as a stream and not by FastAPI."""

EXAMPLES = {
    "create": "curl -F files=@head-t1n.nii.gz -F files=@head-t2f.nii.gz -F files=@head-t1c.nii.gz \\\n"
    "     'http://127.0.0.1:8080/v1/segmentations?wait=30'\n"
    "curl -F files=@study.zip http://127.0.0.1:8080/v1/segmentations",
    "show": f"curl http://127.0.0.1:8080/v1/segmentations/{EXAMPLE_ID}",
    "fetch": f"curl -OJ http://127.0.0.1:8080/v1/segmentations/{EXAMPLE_ID}/results/mask.nii.gz",
    "delete": f"curl -X DELETE http://127.0.0.1:8080/v1/segmentations/{EXAMPLE_ID}",
    "healthz": "curl http://127.0.0.1:8080/healthz",
    "readyz": "curl http://127.0.0.1:8080/readyz",
    "metrics": "curl http://127.0.0.1:8080/metrics",
}
"""How each operation is called, by its `operationId`."""
