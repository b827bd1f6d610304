"""Swagger UI at `/docs`, served by the gateway itself, and a sample to upload."""

from __future__ import annotations

import base64
import hashlib
import io
from functools import lru_cache
from pathlib import Path

from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from metseg.serving.gateway.problem_details import Problem

SAMPLE_PATH = "/docs/sample.png"
STATIC_PATH = "/docs/static"
SAMPLE = Path(__file__).with_name("sample.png")
"""A slice of a phantom of another cohort than that of `metseg run`; tests/serving/callers/sample.py makes it again."""
SAMPLE_CHANNELS = ("t1n", "t2f", "t1c")
"""Its colours: an image of the gateway does not hold the template that phantoms are grown from."""

PARAMETERS = {
    "tryItOutEnabled": True,
    "displayRequestDuration": True,
    "defaultModelsExpandDepth": 0,
    # Swagger UI would send the document to a public validator.
    "validatorUrl": None,
    # API keys stay in the memory of the page.
    "persistAuthorization": False,
}


def static_files() -> StaticFiles:
    """Return the application that serves Swagger UI's script, styles and icon from the installed package."""
    return StaticFiles(packages=[("fastapi_swagger", "resources")])


def swagger_page(title: str) -> HTMLResponse:
    """Return the page of Swagger UI, with its Content-Security-Policy.

    The policy admits this gateway's files alone and one inline script by its hash. All addresses are relative, so that
    the page works under `/`, `/docs` and a proxy's prefix.
    """
    static = STATIC_PATH.removeprefix("/")
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title=title,
        swagger_js_url=f"{static}/swagger-ui-bundle.js",
        swagger_css_url=f"{static}/swagger-ui.css",
        swagger_favicon_url=f"{static}/favicon-32x32.png",
        swagger_ui_parameters=PARAMETERS,
    )
    script = bytes(page.body).rpartition(b"<script>")[2].partition(b"</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode("ascii")
    page.headers["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' 'sha256-{digest}'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page


@lru_cache(maxsize=1)
def sample_upload(channels: tuple[str, ...]) -> bytes:
    """Return the slice of `sample.png` as a PNG with these channels as colours.

    Args:
        channels: names in the model's order.

    Raises:
        Problem: a PNG cannot hold that many channels, or the sample lacks one of them.

    Example:
        >>> sample_upload(("t1c",)).startswith(b"\\x89PNG")
        True
    """
    from PIL import Image

    if len(channels) not in (1, 3) or not set(channels) <= set(SAMPLE_CHANNELS):
        raise Problem(404, f"there is no sample with the channels {', '.join(channels)}; upload a study of your own")
    with Image.open(SAMPLE) as image:
        planes = image.split()
    chosen = [planes[SAMPLE_CHANNELS.index(name)] for name in channels]
    content = io.BytesIO()
    (Image.merge("RGB", chosen) if len(chosen) == 3 else chosen[0]).save(content, "PNG")
    return content.getvalue()
