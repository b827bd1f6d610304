"""The gateway's routes: segmentations, and what operators ask."""

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
from metseg.serving.gateway.api_docs import page
from metseg.serving.gateway.jobs import Job, Jobs
from metseg.serving.gateway.middleware import Metrics, owner_of
from metseg.serving.gateway.problem_details import MEDIA_TYPE, RETRY_SECONDS, Problem, problem_of
from metseg.serving.gateway.schemas import (
    EXAMPLE_ID,
    UPLOAD,
    Health,
    ProblemDocument,
    Readiness,
    Result,
    Segmentation,
)
from metseg.serving.gateway.segmentation_service import Segmenter
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.gateway.upload_validation import take_in

MEDIA_TYPES = {
    ".gz": "application/gzip",
    ".nii": "application/octet-stream",
    ".dcm": "application/dicom",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
}
LONGEST_WAIT = 60.0
_LOOK_SECONDS = 0.1


@dataclass(frozen=True)
class Gateway:
    """What all routes share."""

    settings: GatewaySettings
    segmenter: Segmenter
    jobs: Jobs
    metrics: Metrics


def _gateway(request: Request) -> Gateway:
    gateway: Gateway = request.app.state.gateway
    return gateway


def _problems(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Refusals of a route, for the OpenAPI document."""
    schema = {"schema": {"$ref": f"#/components/schemas/{ProblemDocument.__name__}"}}
    return {code: {"description": _MEANING[code], "content": {MEDIA_TYPE: schema}} for code in codes}


_MEANING = {
    400: "The body is no multipart, or ends early.",
    401: "The API key is missing or wrong.",
    403: "This gateway has no keys and answers on its own machine alone.",
    404: "There is no such segmentation or file, or it has expired.",
    408: "The upload came too slowly.",
    409: "The segmentation is not done.",
    413: "The upload, or what it unpacks to, is too large.",
    415: "The body is no multipart/form-data, or a file of no kind that is read.",
    422: "The files cannot be read, or do not fit the model.",
    429: "The queue is full; Retry-After says when to try again.",
    502: "The model server refused the request.",
    503: "The model server does not answer.",
    504: "The model server did not answer in time.",
}

api_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="Where the gateway has keys.")


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
    response_model=Segmentation,
    openapi_extra=UPLOAD,
    responses={
        200: {"description": "It was over within the seconds to wait.", "model": Segmentation},
        202: {"description": "It is queued; Location says where to ask.", "model": Segmentation},
        **_problems(400, 401, 403, 408, 413, 415, 422, 429, 502, 503, 504),
    },
)
async def create(
    request: Request,
    owner: Owner,
    wait: Annotated[
        float, Query(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the end before answering.")
    ] = 0,
) -> Response:
    """Upload one case and have it segmented. It is read at once, so that what cannot be read is refused here."""
    gateway = _gateway(request)
    given = request.headers
    boundary = uploads.boundary_of(given.get("content-type", ""), given.get("content-length", ""), gateway.settings)
    if not gateway.jobs.reserve():
        raise Problem(429, "the queue is full", Retry_After=str(RETRY_SECONDS))
    try:
        job = await _submit(request, boundary, owner)
    except BaseException:
        gateway.jobs.release()
        raise
    ends = time.monotonic() + wait
    while not job.over and time.monotonic() < ends:
        await asyncio.sleep(_LOOK_SECONDS)
    content = _shown(gateway.jobs, job).model_dump(mode="json")
    return JSONResponse(content, 200 if job.over else 202, {"Location": f"/v1/segmentations/{job.id}"})


async def _submit(request: Request, boundary: bytes, owner: str) -> Job:
    """Receive, read and queue an upload; nothing of one that is refused stays."""
    gateway = _gateway(request)
    folder = gateway.jobs.new_folder()
    try:
        received = await uploads.receive(request.stream(), boundary, folder, gateway.settings)
        wanted = await asyncio.to_thread(gateway.segmenter.channels)
        intake = await asyncio.to_thread(take_in, received, folder, wanted, gateway.settings)
        await asyncio.to_thread(gateway.segmenter.check, intake, folder)
        return await asyncio.to_thread(gateway.jobs.submit, folder, owner, intake)
    except BaseException as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, MetsegError):
            raise problem_of(error, folder) from None
        if isinstance(error, ClientDisconnect):
            raise Problem(400, "the sender went away") from None
        raise


@segmentations.get(
    "/{identifier}", operation_id="show", response_model=Segmentation, responses=_problems(401, 403, 404, 422)
)
def show(request: Request, owner: Owner, identifier: Identifier) -> Segmentation:
    """How far a segmentation is, and what it found."""
    return _shown(_gateway(request).jobs, _found(request, identifier, owner))


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
    """A file that a segmentation left: mask (of DICOM a DICOM SEG), overlay, table of lesions."""
    job = _found(request, identifier, owner)
    if not job.over:
        raise Problem(409, f"the segmentation is {job.state}; ask again when it is done")
    path = _gateway(request).jobs.results(job).get(name)
    if path is None:
        raise Problem(404, "the segmentation has no file of that name")
    return FileResponse(path, media_type=MEDIA_TYPES[path.suffix], filename=path.name)


@segmentations.delete("/{identifier}", operation_id="delete", status_code=204, responses=_problems(401, 403, 404, 422))
def delete(request: Request, owner: Owner, identifier: Identifier) -> Response:
    """Delete a segmentation and all its files at once; one under way stops."""
    _gateway(request).jobs.delete(_found(request, identifier, owner).id)
    return Response(status_code=204)


@operations.get("/healthz", operation_id="healthz", response_model=Health, responses=_problems(403))
def healthz() -> Health:
    """Whether the gateway runs."""
    return Health()


@operations.get("/readyz", operation_id="readyz", response_model=Readiness, responses=_problems(403, 502, 503, 504))
def readyz(request: Request) -> Readiness:
    """Whether the model server answers."""
    gateway = _gateway(request)
    try:
        return Readiness(model=gateway.settings.model_name, version=gateway.segmenter.ready())
    except ServingError as error:
        raise problem_of(error, gateway.settings.folder) from None


@operations.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={200: {"description": "Text of Prometheus.", "content": {"text/plain": {}}}, **_problems(403)},
)
def metrics(request: Request) -> Response:
    """Requests, uploads and segmentations, for Prometheus."""
    gateway = _gateway(request)
    for state, count in gateway.jobs.counts().items():
        gateway.metrics.jobs.labels(state).set(count)
    return Response(generate_latest(gateway.metrics.registry), media_type=CONTENT_TYPE_LATEST)


@operations.get("/", include_in_schema=False)
@operations.get("/docs", include_in_schema=False)
def documentation(request: Request) -> HTMLResponse:
    """The API as a page."""
    return HTMLResponse(page(request.app.openapi()))


def _found(request: Request, identifier: str, owner: str) -> Job:
    job = _gateway(request).jobs.find(identifier)
    # Another key's is as absent as one that never was.
    if job is None or job.owner != owner:
        raise Problem(404, "there is no such segmentation, or it has expired")
    return job


def _shown(jobs: Jobs, job: Job) -> Segmentation:
    results = {
        name: Result(
            href=f"/v1/segmentations/{job.id}/results/{name}",
            media_type=MEDIA_TYPES[path.suffix],
            bytes=path.stat().st_size,
        )
        for name, path in jobs.results(job).items()
    }
    done = job.state == "done"
    return Segmentation(
        id=job.id,
        state=job.state,
        progress=job.progress,
        created=_moment(job.created),
        finished=_moment(job.finished) if job.over else None,
        expires=_moment(jobs.expires(job)) if job.over else None,
        version=job.found["version"] if done else None,
        units=job.found["units"] if done else None,
        lesions=job.found["lesions"] if done else None,
        results=results,
        problem=ProblemDocument(**job.problem) if job.problem else None,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(round(seconds, 3), UTC)
