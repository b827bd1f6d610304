"""ASGI application of the gateway: `metseg api`, or `uvicorn metseg.serving.gateway.app:app`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from metseg.serving.gateway.api_docs import SAMPLE_PATH, STATIC_PATH, static_files
from metseg.serving.gateway.jobs import Job, JobResult, Jobs
from metseg.serving.gateway.middleware import Guard, Metrics
from metseg.serving.gateway.problem_details import Problem, response_of
from metseg.serving.gateway.routes import Gateway, operations, segmentations
from metseg.serving.gateway.segmentation_service import SegmentationService
from metseg.serving.gateway.settings import GatewaySettings

SWEEP_SECONDS = 60.0
DESCRIPTION = f"""Segments brain metastases in MRI: upload a study, poll its state, download the mask and the table of
lesions. For research; its output must not guide diagnosis or treatment.

To try it: download [sample.png]({SAMPLE_PATH.removeprefix("/")}), a slice of a synthetic head, choose it under
**create** → *files*, and execute. If the gateway has API keys, enter yours under **Authorize** first. From a terminal:

    curl -F files=@head-t1n.nii.gz -F files=@head-t2f.nii.gz -F files=@head-t1c.nii.gz \\
         'http://127.0.0.1:8080/v1/segmentations?wait=30'
"""


def create_app(settings: GatewaySettings | None = None) -> FastAPI:
    """Create the application; it connects and writes nothing before its start.

    Args:
        settings: None for those of the environment.

    Raises:
        UsageError: an environment variable is invalid.
    """
    chosen = settings or GatewaySettings.from_environment()
    metrics = Metrics()
    gateway = _gateway(chosen, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A request's path may contain a patient's name; the middleware logs the route instead.
        logging.getLogger("uvicorn.access").disabled = True
        gateway.jobs.start()
        sweeper = asyncio.create_task(_sweep(gateway.jobs))
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.to_thread(gateway.jobs.stop, chosen.grace_seconds)
            gateway.service.close()

    app = FastAPI(
        title="metseg gateway",
        version=importlib.metadata.version("metseg"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # A redirect to the path with or without a slash would lead to whatever the header Host names.
        redirect_slashes=False,
    )
    app.state.gateway = gateway
    app.include_router(segmentations)
    app.include_router(operations)
    app.mount(STATIC_PATH, static_files())
    app.add_exception_handler(HTTPException, _respond)
    app.add_exception_handler(RequestValidationError, _respond)
    app.add_middleware(Guard, settings=chosen, metrics=metrics)
    return app


def _gateway(settings: GatewaySettings, metrics: Metrics) -> Gateway:
    service = SegmentationService(settings)

    def segment(job: Job, folder: Path, report: Callable[[float], None]) -> JobResult:
        began = time.monotonic()
        result = service.segment(job, folder, report)
        metrics.segmenting.observe(time.monotonic() - began)
        return result

    jobs = Jobs(
        settings.folder,
        segment,
        settings.workers,
        settings.queue,
        settings.keep_hours * 3600,
        len(settings.api_keys) or 1,
    )
    return Gateway(settings, service, jobs, metrics)


async def _sweep(jobs: Jobs) -> None:
    while True:
        with contextlib.suppress(OSError, shutil.Error):
            await asyncio.to_thread(jobs.expire)
        await asyncio.sleep(SWEEP_SECONDS)


async def _respond(_: Request, error: Exception) -> JSONResponse:
    """Return a problem document; it names an invalid parameter, without quoting the request."""
    if isinstance(error, RequestValidationError):
        error = Problem(422, "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
    assert isinstance(error, HTTPException)
    return response_of(error)


def __getattr__(name: str) -> FastAPI:
    """Create `app` on first access: importing this module for `create_app` reads no environment."""
    if name != "app":
        raise AttributeError(name)
    application = create_app()
    globals()[name] = application
    return application
