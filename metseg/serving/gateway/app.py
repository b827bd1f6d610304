"""The gateway as an ASGI application: `metseg api`, or `uvicorn metseg.serving.gateway.app:app`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import logging
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from metseg.serving.gateway.jobs import Job, Jobs
from metseg.serving.gateway.middleware import Guard, Metrics
from metseg.serving.gateway.problem_details import Problem
from metseg.serving.gateway.routes import Gateway, operations, segmentations
from metseg.serving.gateway.segmentation_service import Segmenter
from metseg.serving.gateway.settings import GatewaySettings

SWEEP_SECONDS = 60.0
DESCRIPTION = (
    "Segments brain metastases in MRI: send a study, ask how far it is, fetch the mask and the table of lesions. "
    "For research; its output must not guide diagnosis or treatment."
)


def create_app(settings: GatewaySettings | None = None) -> FastAPI:
    """The application; nothing is connected or written before it starts.

    Args:
        settings: those of the environment where None.

    Raises:
        UsageError: the environment is wrong.
    """
    chosen = settings or GatewaySettings.from_environment()
    metrics = Metrics()
    gateway = _gateway(chosen, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A path as it came in may hold a name: what is logged is the route.
        logging.getLogger("uvicorn.access").disabled = True
        gateway.jobs.start()
        sweeper = asyncio.create_task(_sweep(gateway.jobs))
        try:
            yield
        finally:
            sweeper.cancel()
            await asyncio.to_thread(gateway.jobs.stop, chosen.grace_seconds)
            gateway.segmenter.close()

    app = FastAPI(
        title="metseg gateway",
        version=importlib.metadata.version("metseg"),
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.gateway = gateway
    app.include_router(segmentations)
    app.include_router(operations)
    app.add_exception_handler(Problem, _answer_problem)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_middleware(Guard, settings=chosen, metrics=metrics)
    return app


def _gateway(settings: GatewaySettings, metrics: Metrics) -> Gateway:
    segmenter = Segmenter(settings)

    def segment(job: Job, folder: Path, report: Any) -> dict[str, Any]:
        began = time.monotonic()
        found = segmenter.segment(job, folder, report)
        metrics.segmenting.observe(time.monotonic() - began)
        return found

    jobs = Jobs(settings.folder, segment, settings.workers, settings.queue, settings.keep_hours * 3600)
    return Gateway(settings, segmenter, jobs, metrics)


async def _sweep(jobs: Jobs) -> None:
    while True:
        with contextlib.suppress(OSError, shutil.Error):
            await asyncio.to_thread(jobs.expire)
        await asyncio.sleep(SWEEP_SECONDS)


async def _answer_problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return error.response()


async def _answer_http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, str(error.detail))
    problem.headers.update(error.headers or {})
    return problem.response()


async def _answer_validation(_: Request, error: Exception) -> JSONResponse:
    """Names the parameter and the rule, and quotes nothing of what was sent."""
    assert isinstance(error, RequestValidationError)
    wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
    return Problem(422, wrong).response()


def __getattr__(name: str) -> Any:
    """`app`, made when a server first asks for it: importing this module for `create_app` reads no environment."""
    if name != "app":
        raise AttributeError(name)
    made = create_app()
    globals()["app"] = made
    return made
