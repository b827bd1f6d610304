"""A stand-in for Kubeflow Pipelines that takes only what the published schema of its API v2beta1 allows.

A request that the real server would refuse for its form is refused here, with the same envelope. Beyond the form it
does what a real server does with a pipeline: it parses it by Kubeflow's own messages, and a run's parameters must be
the pipeline's, of its types. A run's tasks are told as the real one tells them: one entry for each of Argo's nodes,
made by Argo's rules (`argo.py`), or an answer that a real Kubeflow gave.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import yaml
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from pipelines.submission.pipeline_package import Specification
from tests.pipelines.submission.argo import CACHED, Tree, identity
from tests.pipelines.submission.schema import (
    INVALID,
    Refused,
    Route,
    check,
    check_parameters,
    chosen,
    expect,
    parse_pipeline,
    routes,
)

UNAUTHENTICATED, DENIED, NOT_FOUND, EXISTS, UNAVAILABLE = 16, 7, 5, 6, 14
STATUS = {INVALID: 400, UNAUTHENTICATED: 401, DENIED: 403, NOT_FOUND: 404, EXISTS: 409}
LOG = re.compile(r"/apis/v1alpha1/runs/(?P<run>[^/]+)/nodes/(?P<pod>[^/]+)/log")
SUCCEEDING = ["RUNNING", "SUCCEEDED"]


def _time(earlier: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=earlier)).isoformat().replace("+00:00", "Z")


@dataclass
class Kubeflow:
    """What it holds, and how it behaves.

    Attributes:
        tokens: those that are accepted; None accepts anybody.
        multi_user: whether everything belongs to a namespace.
        health: further fields of what it says of itself.
        wrappers: whether Argo puts default retries around every template.
        ends: state that runs come to; one of `failing` fails.
        goes: states through which a step goes, by its title; the last one for good. Others run and succeed.
        started_before: seconds since the steps that are under way began.
        frozen: how many looks the tasks are told anew; None for always.
        recorded: an answer of a real Kubeflow that every look at a run gives.
        logs: of pods, by title of the step.
        behind_ui: whether the UI stands between, which gives logs at an address of its own.
        away: how many requests from now are answered with 503.
        lose: how many runs or schedules are made without an answer.
        plugins: of a finished run.
        extra: further fields of a finished run.
        together: whether steps begin without waiting for the one before.
        log: method and path of every request, with its query.
        started: told of every run that is started.
    """

    tokens: set[str] | None = None
    multi_user: bool = False
    health: dict[str, Any] = field(default_factory=lambda: {"tag_name": "2.17.0"})
    wrappers: bool = True
    ends: str = "SUCCEEDED"
    goes: dict[str, list[Any]] = field(default_factory=dict)
    started_before: float = 0.0
    frozen: int | None = None
    recorded: dict[str, Any] | None = None
    logs: dict[str, str] = field(default_factory=dict)
    behind_ui: bool = True
    away: int = 0
    lose: int = 0
    plugins: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    together: bool = False
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
        self._progress: dict[str, dict[str, int]] = {}

    def __call__(self, environment: dict[str, Any], start: Any) -> Any:
        request = Request(environment)
        self.log.append((request.method, request.full_path.rstrip("?")))
        try:
            if (pod := self._pod_of(request)) is not None:
                self._authenticated(request)
                return self._log_of(pod)(environment, start)
            answer = self._answer(request)
            response = Response(json.dumps(answer), 200, mimetype="application/json")
        except Refused as refused:
            body = {"error": str(refused), "code": refused.code, "message": str(refused), "details": []}
            response = Response(json.dumps(body), STATUS.get(refused.code, 503), mimetype="application/json")
        return response(environment, start)

    def _pod_of(self, request: Request) -> str | None:
        """The pod whose log is asked for; None where no log is."""
        if self.behind_ui:
            # Stock 2.17's UI hands on v1beta1 and v2beta1 alone, and reads logs by itself.
            return request.args["podname"] if request.path == "/k8s/pod/logs" else None
        found = LOG.fullmatch(request.path)
        return found["pod"] if found else None

    def _log_of(self, pod: str) -> Response:
        """A pod's log, or what the real server gives in its place: the API server after it said 200."""
        titles = [title for run in self.runs.values() for title, name in run["_pods"].items() if name == pod]
        for name in (pod, *titles):
            if name in self.logs:
                return Response(self.logs[name], 200, mimetype="text/plain")
        if self.behind_ui:
            return Response("Could not get main container logs: pod not found", 500, mimetype="text/html")
        missing = {"error_message": f"Failed to read logs from pod {pod}", "error_details": "…"}
        return Response(json.dumps(missing), 200, mimetype="text/plain")

    def _answer(self, request: Request) -> dict[str, Any]:
        if self.away:
            self.away -= 1
            raise Refused(UNAVAILABLE, "upstream connect error")
        route, path = self._matching(request)
        self._authenticated(request)
        for name in request.args:
            expect(name in route.query, f"query {name}", f"one of {sorted(route.query)}", name)
        body: Any = None
        if route.body:
            expect(request.mimetype == "application/json", "Content-Type", "application/json", request.mimetype)
            body = json.loads(request.get_data())
            check(body, route.body, route.body)
        expect(route.files <= set(request.files), "files", str(sorted(route.files)), sorted(request.files))
        handler = getattr(self, f"_{route.operation}", None)
        if handler is None:
            raise Refused(12, f"{route.operation} is not offered here")
        answer: dict[str, Any] = handler(request, path, body)
        return answer

    def _authenticated(self, request: Request) -> None:
        if self.tokens is not None:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            if scheme != "Bearer" or token not in self.tokens:
                raise Refused(UNAUTHENTICATED, "Request header error: there is no user identity header.")

    def _matching(self, request: Request) -> tuple[Route, dict[str, str]]:
        for route in self._routes:
            found = route.path.match(request.path)
            if found and route.method == request.method:
                return route, found.groupdict()
        raise Refused(NOT_FOUND, "Not Found")

    def _healthz_service_get_healthz(self, *_: Any) -> dict[str, Any]:
        return {"commit_sha": "unknown", "multi_user": self.multi_user, **self.health}

    def _listed(self, request: Request, entries: Any, key: str, **only: str) -> dict[str, Any]:
        """A page of what is chosen; a token is the number of the page's first entry."""
        fitting = [entry for entry in entries if all(entry.get(name) == value for name, value in only.items() if value)]
        all_of_them = chosen(fitting, request.args)
        first, size = int(request.args.get("page_token") or 0), int(request.args.get("page_size") or 20)
        page = all_of_them[first : first + size]
        more = {"next_page_token": str(first + size)} if first + size < len(all_of_them) else {}
        return {key: [_public(entry) for entry in page], "total_size": len(all_of_them), **more} if page else {}

    def _pipeline_service_list_pipelines(self, request: Request, *_: Any) -> dict[str, Any]:
        return self._listed(request, self.pipelines.values(), "pipelines")

    def _pipeline_service_create_pipeline(self, request: Request, path: Any, body: dict[str, Any]) -> dict[str, Any]:
        expect(bool(body.get("display_name")), "display_name", "a name", body.get("display_name"))
        if any(known["display_name"] == body["display_name"] for known in self.pipelines.values()):
            raise Refused(EXISTS, f"pipeline {body['display_name']} exists")
        return self._kept(self.pipelines, "pipeline_id", body)

    def _kept(self, where: dict[str, dict[str, Any]], key: str, body: dict[str, Any]) -> dict[str, Any]:
        identity = str(uuid.uuid4())
        where[identity] = {**body, key: identity, "created_at": _time()}
        return where[identity]

    def _pipeline_service_list_pipeline_versions(
        self, request: Request, path: dict[str, str], _: Any
    ) -> dict[str, Any]:
        return self._listed(request, self.versions.values(), "pipeline_versions", pipeline_id=path["pipeline_id"])

    def _pipeline_service_get_pipeline_version(self, request: Request, path: dict[str, str], _: Any) -> dict[str, Any]:
        version = self.versions.get(path["pipeline_version_id"])
        if version is None:
            raise Refused(NOT_FOUND, f"PipelineVersion {path['pipeline_version_id']} not found.")
        pipeline, platform = version["_documents"]
        return {**_public(version), "pipeline_spec": {"pipeline_spec": pipeline, "platform_spec": platform}}

    def _upload_pipeline_version(self, request: Request, *_: Any) -> dict[str, Any]:
        pipeline, name = request.args.get("pipelineid", ""), request.args.get("name", "")
        expect(pipeline in self.pipelines, "pipelineid", "a pipeline that there is", pipeline)
        expect(bool(name), "name", "a name", name)
        if any(known["display_name"] == name for known in self.versions.values()):
            raise Refused(EXISTS, f"version {name} exists")
        documents = list(yaml.load_all(request.files["uploadfile"].read(), Loader=yaml.CSafeLoader))
        parse_pipeline(documents)
        body = {"pipeline_id": pipeline, "display_name": name, "name": name, "_documents": documents}
        return _public(self._kept(self.versions, "pipeline_version_id", body))

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
        expect(body.get("experiment_id") in self.experiments, "experiment_id", "one that there is", body)
        reference = body.get("pipeline_version_reference") or {}
        version = self.versions.get(reference.get("pipeline_version_id", ""))
        expect(version is not None, "pipeline_version_reference", "a version that there is", reference)
        assert version is not None
        expect(version["pipeline_id"] == reference["pipeline_id"], "pipeline_id", version["pipeline_id"], reference)
        documents: list[Any] = version["_documents"]
        declared = documents[0]["root"]["inputDefinitions"]["parameters"]
        check_parameters(declared, (body.get("runtime_config") or {}).get("parameters", {}))
        return documents

    def _run_service_create_run(self, request: Request, path: Any, body: dict[str, Any]) -> dict[str, Any]:
        documents = self._checked_run(body)
        kept = self._kept(self.runs, "run_id", {**body, "state": "PENDING"})
        kept["_documents"], kept["_pods"] = documents, {}
        self.started(kept["run_id"])
        self._lose_answer()
        return _public(kept)

    def _lose_answer(self) -> None:
        if self.lose:
            self.lose -= 1
            raise Refused(UNAVAILABLE, "upstream request timeout")

    def _run_service_list_runs(self, request: Request, *_: Any) -> dict[str, Any]:
        return self._listed(request, self.runs.values(), "runs", experiment_id=request.args.get("experiment_id", ""))

    def _run_service_get_run(self, request: Request, path: dict[str, str], _: Any) -> dict[str, Any]:
        """The run one look further: each step that is under way has gone on by a state, and the next ones begin."""
        if self.recorded is not None:
            return self.recorded
        if path["run_id"] not in self.runs:
            raise Refused(NOT_FOUND, f"Run {path['run_id']} not found")
        run = self.runs[path["run_id"]]
        look = self.looks[path["run_id"]] = self.looks.get(path["run_id"], 0) + 1
        states = self._states(run)
        tree = Tree(
            run["_documents"][0],
            f"{run['_documents'][0]['pipelineInfo']['name']}-{run['run_id'][:5]}",
            states,
            self.wrappers,
            _time(self.started_before),
        )
        if self.frozen is None or look <= self.frozen:
            run["_details"] = tree.entries()
        steps = Specification.from_documents(run["_documents"]).steps()
        finished = [_end(states.get(".".join(step.path))) for step in steps]
        over = "FAILED" in finished or all(state == "SUCCEEDED" for state in finished)
        run["state"] = "FAILED" if "FAILED" in finished else self.ends if over else "RUNNING"
        answer = {**_public(run), "run_details": {"task_details": run["_details"]}}
        plugins = {"plugins_output": self.plugins} if self.plugins else {}
        return {**answer, **plugins, **self.extra} if over else answer

    def _states(self, run: dict[str, Any]) -> dict[str, Any]:
        """State of each step that has begun, by its path."""
        steps = Specification.from_documents(run["_documents"]).steps()
        progress = self._progress.setdefault(run["run_id"], {})
        states: dict[str, Any] = {}
        for step in steps:
            path = ".".join(step.path)
            goes = self.goes.get(step.title, SUCCEEDING)
            at = progress[path] = min(progress.get(path, -1) + 1, len(goes) - 1)
            states[path] = goes[at]
            if _end(goes[at]) != "SUCCEEDED" and not (self.together and step.title in self.goes):
                break
        workflow = f"{run['_documents'][0]['pipelineInfo']['name']}-{run['run_id'][:5]}"
        run["_pods"] = {step.title: _pod(workflow, step, states, self.wrappers) for step in steps}
        return states

    def _recurring_run_service_list_recurring_runs(self, request: Request, *_: Any) -> dict[str, Any]:
        return self._listed(
            request, self.schedules.values(), "recurringRuns", experiment_id=request.args.get("experiment_id", "")
        )

    def _recurring_run_service_create_recurring_run(
        self, request: Request, path: Any, body: dict[str, Any]
    ) -> dict[str, Any]:
        self._checked_run(body)
        cron = body["trigger"]["cron_schedule"]["cron"]
        expect(len(cron.split()) == 6, "cron", "six fields", cron)
        kept = self._kept(self.schedules, "recurring_run_id", {**body, "status": "ENABLED"})
        self._lose_answer()
        return kept

    def _recurring_run_service_delete_recurring_run(
        self, request: Request, path: dict[str, str], _: Any
    ) -> dict[str, Any]:
        self.schedules.pop(path["recurring_run_id"])
        return {}

    def _recurring_run_service_disable_recurring_run(
        self, request: Request, path: dict[str, str], _: Any
    ) -> dict[str, Any]:
        self.schedules[path["recurring_run_id"]] |= {"status": "DISABLED", "mode": "DISABLE"}
        return {}

    def _recurring_run_service_enable_recurring_run(
        self, request: Request, path: dict[str, str], _: Any
    ) -> dict[str, Any]:
        self.schedules[path["recurring_run_id"]] |= {"status": "ENABLED", "mode": "ENABLE"}
        return {}


def _end(states: Any) -> str:
    latest = states if isinstance(states, str) else states[-1] if states else ""
    return "SUCCEEDED" if latest == CACHED else latest


def _pod(workflow: str, step: Any, states: dict[str, Any], wrappers: bool) -> str:
    """Name of a step's latest pod, by the rule of the recordings."""
    attempts = states.get(".".join(step.path), "")
    tried_again = wrappers or "retry-" in step.template
    last = f"executor({len(attempts) - 1 if isinstance(attempts, list) else 0})" if tried_again else "executor"
    attempt = "(0)" if wrappers else ""
    name = f"{workflow}{attempt}.{'.'.join(f'{part}{attempt}' for part in ('root', *step.path))}.{last}"
    return f"{workflow}-{step.template}-{identity(workflow, name).rpartition('-')[2]}"


def _public(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if not name.startswith("_")}


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
