"""Hostile requests to the REST API, each with its right statuses."""

from __future__ import annotations

import gzip
import http.client
import json
import random
from collections.abc import Callable

from metseg.serving.http_guard import BODY_SECONDS, LARGEST_BODY_BYTES
from metseg.serving.server.rest import HEADER_SECONDS
from tests.serving.hostile.messages import Shot
from tests.serving.hostile.target import EXPORTED, TINY, HostileTarget
from tests.serving.hostile.volley import Code, Hostile, dribble, only_status, raw

_MODELS = "/v1/models"
_PREDICT = f"{_MODELS}/{EXPORTED}:predict"
_BAD: set[Code] = {400}
_OK: set[Code] = {200}


def _asked(right: set[Code], body: bytes, path: str = _PREDICT, method: str = "POST", **headers: str) -> Shot:
    """A request as a library sends it."""

    def send(target: HostileTarget) -> Code:
        connection = http.client.HTTPConnection("127.0.0.1", target.rest_port, timeout=60)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            content = response.read()
        except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
            return 0
        finally:
            connection.close()
        # An error has its reason in JSON, without a trace.
        sound = response.status == 200 or (set(json.loads(content or b'{"error": 0}')) == {"error"})
        return response.status if sound and b"Traceback" not in content else f"{response.status} {content[:80]!r}"

    return right, send


def _bytes(right: set[Code], content: bytes) -> Shot:
    """Bytes on a bare connection."""
    return right, lambda target: raw("127.0.0.1", target.rest_port, content)


def _head(*lines: str, method: str = "POST", path: str = _PREDICT) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")


def _sound(rng: random.Random) -> bytes:
    return json.dumps({"inputs": [[[[[rng.random()] * 3] * 4] * 3] * 2]}).encode()


def broken(rng: random.Random) -> Shot:
    """JSON that ends early, or has a byte too many."""
    whole = _sound(rng)
    place = rng.randint(1, len(whole) - 2)
    return _asked(_BAD, rng.choice([whole[:place], whole + b"]", b"", b"\xef\xbb\xbf[", whole.replace(b":", b"=", 1)]))


def noise(rng: random.Random) -> Shot:
    return _asked(_BAD, b"\x00" + rng.randbytes(rng.choice([1, 100, 100_000])))


def deep(rng: random.Random) -> Shot:
    """Lists in lists, and objects in objects."""
    depth = rng.choice([7, 33, 65, 300, 900, 1023, 1024, 1025, 1100, 50_000, 5_000_000])
    before, after = rng.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")])
    nested = before * depth + b"1" + after * depth
    where = rng.choice(
        [b'{"inputs": %s}', b'{"instances": [%s]}', b"%s", b'{"instances": 1, "x": %s}', b'{"signature_name": %s}']
    )
    return _asked(_BAD, where % nested)


def ragged(rng: random.Random) -> Shot:
    value = rng.choice(
        ["[[1, 2], [3]]", "[[[1]], [1]]", "[1, [2]]", "[[], [1]]", "[[[[[1, 2, 3], [1, 2]]]]]", "[[1], {}]"]
    )
    return _asked(_BAD, f'{{"{rng.choice(["inputs", "instances"])}": {value}}}'.encode())


def wrong_types(rng: random.Random) -> Shot:
    value = rng.choice(
        ['"a"', "true", "null", "{}", '{"b64": "AAAA"}', '{"b64": 5}', "1e999999", "16777217", "1" * 5000]
    )
    right: set[Code] = {200, 400} if value.startswith("1e") else _BAD  # TF Serving reads it as infinity
    return _asked(right, f'{{"inputs": [[[[[{value}, 1, 1]]]]]}}'.encode())


def wrong_document(rng: random.Random) -> Shot:
    body = rng.choice(
        [
            "{}", "[]", "1", "null", '"inputs"', '{"inputs": null}', '{"instances": {}}', '{"instances": []}',
            '{"inputs": {}}', '{"inputs": []}', '{"inputs": {"Image": 1}}', '{"instances": [{"image": 1, "x": 2}]}',
            '{"inputs": 1, "instances": [1]}', '{"signature_name": [], "inputs": 1}',
            '{"signature_name": "\\ud800", "inputs": 1}', '{"signature_name": "windowed", "inputs": 1}',
            '{"signature_name": "describe", "inputs": [1.5]}', '{"signature_name": "describe", "inputs": [4294967296]}',
        ]
    )  # fmt: skip
    return _asked(_BAD, body.encode())


def no_voxels(rng: random.Random) -> Shot:
    value = rng.choice(["[[[[[]]]]]", "[[[[]]]]", "[[]]", "[[], []]", "[[[[[]], [[]]]]]"])
    return _asked(_BAD, f'{{"inputs": {value}}}'.encode())


def no_numbers(rng: random.Random) -> Shot:
    """Numbers of all kinds; TF Serving takes those that are no JSON, and the exported graph refuses them."""
    value = rng.choice(["NaN", "Infinity", "-Infinity", "-0.0", "1e-320", "3.4e38"])
    return _asked(
        _BAD if value[-1].isalpha() else _OK, f'{{"inputs": [[[[[{value}, 1, 2], [3, {value}, 4]]]]]}}'.encode()
    )


def huge(rng: random.Random) -> Shot:
    """Documents whose objects would fill the memory."""
    piece = rng.choice([b"[],", b'{"a":{}},', b'"",'])
    # As many as would take more than the limit, for lists; fewer of what else is refused by its type.
    right: set[Code] = {429} if piece == b"[]," else {400, 429}
    return _asked(right, b'{"inputs": [' + piece * rng.choice([8_000_000, 12_000_000]) + b"1]}")


def many(rng: random.Random) -> Shot:
    """A megabyte of rows of nothing much."""
    return _asked(_BAD, b'{"instances": [' + b"1," * 300_000 + b"[1]]}")


def target_of(rng: random.Random) -> Shot:
    """Models, versions and labels that are not there."""
    path, right = rng.choice(
        [
            ("m:predict", 404), (f"{EXPORTED}/versions/9:predict", 404),
            (f"{EXPORTED}/versions/{'9' * 18}:predict", 404),
            (f"{EXPORTED}/versions/{'9' * 30}:predict", 400), (f"{EXPORTED}/versions/{'9' * 6000}:predict", 400),
            (f"{EXPORTED}/versions/-1:predict", 400), (f"{EXPORTED}/versions/1e3:predict", 400),
            (f"{EXPORTED}/labels/x:predict", 400), (f"{EXPORTED}/labels/%00%ff:predict", 400), ("%2e%2e:predict", 404),
            (f"{TINY}:explain", 400), (f"{TINY}:classify", 501), (f"{TINY}:predict?x=1", 400), (":predict", 400),
        ]
    )  # fmt: skip
    return _asked({right}, _sound(rng), f"{_MODELS}/{path}")


def paths(rng: random.Random) -> Shot:
    """Ways out of the API, which only knows models."""
    path, right = rng.choice(
        [
            ("/", 404), ("/etc/passwd", 404), ("/v1", 404), ("/v2/models", 404),
            ("/monitoring/prometheus/metrics", 404),
            ("/v1/../../etc/passwd", 400), ("/v1/models/../../../etc/passwd", 400), ("/v1/models/%2e%2e%2f%2e%2e", 404),
            ("/v1/models//", 400), (f"/v1/models/{'a' * 30_000}", 404), ("/v1/models/%00", 404),
            ("/v1//etc/passwd", 400),
            (f"/v1/models/{TINY}/versions/{'1' * 5000}", 400), (f"/v1/models/{TINY}/metadata/x", 400),
            (f"/v1/models/{TINY}/versions/7/metadata", 404), ("/v1/models/%F0%9F/metadata", 404), ("*", 404),
        ]
    )  # fmt: skip
    return _asked({right}, b"", path, "GET")


def methods(rng: random.Random) -> Shot:
    method = rng.choice(["PUT", "PATCH", "DELETE", "TRACE", "BREW", "OPTIONS", "CONNECT", "GET"])
    return _asked(_BAD, b"" if method in ("GET", "OPTIONS") else _sound(rng), _PREDICT, method)


def lengths(rng: random.Random) -> Shot:
    """Lengths that lie."""
    body = _sound(rng)
    right, lines = rng.choice(
        [
            ({413}, [f"Content-Length: {rng.choice([LARGEST_BODY_BYTES + 1, 2**40, 2**63])}"]),
            ({400, 413}, [f"Content-Length: {'9' * rng.choice([30, 4000])}"]),
            (_BAD, [f"Content-Length: {rng.choice(['-1', 'x', '', '1,2', '0x10', '1 1', '+5', '²'])}"]),
            (_BAD, ["Content-Length: 5", "Content-Length: 6"]),
            (_BAD, [f"Content-Length: {len(body)}", "Transfer-Encoding: gzip, identity"]),
        ]
    )
    return _bytes(set(right), _head(*lines) + body)


def chunks(rng: random.Random) -> Shot:
    """Chunks that are none."""
    size = rng.choice([b"x", b"-1", b"g", b"0x5", b"F" * 30, b"5;" + b"a" * 70_000, b" "])
    return _bytes(_BAD, _head("Transfer-Encoding: chunked") + size + b"\r\n" + rng.randbytes(50) + b"\r\n0\r\n\r\n")


def endless(rng: random.Random) -> Shot:
    """A body in chunks that goes on beyond the limit."""
    block = b"100000\r\n" + b" " * 2**20 + b"\r\n"

    def send(target: HostileTarget) -> Code:
        def pour(line) -> None:  # type: ignore[no-untyped-def]
            for _ in range(LARGEST_BODY_BYTES // 2**20 + 2):
                line.sendall(block)

        return raw("127.0.0.1", target.rest_port, _head("Transfer-Encoding: chunked"), pour)

    return {413, 429}, send  # 429, where all requests together are beyond a limit of their own


def gzips(rng: random.Random) -> Shot:
    """Bodies that are no gzip, are cut off, or unpack to too much."""
    whole = gzip.compress(_sound(rng))
    right, body = rng.choice(
        [
            (_BAD, whole[: rng.randint(1, len(whole) - 1)]),
            (_BAD, rng.randbytes(500)),
            (_BAD, gzip.compress(b" " * 2**24)),
            (_BAD, gzip.compress(whole)),
            ({413, 429}, _BOMB),
        ]
    )
    return _asked(set(right), body, Content_Encoding="gzip")


_BOMB = gzip.compress(bytes(LARGEST_BODY_BYTES + 1), 6)


def heads(rng: random.Random) -> Shot:
    """Heads that are none."""
    content = rng.choice(
        [
            rng.randbytes(300) + b"\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
            b"GET\r\n\r\n",
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX-Big: " + b"a" * 100_000 + b"\r\n\r\n",
            b"GET /v1/models HTTP/1.1\r\n\r\n",
            b"GET /v1/models HTTP/1.1\r\nHost: x\r\nBad Name: 1\r\n\r\n",
            b"GET /v1/mod\x00els HTTP/1.1\r\nHost: x\r\n\r\n",
        ]
    )
    return _bytes(_BAD, content)


def hang_up(rng: random.Random) -> Shot:
    """A caller that disconnects in the middle of a body."""
    body = _sound(rng)
    return {0}, lambda target: raw(
        "127.0.0.1", target.rest_port, _head(f"Content-Length: {len(body)}") + body[:9], patience=0.2
    )


def smuggled(rng: random.Random) -> Shot:
    """Two lengths, one of which hides a second request: only the first one gets a response."""
    inside = b"0\r\n\r\nGET /v1/models/x HTTP/1.1\r\nHost: x\r\n\r\n"
    sent = _head(f"Content-Length: {len(inside)}", "Transfer-Encoding: chunked") + inside
    return _BAD, lambda target: only_status("127.0.0.1", target.rest_port, sent)


KINDS: tuple[Callable[[random.Random], Shot], ...] = (
    broken, noise, deep, ragged, wrong_types, wrong_document, no_voxels, no_numbers, huge, many, target_of, paths,
    methods, lengths, chunks, endless, gzips, heads, hang_up, smuggled,
)  # fmt: skip


def slow_requests() -> list[Hostile[HostileTarget]]:
    """Slow callers: headers or a body byte by byte, or not at all."""
    head = _head("X-Slow: yes", "Content-Length: 5000")
    long_head = b"GET /v1/models/x HTTP/1.1\r\nX-Slow: " + b"a" * 10_000

    def slowly(name: str, right: set[Code], begin: bytes, rest: bytes, seconds: float) -> Hostile[HostileTarget]:
        def send(target: HostileTarget) -> Code:
            return raw(
                "127.0.0.1", target.rest_port, begin, lambda line: dribble(line, rest, 0.5), patience=2 * seconds
            )

        return Hostile(f"slow {name}", frozenset(right), send, slow=True)

    return [
        slowly("silence", {0}, b"", b"", HEADER_SECONDS),
        slowly("half a line", {0}, b"POST /v1/mod", b"", HEADER_SECONDS),
        slowly("dribbled head", {0}, long_head[:10], long_head[10:], HEADER_SECONDS),
        slowly("body that does not come", {408}, head + b"{", b"", BODY_SECONDS),
        slowly("dribbled body", {408}, head, b'{"inputs": [' + b"1," * 2000, BODY_SECONDS),
    ]
