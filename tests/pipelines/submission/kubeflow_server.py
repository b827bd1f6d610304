"""A stand-in for Kubeflow Pipelines that takes only what the published schema of its API v2beta1 allows.

Kubeflow publishes its schema as a generated client, `kfp_server_api`: the routes, their query parameters and the type
of each body are read from that client's sources, the fields' types and the values of enumerations from its models. So
a request that the real server would refuse for its form is refused here, with the same envelope. Beyond the form it
does what a real server does with a pipeline: it parses it by Kubeflow's own messages, and a run's parameters must be
the pipeline's, of its types.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from graphlib import TopologicalSorter
from typing import Any

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

INVALID, UNAUTHENTICATED, DENIED, NOT_FOUND, EXISTS = 3, 16, 7, 5, 6
STATUS = {INVALID: 400, UNAUTHENTICATED: 401, DENIED: 403, NOT_FOUND: 404, EXISTS: 409}
PLAIN = {"str": str, "bool": bool, "int": int, "float": (int, float)}
APIS = (
    kfp_server_api.HealthzServiceApi,
    kfp_server_api.PipelineServiceApi,
    kfp_server_api.PipelineUploadServiceApi,
    kfp_server_api.ExperimentServiceApi,
    kfp_server_api.RunServiceApi,
    kfp_server_api.RecurringRunServiceApi,
)


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
        _expect(isinstance(value, list), place, "a list", value)
        for number, entry in enumerate(value):
            check(entry, inner[1], f"{place}[{number}]")
    elif inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        _expect(isinstance(value, dict), place, "an object", value)
        for name, entry in value.items():
            check(entry, inner[1], f"{place}.{name}")
    elif kind in PLAIN:
        _expect(isinstance(value, PLAIN[kind]), place, kind, value)
    elif kind == "datetime":
        _expect(isinstance(value, str) and bool(datetime.fromisoformat(value)), place, "a time", value)
    elif kind != "object":
        _check_model(value, getattr(kfp_server_api, kind), place)


def _check_model(value: Any, model: Any, place: str) -> None:
    if not model.openapi_types:
        allowed = [getattr(model, name) for name in vars(model) if name.isupper()]
        _expect(value in allowed, place, f"one of {allowed}", value)
        return
    _expect(isinstance(value, dict), place, "an object", value)
    fields = {json_name: model.openapi_types[name] for name, json_name in model.attribute_map.items()}
    for name, entry in value.items():
        _expect(name in fields, f"{place}.{name}", f"one of {sorted(fields)}", name)
        check(entry, fields[name], f"{place}.{name}")


def _expect(holds: bool, place: str, expected: str, found: Any) -> None:
    if not holds:
        raise Refused(INVALID, f"{place}: expected {expected}, found {found!r}")


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Kubeflow:
    """What it holds, and how it behaves.

    Attributes:
        tokens: those that are accepted; None accepts anybody.
        multi_user: whether everything belongs to a namespace.
        ends: state that runs come to.
        failing: task that fails, with its message, where runs fail.
        stuck: task that never gets its pod.
        away: how many requests from now are answered with 503.
        plugins: of a finished run.
        log: method and path of every request, with its query.
        started: told of every run that is started.
    """

    tokens: set[str] | None = None
    multi_user: bool = False
    ends: str = "SUCCEEDED"
    failing: tuple[str, str] = ("", "")
    stuck: str = ""
    away: int = 0
    plugins: dict[str, Any] = field(default_factory=dict)
    pipelines: dict[str, dict[str, Any]] = field(default_factory=dict)
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[tuple[str, str]] = field(default_factory=list)
    looks: dict[str, int] = field(default_factory=dict)
    started: Callable[[str], None] = lambda run: None

    def __post_init__(self) -> None:
        self._routes = routes()

    def __call__(self, environment: dict[str, Any], start: Any) -> Any:
        request = Request(environment)
        self.log.append((request.method, request.full_path.rstrip("?")))
        try:
            answer = self._answer(request)
            response = Response(json.dumps(answer), 200, mimetype="application/json")
        except Refused as refused:
            body = {"error": str(refused), "code": refused.code, "message": str(refused), "details": []}
            response = Response(json.dumps(body), STATUS.get(refused.code, 503), mimetype="application/json")
        return response(environment, start)

    def _answer(self, request: Request) -> dict[str, Any]:
        if self.away:
            self.away -= 1
            raise Refused(14, "upstream connect error")
        route, path = self._matching(request)
        if self.tokens is not None:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or token not in self.tokens:
                raise Refused(UNAUTHENTICATED, "Request header error: there is no user identity header.")
        for name in request.args:
            _expect(name in route.query, f"query {name}", f"one of {sorted(route.query)}", name)
        body: Any = None
        if route.body:
            _expect(request.mimetype == "application/json", "Content-Type", "application/json", request.mimetype)
            body = json.loads(request.get_data())
            check(body, route.body, route.body)
        _expect(route.files <= set(request.files), "files", str(sorted(route.files)), sorted(request.files))
        handler = getattr(self, f"_{route.operation}", None)
        if handler is None:
            raise Refused(12, f"{route.operation} is not offered here")
        answer: dict[str, Any] = handler(request, path, body)
        return answer

    def _matching(self, request: Request) -> tuple[Route, dict[str, str]]:
        for route in self._routes:
            found = route.path.match(request.path)
            if found and route.method == request.method:
                return route, found.groupdict()
        raise Refused(NOT_FOUND, "Not Found")

    def _healthz_service_get_healthz(self, *_: Any) -> dict[str, Any]:
        return {"commit_sha": "unknown", "tag_name": "2.17.0", "multi_user": self.multi_user}

    def _listed(self, request: Request, entries: Any, key: str, **only: str) -> dict[str, Any]:
        chosen = [entry for entry in entries if all(entry.get(name) == value for name, value in only.items() if value)]
        if text := request.args.get("filter"):
            wanted = json.loads(text)
            check(wanted, "V2beta1Filter", "filter")
            for predicate in wanted["predicates"]:
                _expect(predicate["operation"] == "EQUALS", "filter", "EQUALS", predicate["operation"])
                chosen = [entry for entry in chosen if entry.get(predicate["key"]) == predicate["string_value"]]
        return {key: chosen, "total_size": len(chosen)} if chosen else {}

    def _pipeline_service_list_pipelines(self, request: Request, *_: Any) -> dict[str, Any]:
        return self._listed(request, self.pipelines.values(), "pipelines")

    def _pipeline_service_create_pipeline(self, request: Request, path: Any, body: dict[str, Any]) -> dict[str, Any]:
        _expect(bool(body.get("display_name")), "display_name", "a name", body.get("display_name"))
        if any(known["display_name"] == body["display_name"] for known in self.pipelines.values()):
            raise Refused(EXISTS, f"pipeline {body['display_name']} exists")
        return self._kept(self.pipelines, "pipeline_id", body)

    def _kept(self, where: dict[str, dict[str, Any]], key: str, body: dict[str, Any]) -> dict[str, Any]:
        identity = str(uuid.uuid4())
        where[identity] = {**body, key: identity, "created_at": _now()}
        return where[identity]

    def _pipeline_service_list_pipeline_versions(
        self, request: Request, path: dict[str, str], _: Any
    ) -> dict[str, Any]:
        entries = [
            {name: value for name, value in version.items() if name != "documents"}
            for version in self.versions.values()
        ]
        return self._listed(request, entries, "pipeline_versions", pipeline_id=path["pipeline_id"])

    def _upload_pipeline_version(self, request: Request, *_: Any) -> dict[str, Any]:
        pipeline, name = request.args.get("pipelineid", ""), request.args.get("name", "")
        _expect(pipeline in self.pipelines, "pipelineid", "a pipeline that there is", pipeline)
        _expect(bool(name), "name", "a name", name)
        if any(known["display_name"] == name for known in self.versions.values()):
            raise Refused(EXISTS, f"version {name} exists")
        documents = list(yaml.load_all(request.files["uploadfile"].read(), Loader=yaml.CSafeLoader))
        parse_pipeline(documents)
        body = {"pipeline_id": pipeline, "display_name": name, "name": name, "documents": documents}
        kept = self._kept(self.versions, "pipeline_version_id", body)
        return {name: value for name, value in kept.items() if name != "documents"}

    def _experiment_service_list_experiments(self, request: Request, *_: Any) -> dict[str, Any]:
        self._owned(request.args.get("namespace", ""))
        return self._listed(
            request, self.experiments.values(), "experiments", namespace=request.args.get("namespace", "")
        )

    def _experiment_service_create_experiment(
        self, request: Request, path: Any, body: dict[str, Any]
    ) -> dict[str, Any]:
        self._owned(body.get("namespace", ""))
        return self._kept(self.experiments, "experiment_id", body)

    def _owned(self, namespace: str) -> None:
        if self.multi_user and not namespace:
            raise Refused(INVALID, "In multi-user mode, listing experiments requires a namespace.")

    def _checked_run(self, body: dict[str, Any]) -> list[Any]:
        _expect(body.get("experiment_id") in self.experiments, "experiment_id", "one that there is", body)
        reference = body.get("pipeline_version_reference") or {}
        version = self.versions.get(reference.get("pipeline_version_id", ""))
        _expect(version is not None, "pipeline_version_reference", "a version that there is", reference)
        assert version is not None
        _expect(version["pipeline_id"] == reference["pipeline_id"], "pipeline_id", version["pipeline_id"], reference)
        declared = version["documents"][0]["root"]["inputDefinitions"]["parameters"]
        for name, value in (body.get("runtime_config") or {}).get("parameters", {}).items():
            _expect(name in declared, f"runtime_config.parameters.{name}", f"one of {sorted(declared)}", name)
            kinds = {
                "NUMBER_INTEGER": int,
                "NUMBER_DOUBLE": (int, float),
                "BOOLEAN": bool,
                "STRING": str,
                "LIST": list,
                "STRUCT": dict,
            }
            _expect(
                isinstance(value, kinds[declared[name]["parameterType"]]), name, declared[name]["parameterType"], value
            )
        documents: list[Any] = version["documents"]
        return documents

    def _run_service_create_run(self, request: Request, path: Any, body: dict[str, Any]) -> dict[str, Any]:
        documents = self._checked_run(body)
        kept = self._kept(self.runs, "run_id", {**body, "state": "PENDING"})
        tasks = documents[0]["root"]["dag"]["tasks"]
        order = TopologicalSorter({name: task.get("dependentTasks", []) for name, task in tasks.items()}).static_order()
        kept["_tasks"] = [tasks[name]["taskInfo"]["name"] for name in order]
        self.started(kept["run_id"])
        return _public(kept)

    def _run_service_get_run(self, request: Request, path: dict[str, str], _: Any) -> dict[str, Any]:
        """One task further with every look; a task that is not due yet is not known yet."""
        if path["run_id"] not in self.runs:
            raise Refused(NOT_FOUND, f"Run {path['run_id']} not found")
        run = self.runs[path["run_id"]]
        look = self.looks[path["run_id"]] = self.looks.get(path["run_id"], 0) + 1
        names = ("root", "root-driver", *run["_tasks"])
        details = []
        for place, name in enumerate(names[:look]):
            state = "PENDING" if name == self.stuck else "SUCCEEDED" if place < look - 1 else "RUNNING"
            failed = name == self.failing[0] and state == "SUCCEEDED"
            details.append(_detail(name, "FAILED" if failed else state, self.failing[1] if failed else ""))
            if failed or state == "PENDING":
                break
        states = [detail["state"] for detail in details]
        over = "FAILED" in states or (len(states) == len(names) and set(states) == {"SUCCEEDED"})
        run["state"] = self.ends if over else "RUNNING"
        answer = {**_public(run), "run_details": {"task_details": details}}
        return {**answer, "plugins_output": self.plugins} if over and self.plugins else answer

    def _recurring_run_service_list_recurring_runs(self, request: Request, *_: Any) -> dict[str, Any]:
        return self._listed(
            request, self.schedules.values(), "recurringRuns", experiment_id=request.args.get("experiment_id", "")
        )

    def _recurring_run_service_create_recurring_run(
        self, request: Request, path: Any, body: dict[str, Any]
    ) -> dict[str, Any]:
        self._checked_run(body)
        cron = body["trigger"]["cron_schedule"]["cron"]
        _expect(len(cron.split()) == 6, "cron", "six fields", cron)
        return self._kept(self.schedules, "recurring_run_id", {**body, "status": "ENABLED"})

    def _recurring_run_service_delete_recurring_run(
        self, request: Request, path: dict[str, str], _: Any
    ) -> dict[str, Any]:
        self.schedules.pop(path["recurring_run_id"])
        return {}


def parse_pipeline(documents: list[Any]) -> None:
    """Read a pipeline and what it asks of Kubernetes by Kubeflow's own messages."""
    try:
        json_format.ParseDict(documents[0], pipeline_spec_pb2.PipelineSpec())
        executors = documents[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        for asked in executors.values():
            json_format.ParseDict(asked, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    except (json_format.ParseError, LookupError, TypeError) as error:
        raise Refused(INVALID, f"the file is no pipeline: {error}") from error


def _public(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if not name.startswith("_")}


def _detail(name: str, state: str, message: str) -> dict[str, Any]:
    ended = _now() if state in ("SUCCEEDED", "FAILED") else "1970-01-01T00:00:00Z"
    detail = {"task_id": name, "display_name": name, "state": state, "start_time": _now(), "end_time": ended}
    return {**detail, "pod_name": f"pod-of-{name.replace(' ', '-')}"} | (
        {"error": {"code": 2, "message": message}} if message else {}
    )


@contextmanager
def serving(kubeflow: Any) -> Iterator[str]:
    """Serve it on a free port of this machine; gives the address."""
    server = make_server("127.0.0.1", 0, kubeflow, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
