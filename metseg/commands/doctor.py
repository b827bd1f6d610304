"""`metseg doctor`: check this machine or a cluster before a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from metseg.errors import UsageError
from metseg.option_checks import refuse_empty
from metseg.process_environment import apply_defaults


def doctor(
    cluster: Annotated[bool, typer.Option("--cluster", help="Examine a cluster with kubectl instead.")] = False,
    docker: Annotated[bool, typer.Option("--docker", help="Examine Docker too.")] = False,
    namespace_of_runs: Annotated[
        str | None,
        typer.Option(
            help="Namespace that Kubeflow runs pipelines in; in a multi-user Kubeflow, a profile (default: kubeflow)."
        ),
    ] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig (default: the current one).")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(help="Kubeconfig (default: that of kubectl).", exists=True)] = None,
    host: Annotated[
        str | None, typer.Option(help="Address of the Kubeflow Pipelines UI (default: through the cluster).")
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="File with Kubeflow's token, as for submit.")] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="CA certificate of the host (PEM).", exists=True, dir_okay=False)
    ] = None,
    images: Annotated[str | None, typer.Option(help="TAG, or PREFIX:TAG, of the images, as for submit.")] = None,
    gpu_type: Annotated[
        str | None, typer.Option(help="Accelerator resource of training (default: nvidia.com/gpu).")
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Start two short-lived pods to test connections, images and network policies."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Check this machine, or a cluster, before a run.

    Exit code 1 if anything must be fixed.
    """
    given = {name: value for name, value in locals().items() if value not in (None, False) and name != "as_json"}
    _refuse_without_effect({f"--{name.replace('_', '-')}": value for name, value in given.items()})
    from metseg.doctor.findings import exit_code, print_report

    apply_defaults()
    if cluster:
        from metseg.doctor.kubectl import Kubectl
        from metseg.doctor.nodes import NVIDIA
        from metseg.doctor.remedies import SHIPPED
        from pipelines.cluster_doctor import diagnose

        kubectl, runs = Kubectl(context or "", kubeconfig), namespace_of_runs or SHIPPED
        access = host or "", token_file, certificate
        findings = diagnose(kubectl, runs, gpu_type or NVIDIA, images or "", *access, with_probe=probe)
    else:
        from metseg.doctor import machine
        from metseg.settings import Settings

        findings = machine.examine(Settings.from_environment(), docker)
    print_report("cluster" if cluster else "this machine", findings, as_json)
    if code := exit_code(findings):
        raise typer.Exit(code)


def _refuse_without_effect(given: Mapping[str, object]) -> None:
    """Refuse options that are empty or would have no effect; raises UsageError."""
    refuse_empty({option: value for option, value in given.items() if isinstance(value, str)})
    of_cluster = [option for option in given if option not in ("--cluster", "--docker")]
    if of_cluster and "--cluster" not in given:
        raise UsageError(f"{of_cluster[0]} is for a cluster, but this machine would be examined: add --cluster")
    if "--docker" in given and "--cluster" in given:
        raise UsageError(
            "--docker is for this machine, but a cluster would be examined: call metseg doctor --docker by itself"
        )
    for option in ("--token-file", "--certificate"):
        if option in given and "--host" not in given:
            raise UsageError(f"{option} is for Kubeflow's address, but none is given: add --host ADDRESS")
