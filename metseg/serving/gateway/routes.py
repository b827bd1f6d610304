"""Routes of the gateway: segmentations, operations and documentation."""

from __future__ import annotations

import asyncio
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.security import APIKeyHeader
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from metseg.errors import MetsegError, ServingError
from metseg.serving.gateway import uploads
from metseg.serving.gateway.api_docs import SAMPLE_PATH, sample_upload, swagger_page
from metseg.serving.gateway.jobs import Job, Jobs
from metseg.serving.gateway.middleware import Metrics, owner_of
from metseg.serving.gateway.problem_details import MEDIA_TYPE, RETRY_SECONDS, Problem, problem_of
from metseg.serving.gateway.schemas import (
    EXAMPLE_ID,
    UPLOAD,
    Health,
    ProblemDocument,
    Readiness,
    ResultFile,
    SegmentationModel,
)
from metseg.serving.gateway.segmentation_service import SegmentationService
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.gateway.upload_validation import build_case

MEDIA_TYPES = {
    ".gz": "application/gzip",
    ".nii": "application/octet-stream",
    ".dcm": "application/dicom",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
}
MAX_WAIT = 60.0
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Gateway:
    """Objects shared by all routes."""

    settings: GatewaySettings
    service: SegmentationService
    jobs: Jobs
    metrics: Metrics


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route, and that of every route, for the OpenAPI document."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    return {code: {"description": _MEANING[code], "content": {MEDIA_TYPE: schema}} for code in (*codes, 421)}


_MEANING = {
    400: "The body is no multipart, or ends early.",
    401: "The API key is missing or wrong.",
    403: "This gateway has no API keys and serves its own machine only, or another site's page sent the request.",
    404: "There is no such segmentation or file, or it has expired.",
    408: "The upload was too slow.",
    409: "The segmentation is not done.",
    413: "The upload, or its unpacked content, is too large.",
    415: "The body is no multipart/form-data, or a file's kind is not accepted.",
    422: "The files cannot be read or do not fit the model.",
    421: "The header Host names another server.",
    429: "The queue, or the API key's share of it, is full; Retry-After gives the seconds to wait.",
    502: "The model server refused the request.",
    503: "The model server does not respond.",
    504: "The model server did not respond in time.",
}

api_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="Required if the gateway has API keys.")


def _owner(request: Request, key: Annotated[str | None, Depends(api_key)]) -> str:
    return owner_of(key, _gateway(request).settings)


Owner = Annotated[str, Depends(_owner)]
Identifier = Annotated[
    str, PathParameter(description="Id of a segmentation.", pattern="^[0-9a-f]{32}$", examples=[EXAMPLE_ID])
]
segmentations = APIRouter(prefix="/v1/segmentations", tags=["segmentations"])
operations = APIRouter(tags=["operations"])


@segmentations.post(
    "",
    operation_id="create",
    status_code=202,
    response_model=SegmentationModel,
    openapi_extra=UPLOAD,
    responses={
        200: {"description": "It ended within the seconds to wait.", "model": SegmentationModel},
        202: {"description": "It is queued; poll the address in Location.", "model": SegmentationModel},
        **_problems(400, 401, 403, 408, 413, 415, 422, 429, 502, 503, 504),
    },
)
async def create(
    request: Request,
    owner: Owner,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=MAX_WAIT,
            description="Seconds to wait for the end before the response.",
            openapi_examples={
                "wait": {"summary": "Wait for the result", "value": 30},
                "queue": {"summary": "Return at once, and poll", "value": 0},
            },
        ),
    ] = 0,
) -> Response:
    """Upload one case and segment it.

    The files are read at once, so that unreadable ones are refused here.
    """
    gateway = _gateway(request)
    headers = request.headers
    boundary = uploads.boundary_of(headers.get("content-type", ""), headers.get("content-length", ""), gateway.settings)
    if not gateway.jobs.reserve(owner):
        raise Problem(429, "the queue is full", Retry_After=str(RETRY_SECONDS))
    try:
        job = await _submit(request, boundary, owner)
    except BaseException:
        gateway.jobs.release(owner)
        raise
    ends = time.monotonic() + wait
    while not job.ended and time.monotonic() < ends:
        await asyncio.sleep(POLL_SECONDS)
        job = gateway.jobs.find(job.id) or job
    content = _segmentation(gateway.jobs, job).model_dump(mode="json")
    return JSONResponse(content, 200 if job.ended else 202, {"Location": f"/v1/segmentations/{job.id}"})


async def _submit(request: Request, boundary: bytes, owner: str) -> Job:
    """Receive, read and queue an upload; delete a refused one."""
    gateway = _gateway(request)
    folder = gateway.jobs.new_folder()
    try:
        upload = await uploads.receive(request.stream(), boundary, folder, gateway.settings)
        wanted = await asyncio.to_thread(gateway.service.channels)
        case = await asyncio.to_thread(build_case, upload, folder, wanted, gateway.settings)
        await asyncio.to_thread(gateway.service.check, case, folder)
        return await asyncio.to_thread(gateway.jobs.submit, folder, owner, case)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, MetsegError):
            raise problem_of(error, folder) from None
        if isinstance(error, ClientDisconnect):
            raise Problem(400, "the client closed the connection") from None
        raise


@segmentations.get(
    "/{identifier}", operation_id="show", response_model=SegmentationModel, responses=_problems(401, 403, 404, 422)
)
def show(request: Request, owner: Owner, identifier: Identifier) -> SegmentationModel:
    """Return the state of a segmentation and, when done, its lesions."""
    return _segmentation(_gateway(request).jobs, _job(request, identifier, owner))


@segmentations.get(
    "/{identifier}/results/{name}",
    operation_id="fetch",
    response_class=FileResponse,
    responses={
        200: {
            "description": "The file.",
            "content": {kind.partition(";")[0]: {} for kind in MEDIA_TYPES.values()},
        },
        **_problems(401, 403, 404, 409, 422),
    },
)
def fetch(
    request: Request,
    owner: Owner,
    identifier: Identifier,
    name: Annotated[str, PathParameter(description="Name of a file among the results.", examples=["mask.nii.gz"])],
) -> FileResponse:
    """Return a result file: mask (a DICOM SEG for DICOM), overlay or table of lesions."""
    job = _job(request, identifier, owner)
    if not job.ended:
        raise Problem(409, f"the segmentation is {job.state}; try again when it is done")
    path = _gateway(request).jobs.results(job).get(name)
    if path is None:
        raise Problem(404, "the segmentation has no file with that name")
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], filename=path.name)


@segmentations.delete("/{identifier}", operation_id="delete", status_code=204, responses=_problems(401, 403, 404, 422))
def delete(request: Request, owner: Owner, identifier: Identifier) -> Response:
    """Delete a segmentation and all its files; a running one stops."""
    _gateway(request).jobs.delete(_job(request, identifier, owner).id)
    return Response(status_code=204)


@operations.get("/healthz", operation_id="healthz", response_model=Health, responses=_problems(403))
def healthz() -> Health:
    """Check that the gateway runs."""
    return Health()


@operations.get("/readyz", operation_id="readyz", response_model=Readiness, responses=_problems(403, 502, 503, 504))
def readyz(request: Request) -> Readiness:
    """Check that the model server responds."""
    gateway = _gateway(request)
    try:
        return Readiness(model=gateway.settings.model_name, version=gateway.service.ready())
    except ServingError as error:
        raise problem_of(error, gateway.settings.folder) from None


@operations.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={
        200: {"description": "Metrics in Prometheus' text format.", "content": {"text/plain": {}}},
        **_problems(403),
    },
)
def metrics(request: Request) -> Response:
    """Return metrics of requests, uploads and segmentations, for Prometheus."""
    gateway = _gateway(request)
    for state, count in gateway.jobs.counts().items():
        gateway.metrics.jobs.labels(state).set(count)
    return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@operations.get("/", include_in_schema=False)
@operations.get("/docs", include_in_schema=False)
def documentation(request: Request) -> HTMLResponse:
    """Return the documentation as Swagger UI."""
    return swagger_page(request.app.title)


@operations.get(
    SAMPLE_PATH,
    operation_id="sample",
    response_class=Response,
    responses={
        200: {"description": "A PNG with the model's channels.", "content": {"image/png": {}}},
        **_problems(403, 404, 502, 503, 504),
    },
)
def sample(request: Request) -> Response:
    """Return a slice of a synthetic head that can be uploaded."""
    gateway = _gateway(request)
    try:
        content = sample_upload(tuple(gateway.service.channels()))
    except ServingError as error:
        raise problem_of(error, gateway.settings.folder) from None
    headers = {"Content-Disposition": 'attachment; filename="sample.png"'}
    return Response(content, media_type="image/png", headers=headers)


def _job(request: Request, identifier: str, owner: str) -> Job:
    job = _gateway(request).jobs.find(identifier)
    # The response for another key's job equals that for an unknown one.
    if job is None or job.owner != owner:
        raise Problem(404, "there is no such segmentation, or it has expired")
    return job


def _segmentation(jobs: Jobs, job: Job) -> SegmentationModel:
    results = {
        name: ResultFile(
            href=f"/v1/segmentations/{job.id}/results/{name}",
            media_type=MEDIA_TYPES[path.suffix],
            bytes=path.stat().st_size,
        )
        for name, path in jobs.results(job).items()
    }
    return SegmentationModel(
        id=job.id,
        state=job.state,
        progress=job.progress,
        created=_moment(job.created),
        finished=_moment(job.finished) if job.ended else None,
        expires=_moment(jobs.expires(job)) if job.ended else None,
        results=results,
        problem=job.problem,
        **(vars(job.result) if job.result else {}),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)
