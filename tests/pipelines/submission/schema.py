"""The published schema of Kubeflow Pipelines' API v2beta1, read from the client that Kubeflow generates from it.

The routes, their query parameters and the type of each body are read from that client's sources, the fields' types and
the values of enumerations from its models.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import kfp_server_api
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

INVALID = 3
PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float)}
APIS = (
    kfp_server_api.HealthzServiceApi,
    kfp_server_api.PipelineServiceApi,
    kfp_server_api.PipelineUploadServiceApi,
    kfp_server_api.ExperimentServiceApi,
    kfp_server_api.RunServiceApi,
    kfp_server_api.RecurringRunServiceApi,
)
PARAMETERS = {
    "NUMBER_INTEGER": int,
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": bool,
    "STRING": str,
    "LIST": list,
    "STRUCT": dict,
}


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Route:
    """One operation of the API, as the generated client has it."""

    operation: str
    method: str
    path: re.Pattern[str]
    query: frozenset[str]
    body: str
    files: frozenset[str]


def routes() -> list[Route]:
    """Every operation, read from the sources of the generated client."""
    found = []
    for api in APIS:
        for definition in ast.walk(ast.parse(inspect.getsource(api))):
            if isinstance(definition, ast.FunctionDef) and definition.name.endswith("_with_http_info"):
                found.append(_route(definition))
    return found


def _route(definition: ast.FunctionDef) -> Route:
    source = ast.unparse(definition)
    call = re.search(r"call_api\('([^']+)', '(\w+)'", source)
    assert call is not None, definition.name
    path = re.sub(r"\\\{([\w.]+)\\\}", lambda found: f"(?P<{found[1].replace('.', '__')}>[^/:]+)", re.escape(call[1]))
    body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
    kind = re.search(rf":type {body[1]}: (\w+)", source) if body else None
    return Route(
        operation=definition.name.removesuffix("_with_http_info"),
        method=call[2],
        path=re.compile(path + "$"),
        query=frozenset(re.findall(r"query_params\.append\(\('([\w.]+)'", source)),
        body=kind[1] if kind else "",
        files=frozenset(re.findall(r"local_var_files\['(\w+)'\]", source)),
    )


def check(value: Any, kind: str, place: str) -> None:
    """Hold a value to a type of the schema.

    Raises:
        Refused: it is of another type, has a field that there is not, or a value outside its enumeration.
    """
    if value is None:
        return
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        expect(isinstance(value, list), place, "a list", value)
        for number, entry in enumerate(value):
            check(entry, inner[1], f"{place}[{number}]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        expect(isinstance(value, dict), place, "an object", value)
        for name, entry in value.items():
            check(entry, inner[1], f"{place}.{name}")
    elif kind in PLAIN:
        expect(isinstance(value, PLAIN[kind]), place, kind, value)
    elif kind == "datetime":
        expect(isinstance(value, str) and bool(datetime.fromisoformat(value)), place, "a time", value)
    elif kind != "object":
        _check_model(value, getattr(kfp_server_api, kind), place)


def _check_model(value: Any, model: Any, place: str) -> None:
    if not model.openapi_types:
        allowed = [getattr(model, name) for name in vars(model) if name.isupper()]
        expect(value in allowed, place, f"one of {allowed}", value)
        return
    expect(isinstance(value, dict), place, "an object", value)
    fields = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
    for name, entry in value.items():
        expect(name in fields, f"{place}.{name}", f"one of {sorted(fields)}", name)
        check(entry, fields[name], f"{place}.{name}")


def expect(holds: bool, place: str, expected: str, found: Any) -> None:
    if not holds:
        raise Refused(INVALID, f"{place}: expected {expected}, found {found!r}")


def check_parameters(declared: dict[str, Any], given: dict[str, Any]) -> None:
    """Hold the parameters of a run to what its pipeline declares."""
    for name, value in given.items():
        expect(name in declared, f"runtime_config.parameters.{name}", f"one of {sorted(declared)}", name)
        kind = declared[name]["parameterType"]
        expect(isinstance(value, PARAMETERS[kind]), name, kind, value)
    missing = [name for name, fields in declared.items() if "defaultValue" not in fields and name not in given]
    expect(not missing or all(declared[name].get("isOptional") for name in missing), "parameters", "all", missing)


def parse_pipeline(documents: list[Any]) -> None:
    """Read a pipeline and what it asks of Kubernetes by Kubeflow's own messages."""
    try:
        json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
        executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for asked in executors.values():
            json_format.ParseDict(asked, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    except (json_format.ParseError, LookupError, TypeError) as error:
        raise Refused(INVALID, f"the file is no pipeline: {error}") from error


def chosen(entries: list[dict[str, Any]], query: Any) -> list[dict[str, Any]]:
    """Entries that a filter leaves, in the order that is asked for."""
    if text := query.get("filter"):
        wanted = json.loads(text)
        check(wanted, "V2beta1Filter", "filter")
        for predicate in wanted["predicates"]:
            expect(predicate["operation"] == "EQUALS", "filter", "EQUALS", predicate["operation"])
            entries = [entry for entry in entries if entry.get(predicate["key"]) == predicate["string_value"]]
    if order := query.get("sort_by"):
        key, _, direction = order.partition(" ")
        expect(direction in ("", "asc", "desc"), "sort_by", "asc or desc", order)
        entries = sorted(entries, key=lambda entry: entry[key], reverse=direction == "desc")
    return entries
