"""Options of `metseg doctor`, checked for contradictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metseg.errors import UsageError
from metseg.option_checks import refuse_empty

RUNS, GPU_TYPE = "kubeflow", "nvidia.com/gpu"
"""Default namespace of runs and default accelerator resource."""


@dataclass(frozen=True)
class Options:
    """Options as given; None for an option that was not.

    Attributes:
        cluster: whether a cluster is examined, instead of this machine.
        docker: whether Docker here is examined too.
        namespace_of_runs: where Kubeflow runs pipelines.
        context: of the kubeconfig.
        kubeconfig: file.
        host: address of Kubeflow Pipelines' UI.
        token_file: file with Kubeflow's token.
        certificate: PEM file of the host's CA certificate.
        images: TAG or PREFIX:TAG.
        gpu_type: resource that training pods request.
        probe: whether pods are started.
    """

    cluster: bool = False
    docker: bool = False
    namespace_of_runs: str | None = None
    context: str | None = None
    kubeconfig: Path | None = None
    host: str | None = None
    token_file: Path | None = None
    certificate: Path | None = None
    images: str | None = None
    gpu_type: str | None = None
    probe: bool = False

    def check(self) -> None:
        """Refuse what is empty, or would have no effect; raises UsageError."""
        named = {
            "--namespace-of-runs": self.namespace_of_runs,
            "--context": self.context,
            "--host": self.host,
            "--images": self.images,
            "--gpu-type": self.gpu_type,
        }
        refuse_empty(named)
        access = {"--token-file": self.token_file, "--certificate": self.certificate}
        of_cluster = {**named, "--kubeconfig": self.kubeconfig, **access, "--probe": self.probe or None}
        given = [option for option, value in of_cluster.items() if value is not None]
        if given and not self.cluster:
            raise UsageError(f"{given[0]} is for a cluster, but this machine would be examined: add --cluster")
        if self.docker and self.cluster:
            raise UsageError(
                "--docker is for this machine, but a cluster would be examined: call metseg doctor --docker by itself"
            )
        if (lone := [option for option, value in access.items() if value is not None]) and not self.host:
            raise UsageError(f"{lone[0]} is for Kubeflow's address, but none is given: add --host ADDRESS")
