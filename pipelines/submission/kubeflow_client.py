"""Kubeflow Pipelines' API v2beta1, by the client that Kubeflow generates from its schema; errors say what to do."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metseg.errors import KubeflowError, UsageError
from pipelines.submission.kubeflow_token import REMEDY, TokenSource, expired_since
from pipelines.submission.pod_events import NAMESPACE

logger = logging.getLogger(__name__)

SECONDS, UPLOAD_SECONDS, CREATE_SECONDS = 30, 300, 180
"""How long an answer is waited for. Kubeflow 2.17 asks MLflow, for up to a minute each time, while it makes a run."""
LOOKING = "looking for Kubeflow"
OLDEST = (2, 16)
"""The first that takes what the pipeline asks of Kubernetes (a security context for its pods)."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PORT_FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, then --host http://localhost:8080"


@dataclass(frozen=True)
class LogPlace:
    """Where the logs of pods are to be had.

    Attributes:
        path: of the address.
        query: what is asked, each name with the field that it takes.
    """

    path: str
    query: tuple[tuple[str, str], ...] = ()


LOG_PLACES = (
    LogPlace("/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log"),
    LogPlace("/k8s/pod/logs", (("podname", "pod"), ("runid", "run_id"), ("podnamespace", "namespace"))),
)
"""The API server's own, and the UI's: where `--host` is the UI, it need not hand the first one on."""


NO_LOG = ('{"error_message":', "unable to retrieve container logs for ")
"""What stands in place of a log that is not there: the API server and the node have said 200 by the time they look."""


class Unreachable(KubeflowError):
    """Nothing answers, or a server that cannot do better now: asking again later may help."""


class Unauthorised(KubeflowError):
    """The token is missing, over, or not enough."""


class NotThere(KubeflowError):
    """Kubeflow does not have what is asked for."""


class Kubeflow:
    """Speaks to one Kubeflow Pipelines.

    Args:
        host: address of its API: of the UI, or with `/pipeline` of a Kubeflow with a dashboard.
        token: what it is shown.
        namespace: whose pipelines and experiments, where Kubeflow serves several people; empty where it does not.
        authority: PEM file of its CA certificate, where that is no public authority.

    Raises:
        UsageError: the address is none.
    """

    def __init__(self, host: str, token: TokenSource, namespace: str = "", authority: Path | None = None) -> None:
        import kfp_server_api
        import urllib3

        parts = urlsplit(host)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"--host {host}: expected an address that begins with https:// or http://; {PORT_FORWARD}")
        self.host = host.rstrip("/")
        self.namespace = namespace
        self._token = token
        if token.read() and parts.scheme == "http" and parts.hostname not in LOOPBACK:
            logger.warning("the token goes to %s unencrypted: use https where others share the network", self.host)
        configuration = kfp_server_api.Configuration()
        configuration.host = self.host
        if authority is not None:
            configuration.ssl_ca_cert = str(authority)
        # What was sent is not sent twice; a redirection leads to a page for people who log in.
        configuration.retries = urllib3.Retry(connect=2, read=0, redirect=False, status=0, other=0, backoff_factor=0.5)
        configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.refresh_api_key_hook = self._refresh
        self._refresh(configuration)
        api = kfp_server_api.ApiClient(configuration)
        self.models = kfp_server_api
        self._api = api
        self._log_place: LogPlace | None = None
        self.health_service = kfp_server_api.HealthzServiceApi(api)
        self.pipelines = kfp_server_api.PipelineServiceApi(api)
        self.uploads = kfp_server_api.PipelineUploadServiceApi(api)
        self.experiments = kfp_server_api.ExperimentServiceApi(api)
        self.runs = kfp_server_api.RunServiceApi(api)
        self.schedules = kfp_server_api.RecurringRunServiceApi(api)

    @property
    def pod_namespace(self) -> str:
        """Where the pods of runs are."""
        return self.namespace or NAMESPACE

    def _refresh(self, configuration: Any) -> None:
        token = self._token.read()
        if token:
            configuration.api_key["authorization"] = token

    def page(self, path: str) -> str:
        """Address of a page in the UI."""
        return f"{self.host}/#/{path}"

    def call(self, doing: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a method of one of the services.

        Args:
            doing: what is being done, for the message.
            function: the method.
            arguments: its own.
            named: its own.

        Raises:
            Unreachable: nothing answers, or a server that is out of order.
            Unauthorised: the token does not do, or its file is gone.
            NotThere: Kubeflow does not have it.
            KubeflowError: the request is refused.
        """
        import kfp_server_api
        import urllib3

        try:
            return function(*arguments, **{"_request_timeout": SECONDS, **named})
        except urllib3.exceptions.HTTPError as error:
            raise self._unreachable(doing, _innermost(error)) from error
        except kfp_server_api.ApiException as error:
            raise self._refused(doing, error) from error
        except UsageError as error:
            # The token's file is read anew at each call: it was there at the beginning.
            raise Unauthorised(f"{doing}: {error}") from error

    def check(self) -> str:
        """Hold the address to being one of Kubeflow Pipelines, before anything is sent there.

        Returns:
            The version that it calls itself; empty where it gives none.

        Raises:
            Unreachable, Unauthorised: see `call`.
            KubeflowError: something else answers there.
            UsageError: it serves several people, and no namespace is given.
        """
        ask = self.health_service.healthz_service_get_healthz
        answer = self.call(LOOKING, lambda **named: ask(_preload_content=False, **named).data)
        try:
            health = json.loads(answer)
        except ValueError:
            health = None
        if not isinstance(health, dict) or not {"multi_user", "commit_sha", "tag_name"} & set(health):
            raise KubeflowError(self._elsewhere("the answer is no answer of its API"))
        if health.get("multi_user") and not self.namespace:
            raise UsageError(f"{self.host} serves several people: say whose with --namespace NAME (your profile's)")
        # The UI, which stands between, calls the API server's own name so.
        return str(health.get("tag_name") or health.get("apiServerTagName") or "")

    def require_version(self, found: str) -> None:
        """Hold what Kubeflow calls itself to the oldest version that takes the pipeline; a name that says nothing is
        warned of.

        Raises:
            KubeflowError: it is older.
        """
        oldest = ".".join(map(str, OLDEST))
        version = re.match(r"v?(\d+)\.(\d+)", found)
        if version is None:
            logger.warning(
                "%s does not say its version (%s): Kubeflow Pipelines %s is the oldest that takes this pipeline",
                self.host, found or "no name", oldest,
            )  # fmt: skip
        elif (int(version[1]), int(version[2])) < OLDEST:
            raise KubeflowError(
                f"{self.host} is Kubeflow Pipelines {found}, and {oldest} is the oldest that takes this pipeline: "
                "upgrade it, or name another with --host"
            )

    def log(self, run: str, pod: str) -> str:
        """What a pod of a run has printed until now; empty where it has not begun, or where no log can be had."""
        for place in [self._log_place] if self._log_place else LOG_PLACES:
            text = self._log_at(place, {"run_id": run, "pod": pod, "namespace": self.pod_namespace})
            if text is not None:
                self._log_place = place
                return "" if text.startswith(NO_LOG) else text
        return ""

    def _log_at(self, place: LogPlace, given: dict[str, str]) -> str | None:
        """What answers there with a log; None where nothing does."""
        options = {"auth_settings": ["Bearer"], "_preload_content": False, "_return_http_data_only": True}
        path = {name: given[name] for name in ("run_id", "pod")}
        query = [(name, given[field]) for name, field in place.query]

        def ask(**named: Any) -> str:
            answer = self._api.call_api(place.path, "GET", path, query, **options, **named)
            return str(answer.data.decode(errors="replace"))

        try:
            text: str = self.call("reading a log", ask)
        except KubeflowError as error:
            # A log adds to what the run's own state says; without one there is less to tell, and no more.
            logger.debug("%s", error)
            return None
        return None if text.lstrip()[:9].lower() in ("<!doctype", "<html>") else text

    def _unreachable(self, doing: str, why: str) -> Unreachable:
        return Unreachable(
            f"{doing}: nothing answers at {self.host} ({why}). Is the address right, and can it be reached from here? "
            f"For a Kubeflow without an address of its own: {PORT_FORWARD}"
        )

    def _elsewhere(self, found: str) -> str:
        return (
            f"{self.host} is no Kubeflow Pipelines ({found}). Give the address of its UI; on a Kubeflow with a "
            "dashboard that ends in /pipeline"
        )

    def _refused(self, doing: str, error: Any) -> KubeflowError:
        status, said = int(error.status or 0), _said(error)
        if status == 0:
            return self._unreachable(doing, said)
        if status in (401, 403) or 300 <= status < 400:
            return Unauthorised(self._unauthorised(doing, status, said))
        if status >= 500 or status == 429:
            return Unreachable(f"{doing}: {self.host} cannot do it now (HTTP {status}: {said}). Try again later")
        if status == 404 and doing == LOOKING:
            return KubeflowError(self._elsewhere("HTTP 404"))
        kind = NotThere if status == 404 else KubeflowError
        return kind(f"{doing}: {self.host} refuses it (HTTP {status}): {said}")

    def _unauthorised(self, doing: str, status: int, said: str) -> str:
        token = self._token.read()
        since = expired_since(token) if token else None
        if not token:
            why = "it asks for a token, and none was given"
        elif since is not None:
            why = f"the token is over since {_span(since)}"
        elif status == 403:
            why = f"the token is valid, but its owner may not do this: {said}"
        else:
            why = f"it does not accept the token: {said}"
        return f"{doing}: {self.host} answers HTTP {status}: {why}. For a token: {REMEDY}"


def _said(error: Any) -> str:
    """What the server gives as its reason."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        fields = json.loads(body or "")
        text = fields.get("error") or fields.get("message") if isinstance(fields, dict) else None
    except ValueError:
        text = None
    return " ".join(str(text or error.reason or "no reason given").split())[:600]


def _innermost(error: BaseException) -> str:
    """The reason at the bottom of urllib3's errors, in a line."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    return " ".join(str(error).rpartition(": ")[2].split())[:200] or type(error).__name__


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
