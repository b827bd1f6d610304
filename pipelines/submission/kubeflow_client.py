"""Client of the Kubeflow Pipelines API v2beta1, with errors that name a remedy."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from metseg.errors import KubeflowError, UsageError
from pipelines.submission.kubeflow_token import REMEDY, TokenSource, expired_since
from pipelines.submission.pod_events import NAMESPACE

logger = logging.getLogger(__name__)

SECONDS, UPLOAD_SECONDS, CREATE_SECONDS = 30, 300, 180
"""Time limits of requests. Kubeflow 2.17 calls MLflow, for up to a minute each time, while it creates a run."""
LOOKING = "looking for Kubeflow"
OLDEST = (2, 16)
"""Oldest version that accepts the pipeline, which sets a security context for its pods."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PORT_FORWARD = "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, then --host http://localhost:8080"


LOG_PATHS: Mapping[str, Mapping[str, str]] = {
    "/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log": {},
    "/k8s/pod/logs": {"podname": "pod", "runid": "run_id", "podnamespace": "namespace"},
}
"""Paths that serve logs of pods, each with the fields of its query.

The first is of the API server. The second is of the UI, which may not forward the first.
"""
NO_LOG = ('{"error_message":', "unable to retrieve container logs for ")
"""Texts in place of a missing log, which come with status 200."""


class Unreachable(KubeflowError):
    """Kubeflow does not respond or is overloaded; a later retry may succeed."""


class Unauthorised(KubeflowError):
    """The token is missing, expired, or lacks permission."""


class NotThere(KubeflowError):
    """Kubeflow does not have the requested object."""


class Kubeflow:
    """Connection to one Kubeflow Pipelines.

    Args:
        host: address of its API: of the UI, or with `/pipeline` of a Kubeflow with a dashboard.
        token: of the user.
        namespace: profile namespace in a multi-user Kubeflow; else empty.
        authority: PEM file of its CA certificate, if that is not public.

    Raises:
        UsageError: the address is malformed.
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
            logger.warning("the token goes to %s unencrypted: use https in a shared network", self.host)
        configuration = kfp_server_api.Configuration()
        configuration.host = self.host
        if authority is not None:
            configuration.ssl_ca_cert = str(authority)
        # No request is sent twice, and no redirection to a login page is followed.
        configuration.retries = urllib3.Retry(connect=2, read=0, redirect=False, status=0, other=0, backoff_factor=0.5)
        configuration.api_key_prefix["authorization"] = "Bearer"
        configuration.refresh_api_key_hook = self._refresh
        self._refresh(configuration)
        api = kfp_server_api.ApiClient(configuration)
        self.models = kfp_server_api
        self._api = api
        self._log_path = ""
        self.health_service = kfp_server_api.HealthzServiceApi(api)
        self.pipelines = kfp_server_api.PipelineServiceApi(api)
        self.uploads = kfp_server_api.PipelineUploadServiceApi(api)
        self.experiments = kfp_server_api.ExperimentServiceApi(api)
        self.runs = kfp_server_api.RunServiceApi(api)
        self.schedules = kfp_server_api.RecurringRunServiceApi(api)

    @property
    def pod_namespace(self) -> str:
        """Namespace of the pods of runs."""
        return self.namespace or NAMESPACE

    def _refresh(self, configuration: Any) -> None:
        token = self._token.read()
        if token:
            configuration.api_key["authorization"] = token

    def page(self, path: str) -> str:
        """Return the address of a page in the UI."""
        return f"{self.host}/#/{path}"

    def call(self, doing: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a method of one of the services.

        Args:
            doing: the action, for messages.
            function: the method.
            arguments: its own.
            named: its own.

        Raises:
            Unreachable: Kubeflow does not respond, or with a server error.
            Unauthorised: the token is not accepted, or its file is gone.
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
            # The token's file is read again at each call, and was readable at the first.
            raise Unauthorised(f"{doing}: {error}") from error

    def check(self) -> str:
        """Check that the address is one of Kubeflow Pipelines, before anything is sent to it.

        Returns:
            Its version; empty if it reports none.

        Raises:
            Unreachable, Unauthorised: see `call`.
            KubeflowError: another program responds.
            UsageError: it is multi-user, and no namespace is given.
        """
        request = self.health_service.healthz_service_get_healthz
        content = self.call(LOOKING, lambda **named: request(_preload_content=False, **named).data)
        try:
            health = json.loads(content)
        except ValueError:
            health = None
        if not isinstance(health, dict) or not {"multi_user", "commit_sha", "tag_name"} & set(health):
            raise KubeflowError(self._elsewhere("the response is not one of its API"))
        if health.get("multi_user") and not self.namespace:
            raise UsageError(f"{self.host} is multi-user: name your profile with --namespace NAME")
        # The UI reports the API server's version under another name.
        return str(health.get("tag_name") or health.get("apiServerTagName") or "")

    def require_version(self, reported: str) -> None:
        """Check the reported version; one that cannot be parsed gives a warning.

        Raises:
            KubeflowError: it is older.
        """
        oldest = ".".join(map(str, OLDEST))
        version = re.match(r"v?(\d+)\.(\d+)", reported)
        if version is None:
            logger.warning(
                "%s does not report its version (%s): Kubeflow Pipelines %s is the oldest that accepts this pipeline",
                self.host, reported or "no name", oldest,
            )  # fmt: skip
        elif (int(version[1]), int(version[2])) < OLDEST:
            raise KubeflowError(
                f"{self.host} is Kubeflow Pipelines {reported}, and {oldest} is the oldest that accepts this pipeline: "
                "upgrade it, or name another with --host"
            )

    def log(self, run: str, pod: str) -> str:
        """Return the log of a pod up to now; empty if there is none."""
        for path in [self._log_path] if self._log_path else LOG_PATHS:
            text = self._log_at(path, {"run_id": run, "pod": pod, "namespace": self.pod_namespace})
            if text is not None:
                self._log_path = path
                return "" if text.startswith(NO_LOG) else text
        return ""

    def _log_at(self, path: str, given: dict[str, str]) -> str | None:
        """Return the log at one path, or None if the path serves none."""
        options = {"auth_settings": ["Bearer"], "_preload_content": False, "_return_http_data_only": True}
        query = [(name, given[field]) for name, field in LOG_PATHS[path].items()]

        def request(**named: Any) -> str:
            response = self._api.call_api(path, "GET", given, query, **options, **named)
            return str(response.data.decode(errors="replace"))

        try:
            text: str = self.call("reading a log", request)
        except KubeflowError as error:
            # A log only adds detail to the run's own state.
            logger.debug("%s", error)
            return None
        return None if text.lstrip()[:9].lower() in ("<!doctype", "<html>") else text

    def _unreachable(self, doing: str, why: str) -> Unreachable:
        return Unreachable(
            f"{doing}: no response from {self.host} ({why}). Is the address right, and reachable from here? "
            f"For a Kubeflow without an address of its own: {PORT_FORWARD}"
        )

    def _elsewhere(self, why: str) -> str:
        return (
            f"{self.host} is no Kubeflow Pipelines ({why}). Give the address of its UI; on a Kubeflow with a "
            "dashboard that ends in /pipeline"
        )

    def _refused(self, doing: str, error: Any) -> KubeflowError:
        status, reason = int(error.status or 0), _reason(error)
        if status == 0:
            return self._unreachable(doing, reason)
        if status in (401, 403) or 300 <= status < 400:
            return Unauthorised(self._unauthorised(doing, status, reason))
        if status >= 500 or status == 429:
            return Unreachable(f"{doing}: {self.host} cannot do it now (HTTP {status}: {reason}). Try again later")
        if status == 404 and doing == LOOKING:
            return KubeflowError(self._elsewhere("HTTP 404"))
        kind = NotThere if status == 404 else KubeflowError
        return kind(f"{doing}: {self.host} refuses it (HTTP {status}): {reason}")

    def _unauthorised(self, doing: str, status: int, reason: str) -> str:
        token = self._token.read()
        since = expired_since(token) if token else None
        if not token:
            why = "it requires a token, and none was given"
        elif since is not None:
            why = f"the token expired {_span(since)} ago"
        elif status == 403:
            why = f"the token is valid, but its owner may not do this: {reason}"
        else:
            why = f"it does not accept the token: {reason}"
        return f"{doing}: {self.host} returns HTTP {status}: {why}. For a token: {REMEDY}"


def _reason(error: Any) -> str:
    """Return the reason that the server gives."""
    body = error.body.decode(errors="replace") if isinstance(error.body, bytes) else error.body
    try:
        fields = json.loads(body or "")
        text = fields.get("error") or fields.get("message") if isinstance(fields, dict) else None
    except ValueError:
        text = None
    return " ".join(str(text or error.reason or "no reason given").split())[:600]


def _innermost(error: BaseException) -> str:
    """Return the innermost reason of urllib3's nested errors, in one line."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _innermost(reason)
    return " ".join(str(error).rpartition(": ")[2].split())[:200] or type(error).__name__


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
