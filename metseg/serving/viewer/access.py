"""Middleware of the viewer: refuses pages of other sites, and loads nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from metseg.serving.http_hosts import refusal
from metseg.serving.viewer.options import HOSTS_VARIABLE


class Access:
    """ASGI middleware around Streamlit, whose own check of Host is for WebSockets alone.

    Args:
        app: Streamlit's application.
        hosts: names of the viewer, besides addresses and localhost.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request or WebSocket."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _policy()
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        refused = None if scope["type"] == "lifespan" else refusal(scope, self._hosts, HOSTS_VARIABLE)
        if refused is None:
            await self._app(scope, receive, send_guarded)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008, refused[1])(scope, receive, send)
        else:
            await PlainTextResponse(refused[1], refused[0])(scope, receive, send_guarded)


@cache
def _policy() -> str:
    """Return the Content-Security-Policy; it admits the inline scripts of Streamlit's page by their hashes."""
    import streamlit

    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    digests = [hashlib.sha256(script.encode()).digest() for script in re.findall(r"<script>(.*?)</script>", page, re.S)]
    inline = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    # Streamlit imports the scripts of our components from blobs, and puts styles into the page.
    return (
        f"default-src 'none'; script-src 'self' blob: {inline}; style-src 'self' 'unsafe-inline'; "
        "font-src 'self' data:; img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self'; "
        "worker-src 'self' blob:; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
