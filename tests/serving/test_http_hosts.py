"""Which Host and Origin headers are refused: those of a page of another site in a user's browser."""

from __future__ import annotations

import pytest

from metseg.errors import UsageError
from metseg.serving.gateway.settings import GatewaySettings
from metseg.serving.http_hosts import is_loopback, refusal

NAMES = ("gateway.example.org",)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1:8080", "localhost", "localhost:8080", "LocalHost:1", "[::1]", "[::1]:8080",
        "10.1.2.3:80", "gateway.example.org", "Gateway.Example.org:443", "gateway.example.org.", "testserver",
    ],
)  # fmt: skip
def test_addresses_and_own_names_are_right(host: str) -> None:
    assert refusal(_scope("POST", host=host), NAMES, "V") is None


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
        "127.0.0.1@evil.example", "user@localhost", "evil.example/localhost", "localhost/", "localhost:port",
        "localhost:99999", "[::1", "127.1", "0x7f.0.0.1", "2130706433", "other.gateway.example.org", "example.org",
        "localhost,evil.example", "localhost evil.example", "localhost#", "localhost?", "*",
    ],
)  # fmt: skip
def test_other_names_are_misdirected(host: str | None) -> None:
    status, reason = refusal(_scope("GET", host=host), NAMES, "METSEG_X_HOSTS") or (0, "")
    assert status == 421 and "METSEG_X_HOSTS" in reason and "evil" not in reason


HOST = "127.0.0.1:8080"


@pytest.mark.parametrize(
    "headers, right",
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:8080"}, True),
        ({"origin": "https://127.0.0.1:8080"}, True),  # a proxy's TLS
        ({"origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://127.0.0.1:3000"}, False),
        ({"origin": "http://localhost:8080"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[::1"}, False),
        ({"origin": "http://127.0.0.1:8080/"}, False),
        ({"origin": ""}, False),
        ({"origin": "127.0.0.1:8080"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
    ],
)
def test_writes_and_web_sockets_come_from_the_own_origin(headers: dict[str, str], right: bool) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "WebSocket"):
        assert (refusal(_scope(method, host=HOST, **headers), NAMES, "V") is None) == right, method
    for method in ("GET", "HEAD", "OPTIONS"):
        assert refusal(_scope(method, host=HOST, **headers), NAMES, "V") is None, (
            "what it reads, no page of others gets"
        )


def _scope(method: str, **headers: str | None) -> dict[str, object]:
    """An ASGI scope; the method WebSocket makes that of one."""
    pairs = [(name.encode(), value.encode()) for name, value in headers.items() if value is not None]
    if method == "WebSocket":
        return {"type": "websocket", "headers": pairs}
    return {"type": "http", "method": method, "headers": pairs}


def test_names_are_given_without_scheme_and_port() -> None:
    assert GatewaySettings(hosts="A.example.org, b").hosts == ("a.example.org", "b")
    for wrong in ("http://a", "a:80", "*.a", "a/b"):
        with pytest.raises(UsageError, match=r"METSEG_GATEWAY_HOSTS=.*without scheme and port"):
            GatewaySettings(hosts=wrong)


def test_only_this_machine_reaches_loopback() -> None:
    hosts = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.1.2.3", "name")
    assert [is_loopback(host) for host in hosts] == [True, True, True, False, False, False]
