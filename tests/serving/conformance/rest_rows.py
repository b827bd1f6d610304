"""Requests to TF Serving's REST API and its responses, as its C++ sources have them.

They are model_servers/http_rest_api_util.cc, http_rest_api_handler.cc, http_server.cc and util/json_tensor.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.serving.conformance.model import MODEL

PATH = f"/v1/models/{MODEL}"
PREDICT = f"{PATH}:predict"


@dataclass(frozen=True)
class Answered:
    """A request and the JSON of its response.

    Attributes:
        body: JSON text of the request, or None for a GET.
        response: the whole document.
    """

    name: str
    path: str
    body: str | None
    response: Any


@dataclass(frozen=True)
class Refused:
    """A request, the status of the response, and the words that its `error` contains, here and in TF Serving."""

    name: str
    path: str
    body: str | None
    status: int
    error: str


def _status(version: int) -> dict[str, Any]:
    return {"version": str(version), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


ANSWERED = [
    Answered("status of all versions", PATH, None, {"model_version_status": [_status(2), _status(1)]}),
    Answered("status of one version", f"{PATH}/versions/1", None, {"model_version_status": [_status(1)]}),
    Answered("status of a label", f"{PATH}/labels/stable", None, {"model_version_status": [_status(2), _status(1)]}),
    Answered("a path in capitals", f"/V1/MODELS/{MODEL}", None, {"model_version_status": [_status(2), _status(1)]}),
    Answered(
        "rows of the only input",
        PREDICT,
        '{"instances": [[[[[1, 0.5]]]], [[[[0, 0.5]]]]]}',
        {"predictions": [{"mask": [[[1]]], "probability": [[[0.75]]]}, {"mask": [[[0]]], "probability": [[[0.25]]]}]},
    ),
    Answered(
        "rows of a named input",
        PREDICT,
        '{"instances": [{"image": [[[[1]]]]}]}',
        {"predictions": [{"mask": [[[1]]], "probability": [[[1.0]]]}]},
    ),
    Answered(
        "columns of the only input",
        PREDICT,
        '{"inputs": [[[[[1e-1]]]]]}',
        {"outputs": {"mask": [[[[0]]]], "probability": [[[[0.1]]]]}},
    ),
    Answered("columns by name", PREDICT, '{"inputs": {"image": [[[[[1]]]]], "more": 5}}', None),
    Answered(
        "scalars, one output",
        PREDICT,
        '{"signature_name": "add", "inputs": {"a": 1.5, "b": 2}}',
        {"outputs": 3.5},
    ),
    Answered(
        "a version",
        f"{PATH}/versions/1:predict",
        '{"signature_name": "describe", "instances": [0]}',
        {"predictions": ['{"exported": 1, "channels": ["t1c", "t2f"]}']},
    ),
    Answered(
        "a label",
        f"{PATH}/labels/canary:predict",
        '{"signature_name": "describe", "inputs": [0]}',
        {"outputs": ['{"exported": 2, "channels": ["t1c", "t2f"]}']},
    ),
    Answered(
        "text and bytes",
        PREDICT,
        '{"signature_name": "echo", "instances": [{"text": "é", "number": 1}, {"text": {"b64": "YQA="}, "number": 2}]}',
        {
            "predictions": [
                {"number": 2, "text": "é", "text_bytes": {"b64": "w6k="}},
                {"number": 3, "text": "a\u0000", "text_bytes": {"b64": "YQA="}},
            ]
        },
    ),
    Answered(
        "no number and no end",
        PREDICT,
        '{"inputs": [[[[[NaN], [Infinity], [-Infinity]]]]]}',
        {"outputs": {"mask": [[[[0, 1, 0]]]], "probability": [[[["NaN", "Infinity", "-Infinity"]]]]}},
    ),
]
"""NaN and infinities are text in the responses here, because NaN does not equal itself."""
ANSWERED = [
    row
    if row.response is not None
    else Answered(row.name, row.path, row.body, {"outputs": {"mask": [[[[1]]]], "probability": [[[[1.0]]]]}})
    for row in ANSWERED
]

REFUSED = [
    Refused(
        "unknown model", "/v1/models/m:predict", '{"instances": [1]}', 404, "Servable not found for request: Latest(m)"
    ),
    Refused(
        "unknown version",
        f"{PATH}/versions/7:predict",
        '{"instances": [1]}',
        404,
        f"Servable not found for request: Specific({MODEL}, 7)",
    ),
    Refused(
        "unknown label", f"{PATH}/labels/X:predict", '{"instances": [1]}', 400, "Unrecognized servable version label: X"
    ),
    Refused("status of an unknown model", "/v1/models/m", None, 404, "Could not find any versions of model m"),
    Refused(
        "status of an unknown version",
        f"{PATH}/versions/9",
        None,
        404,
        f"Could not find version 9 of model {MODEL}",
    ),
    Refused(
        "metadata of an unknown model", "/v1/models/m/metadata", None, 404, "Servable not found for request: Latest(m)"
    ),
    Refused("status of no model", "/v1/models", None, 400, "Missing model name in request."),
    Refused("nothing to do", "/v1/x", None, 400, "Malformed request: GET /v1/x"),
    Refused("an unknown call", f"{PATH}:explain", "{}", 400, f"Malformed request: POST {PATH}:explain"),
    Refused("a query", f"{PREDICT}?a=b", "{}", 400, f"Malformed request: POST {PREDICT}?a=b"),
    Refused(
        "a version that is no number",
        f"{PATH}/versions/x:predict",
        "{}",
        400,
        f"Malformed request: POST {PATH}/versions/x:predict",
    ),
    Refused(
        "a version of thousands of digits",
        f"{PATH}/versions/{'1' * 5000}:predict",
        "{}",
        400,
        "Failed to convert version: 1111",
    ),
    Refused("nothing in the body", PREDICT, "", 400, "JSON Parse error: "),
    Refused("no JSON", PREDICT, "{", 400, "JSON Parse error: "),
    Refused("not UTF-8", PREDICT, '{"inputs": "\udcff"}', 400, ""),
    Refused("no object", PREDICT, "[1]", 400, "object"),
    Refused("no inputs", PREDICT, "{}", 400, "'inputs' or 'instances'"),
    Refused("both forms", PREDICT, '{"inputs": [1], "instances": [1]}', 400, "'inputs' or 'instances'"),
    Refused("instances that are no list", PREDICT, '{"instances": 5}', 400, "'instances'"),
    Refused("no instances", PREDICT, '{"instances": []}', 400, "'instances'"),
    Refused("a signature that is no text", PREDICT, '{"signature_name": 5, "instances": [1]}', 400, "signature_name"),
    Refused(
        "unknown signature",
        PREDICT,
        '{"signature_name": "X", "instances": [1]}',
        400,
        'Serving signature key "X" not found.',
    ),
    Refused(
        "an input without a name where there are two",
        PREDICT,
        '{"signature_name": "add", "inputs": 5}',
        400,
        "an object",
    ),
    Refused(
        "rows without names where there are two",
        PREDICT,
        '{"signature_name": "add", "instances": [5]}',
        400,
        "object",
    ),
    Refused(
        "a missing input",
        PREDICT,
        '{"signature_name": "add", "inputs": {"a": 5}}',
        400,
        "Missing named input: b",
    ),
    Refused(
        "an unknown input in a row",
        PREDICT,
        '{"instances": [{"picture": [[[[1]]]]}]}',
        400,
        "picture",
    ),
    Refused(
        "rows of two kinds",
        PREDICT,
        '{"instances": [{"image": [[[[1]]]]}, [1]]}',
        400,
        "object",
    ),
    Refused(
        "rows of two other kinds",
        PREDICT,
        '{"instances": [[[[[1]]]], {"image": 1}]}',
        400,
        "object",
    ),
    Refused(
        "rows of two sizes",
        PREDICT,
        '{"instances": [[[[[1]]]], [[[[1, 2]]]]]}',
        400,
        "size",
    ),
    Refused(
        "rows of two shapes",
        PREDICT,
        '{"instances": [[[[[1]]]], [[[1]]]]}',
        400,
        "shape",
    ),
    Refused(
        "lists of two lengths",
        PREDICT,
        '{"inputs": [[1, 2], [3]]}',
        400,
        "size",
    ),
    Refused(
        "a list beside numbers",
        PREDICT,
        '{"inputs": [1, [2]]}',
        400,
        "level",
    ),
    Refused(
        "a number beside lists",
        PREDICT,
        '{"inputs": [[1], 2]}',
        400,
        "level",
    ),
    Refused(
        "text for a number",
        PREDICT,
        '{"inputs": ["a"]}',
        400,
        "float",
    ),
    Refused(
        "true for a number",
        PREDICT,
        '{"inputs": [true]}',
        400,
        "float",
    ),
    Refused(
        "null for a number",
        PREDICT,
        '{"inputs": [null]}',
        400,
        "float",
    ),
    Refused(
        "a number that float32 cannot hold",
        PREDICT,
        '{"inputs": [16777217]}',
        400,
        "to float without loss",
    ),
    Refused("a number beyond float32", PREDICT, '{"inputs": [1.7976931348623157e308]}', 400, "to float without loss"),
    Refused(
        "a fraction for a whole number",
        PREDICT,
        '{"signature_name": "describe", "inputs": [1.5]}',
        400,
        "int32",
    ),
    Refused(
        "a number for text",
        PREDICT,
        '{"signature_name": "echo", "inputs": {"text": [5], "number": [5]}}',
        400,
        "string",
    ),
    Refused(
        "an object for text",
        PREDICT,
        '{"signature_name": "echo", "inputs": {"text": [{"b": "YQ=="}], "number": [5]}}',
        400,
        "base64 data",
    ),
    Refused(
        "broken base64",
        PREDICT,
        '{"signature_name": "echo", "inputs": {"text": [{"b64": "Y"}], "number": [5]}}',
        400,
        "Unable to base64 decode",
    ),
    Refused("a shape that an operation refuses", PREDICT, '{"inputs": 1}', 400, "Invalid reduction dimension"),
]
