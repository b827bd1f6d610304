"""What Kubernetes itself knows of a run's pods, where a kubeconfig is at hand; else the command that asks it.

Kubeflow's API says that a pod is pending, never why.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

NAMESPACE = "kubeflow"
"""Where runs of a Kubeflow that serves no separate people have their pods."""
SECONDS = 10.0
MOST_CHARACTERS = 600


def describe(namespace: str, pod: str) -> str:
    """The command that says why a pod does not run."""
    return f"kubectl -n {namespace or NAMESPACE} describe pod {pod}"


def node_message(namespace: str, workflow: str, node: str) -> str:
    """The command that says why there is no pod, where Kubernetes or Argo refused to make it."""
    path = f"'{{.status.nodes.{node}.message}}'"
    return f"kubectl -n {namespace or NAMESPACE} get workflow {workflow} -o jsonpath={path}"


@dataclass
class Cluster:
    """Asks Kubernetes by the kubeconfig at hand. What it cannot say is empty: it adds to a message, no more.

    Attributes:
        namespace: of the runs.
    """

    namespace: str
    _client: Any = None
    _connected: bool = False

    def why_waiting(self, pod: str) -> str:
        """Why a pod does not run: what its scheduler and its containers say, else its last warning."""
        here = f"/api/v1/namespaces/{self.namespace}"
        found = self._ask(f"{here}/pods/{pod}")
        if not found or found.get("status", {}).get("phase") not in (None, "Pending"):
            return ""
        chosen = [("fieldSelector", f"involvedObject.name={pod},type=Warning")]
        return waiting_reason(found) or last_warning(self._ask(f"{here}/events", chosen), pod)

    def message(self, workflow: str, node: str) -> str:
        """What Argo says of a node."""
        found = self._ask(f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/workflows/{workflow}")
        nodes = ((found or {}).get("status") or {}).get("nodes") or {}
        return _line(str((nodes.get(node) or {}).get("message") or ""))

    def setting(self, config_map: str, key: str) -> str:
        """An entry of a ConfigMap."""
        found = self._ask(f"/api/v1/namespaces/{self.namespace}/configmaps/{config_map}")
        return str(((found or {}).get("data") or {}).get(key) or "")

    def _ask(self, path: str, query: list[tuple[str, str]] | None = None) -> dict[str, Any] | None:
        if not self._connected:
            self._connected, self._client = True, _connect()
        if self._client is None:
            return None
        try:
            answer = self._client.call_api(
                path,
                "GET",
                query_params=query or [],
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=SECONDS,
            )
            found = json.loads(answer.data)
        except Exception as error:
            # The kubeconfig may be of another cluster or out of date: then the command is told instead.
            logger.debug("asking Kubernetes for %s: %s", path, error)
            if getattr(error, "status", None) is None:
                self._client = None
            return None
        return found if isinstance(found, dict) else None


def _connect() -> Any:
    """A client by the kubeconfig at hand; None where there is none."""
    try:
        from kubernetes import client, config

        configuration = client.Configuration()
        config.load_kube_config(os.environ.get("KUBECONFIG") or None, client_configuration=configuration)
        configuration.retries = False
        return client.ApiClient(configuration)
    except Exception as error:
        logger.debug("no kubeconfig at hand: %s", error)
        return None


def waiting_reason(pod: dict[str, Any]) -> str:
    """Why a pod does not run, from its own record: `Unschedulable: 0/1 nodes are available: …`; empty where it runs."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    said = [
        f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
        for container in containers
        if (waiting := (container.get("state") or {}).get("waiting") or {}).get("reason")
        not in (None, "PodInitializing", "ContainerCreating")
    ]
    said += [
        f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
        for condition in status.get("conditions") or ()
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
    return _line("; ".join(dict.fromkeys(said)))


def last_warning(events: dict[str, Any] | None, pod: str) -> str:
    """The latest warning about a pod in a list of events: `FailedMount: configmap "metseg-settings" not found`."""
    about = [
        event
        for event in (events or {}).get("items") or ()
        if event.get("type") == "Warning" and (event.get("involvedObject") or {}).get("name") == pod
    ]
    if not about:
        return ""
    latest = max(about, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    return _line(f"{latest.get('reason', '')}: {latest.get('message', '')}")


def _line(text: str) -> str:
    return " ".join(text.split())[:MOST_CHARACTERS]
