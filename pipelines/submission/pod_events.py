"""Reasons why pods wait or fail, read from Kubernetes if a kubeconfig is available.

Kubeflow's API reports that a pod is pending, but never why.
"""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

logger = logging.getLogger(__name__)

NAMESPACE = "kubeflow"
"""Namespace of pods in a single-user Kubeflow."""
SECONDS = 10.0
MOST_CHARACTERS = 600


def describe(namespace: str, pod: str) -> str:
    """Return the command that shows why a pod does not run."""
    return f"kubectl -n {namespace or NAMESPACE} describe pod {pod}"


def node_message(namespace: str, workflow: str, node: str) -> str:
    """Return the command that shows why Kubernetes or Argo refused to create a pod."""
    path = f"'{{.status.nodes.{node}.message}}'"
    return f"kubectl -n {namespace or NAMESPACE} get workflow {workflow} -o jsonpath={path}"


@dataclass
class Cluster:
    """Queries to Kubernetes through the user's kubeconfig; empty results where it fails.

    Attributes:
        namespace: of the runs.
    """

    namespace: str

    @cached_property
    def _client(self) -> Any:
        """A client from the user's kubeconfig; None without one."""
        try:
            from kubernetes import client, config

            configuration = client.Configuration()
            config.load_kube_config(os.environ.get("KUBECONFIG") or None, client_configuration=configuration)
            configuration.retries = False
            return client.ApiClient(configuration)
        except Exception as error:
            logger.debug("no kubeconfig: %s", error)
            return None

    def why_waiting(self, pod: str) -> str:
        """Return the reason why a pod does not run.

        Reasons of the scheduler and of containers precede the pod's last warning.
        """
        here = f"/api/v1/namespaces/{self.namespace}"
        record = self._get(f"{here}/pods/{pod}")
        if not record or record.get("status", {}).get("phase") not in (None, "Pending"):
            return ""
        selector = [("fieldSelector", f"involvedObject.name={pod},type=Warning")]
        return waiting_reason(record) or last_warning(self._get(f"{here}/events", selector), pod)

    def message(self, workflow: str, node: str) -> str:
        """Return Argo's message about a node."""
        record = self._get(f"/apis/argoproj.io/v1alpha1/namespaces/{self.namespace}/workflows/{workflow}")
        nodes = ((record or {}).get("status") or {}).get("nodes") or {}
        return _line(str((nodes.get(node) or {}).get("message") or ""))

    def setting(self, config_map: str, key: str) -> str:
        """Return an entry of a ConfigMap."""
        record = self._get(f"/api/v1/namespaces/{self.namespace}/configmaps/{config_map}")
        return str(((record or {}).get("data") or {}).get(key) or "")

    def _get(self, path: str, query: list[tuple[str, str]] | None = None) -> dict[str, Any] | None:
        if self._client is None:
            return None
        try:
            response = self._client.call_api(
                path,
                "GET",
                query_params=query or [],
                auth_settings=["BearerToken"],
                _preload_content=False,
                _return_http_data_only=True,
                _request_timeout=SECONDS,
            )
            content = json.loads(response.data)
        except Exception as error:
            # The kubeconfig may be of another cluster or out of date; the caller prints a command instead.
            logger.debug("Kubernetes request %s: %s", path, error)
            if getattr(error, "status", None) is None:
                self._client = None
            return None
        return content if isinstance(content, dict) else None


def waiting_reason(pod: dict[str, Any]) -> str:
    """Return why a pod waits, such as `Unschedulable: 0/1 nodes are available: …`, else ""."""
    status = pod.get("status") or {}
    containers = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    reasons = [
        f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
        for container in containers
        if (waiting := (container.get("state") or {}).get("waiting") or {}).get("reason")
        not in (None, "PodInitializing", "ContainerCreating")
    ]
    reasons += [
        f"{condition.get('reason', '')}: {condition.get('message', '')}".strip(": ")
        for condition in status.get("conditions") or ()
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False"
    ]
    return _line("; ".join(dict.fromkeys(reasons)))


def last_warning(events: dict[str, Any] | None, pod: str) -> str:
    """Return the latest warning about a pod, such as `FailedMount: configmap "x" not found`."""
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
