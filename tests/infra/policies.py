"""What NetworkPolicies let through, by the rules of Kubernetes' documentation.

https://kubernetes.io/docs/concepts/services-networking/network-policies/: a pod that no policy of a direction selects
may connect freely in it; else a rule of a policy that selects it has to match. A connection needs both its ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Endpoint:
    """A pod, or an address outside of the cluster.

    Attributes:
        address: its IP address.
        namespace: of a pod; empty for what is none.
        labels: of the pod.
        namespace_labels: of its namespace.
        ports: by name, where a policy names one.
    """

    address: str
    namespace: str = ""
    labels: Labels = field(default_factory=dict)
    namespace_labels: Labels = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)


def selects(selector: Mapping[str, Any], labels: Labels) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions", []):
        found = labels.get(expression["key"])
        met = {
            "In": found in expression.get("values", []) and found is not None,
            "NotIn": found not in expression.get("values", []),
            "Exists": found is not None,
            "DoesNotExist": found is None,
        }[expression["operator"]]
        if not met:
            return False
    return True


def peer_matches(peer: Mapping[str, Any], other: Endpoint, own_namespace: str) -> bool:
    """Whether one entry of `from` or `to` means the other end; its selectors all have to match."""
    if block := peer.get("ipBlock"):
        address = ip_address(other.address)
        return address in ip_network(block["cidr"]) and not any(
            address in ip_network(part) for part in block.get("except", [])
        )
    if not other.namespace:
        return False
    if "namespaceSelector" in peer:
        if not selects(peer["namespaceSelector"] or {}, other.namespace_labels):
            return False
    elif other.namespace != own_namespace:
        return False
    return selects(peer.get("podSelector") or {}, other.labels)


def port_matches(ports: Iterable[Mapping[str, Any]], destination: Endpoint, port: int, protocol: str) -> bool:
    """Whether a rule's ports have one for the connection; none at all mean every port."""
    ports = list(ports)
    if not ports:
        return True
    for entry in ports:
        if entry.get("protocol", "TCP") != protocol:
            continue
        if "port" not in entry:
            return True
        first = destination.ports.get(entry["port"]) if isinstance(entry["port"], str) else entry["port"]
        if first is not None and first <= port <= entry.get("endPort", first):
            return True
    return False


def types_of(spec: Mapping[str, Any]) -> set[str]:
    """Directions that a policy is about: Ingress always, Egress where it has rules, unless it says otherwise."""
    return set(spec.get("policyTypes") or {"Ingress", *(["Egress"] if "egress" in spec else [])})


def _one_way(
    policies: Iterable[Mapping[str, Any]], direction: str, own: Endpoint, other: Endpoint, port: int, protocol: str
) -> bool:
    rules, side = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    destination = own if direction == "Ingress" else other
    isolated = False
    for policy in policies:
        spec = policy["spec"]
        if policy["metadata"].get("namespace", "default") != own.namespace or direction not in types_of(spec):
            continue
        if not selects(spec["podSelector"], own.labels):
            continue
        isolated = True
        for rule in spec.get(rules) or []:
            peers = rule.get(side) or []
            if peers and not any(peer_matches(peer, other, own.namespace) for peer in peers):
                continue
            if port_matches(rule.get("ports") or [], destination, port, protocol):
                return True
    return not isolated


def allowed(
    policies: Iterable[Mapping[str, Any]], source: Endpoint, destination: Endpoint, port: int, protocol: str = "TCP"
) -> bool:
    """Whether a connection is let through at both its ends; an end outside of the cluster has no policies."""
    policies = list(policies)
    leaves = not source.namespace or _one_way(policies, "Egress", source, destination, port, protocol)
    enters = not destination.namespace or _one_way(policies, "Ingress", destination, source, port, protocol)
    return leaves and enters
