"""Seeded hostile requests to the gateway, each with the codes that answer it rightly."""

from __future__ import annotations

import gzip
import http.client
import io
import json
import random
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from tests.serving.hostile.volley import SECONDS, Code, Hostile, dribble, only_status, raw

BOUNDARY = "metseg-boundary"
MULTIPART = f"multipart/form-data; boundary={BOUNDARY}"
ROUTE = "/v1/segmentations"


@dataclass(frozen=True)
class Limits:
    """Of the gateway that is asked."""

    upload_bytes: int
    voxels: int
    patience_seconds: float


def multipart(files: list[tuple[str, bytes]], field: str = "files", **fields: str) -> bytes:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, content in files:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def request(
    base: str, method: str, path: str, body: bytes | None = None, kind: str = MULTIPART, **more: str
) -> tuple[int, bytes]:
    """Status and body of an answer; every problem must be a problem document without a trace."""
    place = urlsplit(base)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=SECONDS)
    try:
        headers = {"Content-Type": kind} if kind and body is not None else {}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (BrokenPipeError, ConnectionResetError, http.client.RemoteDisconnected):
        return 0, b""
    finally:
        connection.close()
    if answer.status >= 400 and answer.getheader("content-type") == "application/problem+json":
        document = json.loads(content)
        assert document["status"] == answer.status and document["title"] and document["detail"]
    assert "://" not in (answer.getheader("location") or "")
    assert b"Traceback" not in content and b'File "' not in content
    return answer.status, content


def post(*files: tuple[str, bytes], **fields: str) -> Callable[[str], int]:
    return lambda base: request(base, "POST", ROUTE, multipart(list(files), **fields))[0]


def _plain(
    method: str, path: str, body: bytes | None = None, kind: str = MULTIPART, **headers: str
) -> Callable[[str], int]:
    return lambda base: request(base, method, path, body, kind, **headers)[0]


def _raw(base: str, sent: bytes, then: Callable[[socket.socket], None] | None = None) -> int:
    place = urlsplit(base)
    return raw(place.hostname or "", place.port or 0, sent, then)


def _two_lengths(base: str) -> Code:
    """A body that is another request by the other one of its two lengths."""
    inside = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    lengths = f"Content-Length: {len(inside)}\r\nTransfer-Encoding: chunked"
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MULTIPART}\r\n{lengths}\r\n\r\n"
    place = urlsplit(base)
    return only_status(place.hostname or "", place.port or 0, head.encode() + inside)


def nifti(shape: tuple[int, ...], content: bytes = b"", kind: int = 4, bits: int = 16) -> bytes:
    """A NIfTI-1 file whose header claims `shape`, with whatever content."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into(f"<{1 + len(shape)}h", header, 40, len(shape), *shape)
    struct.pack_into("<hh", header, 70, kind, bits)
    struct.pack_into("<4f", header, 76, 1.0, 1.0, 1.0, 1.0)
    struct.pack_into("<f", header, 108, 352.0)
    struct.pack_into("<h", header, 254, 1)
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    return bytes(header) + content


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def archive(*members: tuple[str | zipfile.ZipInfo, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members:
            file.writestr(name, content)
    return packed.getvalue()


def _slow(body: bytes, pause: float) -> Callable[[str], int]:
    """Headers and a first piece of a body at once, then a byte now and then."""

    def send(base: str) -> int:
        lines = f"Host: localhost\r\nContent-Type: {MULTIPART}\r\nContent-Length: {len(body)}"
        head = f"POST {ROUTE} HTTP/1.1\r\n{lines}\r\n\r\n"
        return _raw(base, head.encode() + body[:20], lambda line: dribble(line, body[20:], pause))

    return send


def slow_sender(base: str, key: str = "") -> socket.socket:
    """A connection that has begun an upload."""
    place = urlsplit(base)
    line = socket.create_connection((place.hostname, place.port), timeout=30)
    head = f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MULTIPART}\r\nContent-Length: 1000000\r\n"
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    header = f"X-API-Key: {key}\r\n" if key else ""
    line.sendall(f"{head}{header}\r\n{part}".encode())
    return line


def _slow_headers(base: str) -> int:
    """A connection that begins a request and never ends it: closed without an answer."""
    return _raw(base, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")


def _endless(limits: Limits, chunked: bool) -> Callable[[str], int]:
    def send(base: str) -> int:
        size = limits.upload_bytes + (1 << 20)
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {MULTIPART}\r\n{length}\r\n\r\n"
        part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'.encode()

        def pour(line: socket.socket) -> None:
            block = b"\0" * 65536
            for piece in (part, *[block] * (size // len(block))):
                line.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)

        return _raw(base, head.encode(), pour)

    return send


OTHER_HOSTS = (
    "evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "127.0.0.1@evil.example",
    "localhost:x", "evil.example/localhost", "[::1", "0x7f.1", "",
)  # fmt: skip
OTHER_ORIGINS = (
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://localhost:1"},
    {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"},
)  # fmt: skip


def _texts(rng: random.Random, size: int) -> bytes:
    """A body of parts that are kept in memory: fields of many names, many short ones, or long headers."""
    names = b",".join(b"%03x" % number for number in range(1000))
    field = b'Content-Disposition: form-data; name="channels"\r\n'
    head, content = rng.choice([(field, names), (field, b""), (field + b"X-Long: " + b"a" * 4000 + b"\r\n", b"")])
    part = b"--%s\r\n%s\r\n%s\r\n" % (BOUNDARY.encode(), head, content)
    return part * (size // len(part)) + f"--{BOUNDARY}--\r\n".encode()


KINDS = (
    "zip bomb", "traversal", "link", "no dicom", "truncated zip", "truncated nifti", "truncated gzip", "huge header",
    "odd header", "gzip bomb", "wrong type", "oversize", "random bytes", "broken multipart", "no file", "path",
    "method", "huge headers", "query", "picture bomb", "broken picture", "channels", "parts", "broken dicom",
    "slow body", "slow headers", "texts", "other host", "other origin", "slash", "two lengths", "json",
)  # fmt: skip


def hostile_requests(count: int, limits: Limits, seed: int = 2023) -> list[Hostile[str]]:
    """`count` requests in which all kinds come up in turn; slow ones only now and then."""
    rng = random.Random(seed)
    found: list[Hostile[str]] = []
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        right, send = _one(kind, rng, limits)
        found.append(Hostile(f"{number:03d} {kind}", frozenset(right), send))
    return found


Made = tuple[set[int], Callable[[str], Code]]


def _one(kind: str, rng: random.Random, limits: Limits) -> Made:
    noise = rng.randbytes(rng.randint(1, 4000))
    name = rng.choice(["a-t1n.nii.gz", "x", "Zwingelstein.zip", "../../etc/passwd", "a\\b.png", "CON", "é" * 50])
    return (
        _archive(kind, rng, name, noise) or _image(kind, rng, name, noise, limits) or _request(kind, rng, noise, limits)
    )


def _archive(kind: str, rng: random.Random, name: str, noise: bytes) -> Made | None:
    match kind:
        case "zip bomb":
            size = rng.randint(70, 90) << 20
            return {413}, post((name, archive(("bomb.dcm", bytes(size)))))
        case "traversal":
            inside = rng.choice(["../x.dcm", "/etc/x.dcm", "a/../../x", "C:\\x", "a\\..\\..\\x", "x/\x01y"])
            return {422}, post((name, archive((inside, noise))))
        case "link":
            entry = zipfile.ZipInfo("link.dcm")
            entry.external_attr = rng.choice([0o120777, 0o020666, 0o060666, 0o010666]) << 16
            return {422}, post((name, archive((entry, b"/etc/passwd"))))
        case "no dicom":
            return {422}, post((name, archive((f"{rng.random()}.txt", noise))))
        case "truncated zip":
            whole = archive(("a.dcm", bytes(128) + b"DICM" + noise))
            return {422}, post((name, whole[: rng.randint(4, len(whole) - 1)]))
        case "broken dicom":
            files = [(f"{number}.dcm", bytes(128) + b"DICM" + noise) for number in range(3)]
            return {422}, post((name, archive(*files)))
    return None


def _image(kind: str, rng: random.Random, name: str, noise: bytes, limits: Limits) -> Made | None:
    match kind:
        case "truncated nifti":
            return {422}, post((name, nifti((20, 20, 20), rng.randbytes(rng.randint(0, 15_999)))))
        case "truncated gzip":
            packed = gzip.compress(nifti((20, 20, 20), rng.randbytes(16_000)))
            return {415, 422}, post((name, packed[: rng.randint(10, len(packed) - 9)]))
        case "huge header":
            side = rng.randint(1000, 32767)
            return {413}, post((name, nifti((side, side, side), noise)))
        case "odd header":
            shape = rng.choice([(-3, 4, 5), (0, 4, 4), (4, 4, 4, 9), (1,), (2, 2, 2, 1, 1, 1, 7)])
            return {422}, post((name, nifti(shape, noise, rng.choice([0, 1, 128, 2304, 77]))))
        case "gzip bomb":
            side = round((limits.voxels * 4) ** (1 / 3)) + rng.randint(1, 20)
            return {413}, post((name, gzip.compress(nifti((side, side, side), bytes(side**3 * 2)), 9)))
        case "random bytes":
            return {415}, post((name, b"\x00" + noise))
        case "picture bomb":
            return {413}, post((name, png(rng.randint(20_000, 60_000), rng.randint(20_000, 60_000), bytes(1 << 20))))
        case "broken picture":
            start = rng.choice([b"II*\0", b"MM\0*", b"\x89PNG\r\n\x1a\n"])
            return {422}, post((name, start + noise))
    return None


def _request(kind: str, rng: random.Random, noise: bytes, limits: Limits) -> Made:
    match kind:
        case "wrong type":
            kind = rng.choice(["application/json", "text/plain", "application/x-www-form-urlencoded", "", "x", "a/b;c"])
            return {415}, _plain("POST", ROUTE, noise, kind)
        case "oversize":
            return {413}, _endless(limits, rng.random() < 0.5)
        case "broken multipart":
            body = rng.choice([noise, b"", multipart([("a", noise)])[:-20], b"--wrong\r\n" + noise, b"--" + noise])
            return {400}, _plain("POST", ROUTE, body)
        case "no file":
            body = rng.choice([multipart([]), multipart([], channels="t1n"), multipart([("a", noise)], field="data")])
            return {400, 422}, _plain("POST", ROUTE, body)
        case "path":
            tail = rng.choice(["/1", "/" + "f" * 32, "/" + "f" * 32 + "/results/mask.nii.gz", "/..%2f..%2fetc%2fpasswd",
                               "/" + "0" * 31 + "%00", "/x/results/..%2f..%2fjob.json", "/" + "A" * 5000])  # fmt: skip
            method = rng.choice(["GET", "DELETE"])
            # Where `..` leads to a route that is only read, DELETE is no method of it.
            return {404, 405, 422} if "results" in tail and method == "DELETE" else {404, 422}, _plain(
                method, ROUTE + tail
            )
        case "method":
            method = rng.choice(["PUT", "PATCH", "TRACE", "BREW", "PROPFIND"])
            return {405}, _plain(method, rng.choice([ROUTE, "/healthz", "/metrics"]), noise)
        case "huge headers":
            head = (
                b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Big: "
                + b"a" * rng.randint(70_000, 200_000)
                + b"\r\n\r\n"
            )
            return {400, 431}, lambda base: _raw(base, head)
        case "query":
            value = rng.choice(["x", "-1", "1e99", "nan", "61", "inf", "%00"])
            return {422}, _plain("POST", f"{ROUTE}?wait={value}", multipart([("a", noise)]))
        case "channels":
            good = nifti((4, 4, 4), bytes(128))
            files = [("a.nii", good)] * rng.choice([1, 2, 4])
            return {422}, post(*files, channels=rng.choice(["", "t1n", "t1n,t1n", "x,y,z", "t1n,t2f,t1c,t2w", "=;"]))
        case "parts":
            body = rng.choice(
                [
                    multipart([("a.nii", b"x")] * 40),
                    multipart([("a.nii", b"x")], channels="t" * 100_000),
                    multipart([("a" * 9000 + ".nii", b"x")]),
                ]
            )
            return {400, 413}, _plain("POST", ROUTE, body)
        case "texts":
            return {413}, _plain("POST", ROUTE, _texts(rng, limits.upload_bytes * 3 // 4))
        case "other host":
            method, path = rng.choice(
                [("GET", "/"), ("GET", "/docs/"), ("POST", ROUTE), ("GET", f"{ROUTE}/{'f' * 32}")]
            )
            return {400, 421}, _plain(method, path, multipart([("a", noise)]), Host=rng.choice(OTHER_HOSTS))
        case "other origin":
            method, path = rng.choice([("POST", ROUTE), ("DELETE", f"{ROUTE}/{'f' * 32}")])
            return {403}, _plain(method, path, multipart([("a", noise)]), **rng.choice(OTHER_ORIGINS))
        case "slash":
            path = rng.choice(
                ["/docs/", "/docs/static", "/healthz/", "/metrics/", "//evil.example/docs", "//evil.example/"]
            )
            return {404}, _plain("GET", path)
        case "two lengths":
            return {400}, _two_lengths
        case "json":
            depth = rng.choice([10, 1000, 100_000, 1_000_000])
            body = rng.choice([b"[" * depth + b"]" * depth, b'{"a":' * depth, b"[" + b"1," * depth + b"1]"])
            return {415}, _plain("POST", ROUTE, body, "application/json")
        case "slow body":
            return {408}, _slow(multipart([("a.nii", noise)]), limits.patience_seconds / 3)
        case _:
            return {0}, _slow_headers
