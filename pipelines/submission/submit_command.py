"""`metseg submit` step by step: check the options, connect to Kubeflow, do one action."""

from __future__ import annotations

import logging
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from components.check.step import check
from components.configuration.parsing import pack, parse
from components.configuration.profiles import profile
from metseg.commands.promotion import MLFLOW_RETRIES
from metseg.errors import MetsegError, NotKnown, UsageError
from metseg.option_checks import refuse_empty
from metseg.process_environment import apply_defaults
from pipelines.compiling import compiled_for
from pipelines.submission import run_verdict, schedules
from pipelines.submission.cron import Cron
from pipelines.submission.kubeflow_client import PORT_FORWARD, Kubeflow
from pipelines.submission.kubeflow_token import TokenSource
from pipelines.submission.pipeline_package import Package, Specification, package
from pipelines.submission.run_monitor import Follower, RunFailed, unknown_state
from pipelines.submission.submit import (
    REFERENCE,
    RUN_NAME,
    RunRequest,
    check_images,
    check_reference,
    default_name,
    default_names,
    image_states,
    start,
)

LOG_WIDTH = 120
RUN_PAGE = re.compile(r"/runs/(?:details/)?([^/?#&\s]+)")
"""In the address of a run, in the UI or the API; a query, before it or behind, is the UI's."""


@dataclass(frozen=True)
class Options:
    """Options as given; None for an option that was not.

    Attributes:
        host: address of Kubeflow.
        param: NAME=VALUE of settings.
        profile: named set of settings, under those of `param`.
        images: TAG or PREFIX:TAG; those of the committed pipeline by default.
        name: of the run or schedule.
        again: whether to start a run even if one with its name and parameters is unfinished.
        dry_run: whether to show the action without doing it.
        wait: whether to follow the run that is started.
        follow: id or page address of an existing run to follow.
        cron: times of a schedule to create.
        schedules: whether to list the schedules.
        pause: name of a schedule to pause.
        resume: name of a schedule to resume.
        delete: name of a schedule to delete.
        namespace: profile namespace in a multi-user Kubeflow.
        token_file: file with the token.
        certificate: PEM file of the host's CA certificate.
    """

    host: str = ""
    param: tuple[str, ...] = ()
    profile: str | None = None
    images: str | None = None
    name: str | None = None
    again: bool = False
    dry_run: bool = False
    wait: bool = False
    follow: str | None = None
    cron: str | None = None
    schedules: bool = False
    pause: str | None = None
    resume: str | None = None
    delete: str | None = None
    namespace: str = ""
    token_file: Path | None = None
    certificate: Path | None = None

    def check(self) -> None:
        """Refuse empty and contradictory options; raises UsageError."""
        schedule = {"--cron": self.cron, "--pause": self.pause, "--resume": self.resume, "--delete": self.delete}
        new = {"--profile": self.profile, "--images": self.images, "--name": self.name}
        refuse_empty({**new, "--follow": self.follow, **schedule})
        actions = {"--follow": self.follow, **schedule, "--schedules": self.schedules}
        given = [option for option, value in actions.items() if value]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)}: only one of them is possible; leave the others out")
        if self.wait and given and not self.follow:
            raise UsageError(f"--wait and {given[0]}: a schedule has no end to wait for; leave one of the two out")
        if self.cron and self.again:
            raise UsageError("--again and --cron: a schedule replaces one with its name; leave --again out")
        useless = [
            option
            for option, value in {
                "--param": self.param,
                **new,
                "--again": self.again,
                "--dry-run": self.dry_run,
            }.items()
            if value
        ]
        if useless and given and not self.cron:
            raise UsageError(f"{useless[0]} and {given[0]}: {given[0]} starts no run; leave one out")
        if not self.host and not self.dry_run:
            raise UsageError(
                f"name Kubeflow by --host ADDRESS or KF_PIPELINES_ENDPOINT. Without an address: {PORT_FORWARD}"
            )


@dataclass(frozen=True)
class Submission:
    """A run or schedule to create, checked as far as this machine can.

    Attributes:
        package: the pipeline.
        parameters: fields of the pipeline's form that differ from the defaults.
        name: of the run or schedule.
        request: the run; None for a schedule.
        cron: times of the schedule; None for a run.
    """

    package: Package
    parameters: dict[str, Any]
    name: str
    request: RunRequest | None
    cron: Cron | None


def run(options: Options) -> None:
    """Do the action that the options name.

    Raises:
        UsageError: the options are wrong.
        KubeflowError: Kubeflow refuses the action, or the run failed.
        NotRegistered: the run succeeded, and its gate registered nothing.
        NotKnown: the run continues but can't be followed, or its verdict could not be read.
    """
    _set_up()
    options.check()
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else LOG_WIDTH)
    if options.follow:
        _follow_existing(run_of(options.follow), options, console)
    elif options.schedules:
        _list(_connected(options)[0], console)
    elif options.pause:
        print(schedules.pause(_connected(options)[0], options.pause))
    elif options.resume:
        print(schedules.resume(_connected(options)[0], options.resume))
    elif options.delete:
        print(schedules.delete(_connected(options)[0], options.delete))
    else:
        order = _order(options)
        if options.dry_run:
            _show(order, console)
            return
        if options.wait:
            run_verdict.require_mlflow("--wait")
        kubeflow, version = _connected(options)
        kubeflow.require_version(version)
        _begin(order, kubeflow, options, console)


def run_of(given: str) -> str:
    """Return the id of a run from its id or the address of its page.

    Raises:
        UsageError: the text has no id.
    """
    page = RUN_PAGE.search(given)
    identity = page[1] if page else re.split(r"[?#&]", given.strip())[0].rstrip("/")
    if not identity or "/" in identity:
        raise UsageError(f"--follow {given}: expected a run's id, or the address of its page")
    return identity


def _connected(options: Options) -> tuple[Kubeflow, str]:
    """Return the connection to Kubeflow, and its version."""
    kubeflow = Kubeflow(options.host, TokenSource.find(options.token_file), options.namespace, options.certificate)
    return kubeflow, kubeflow.check()


def _follow_existing(identity: str, options: Options, console: Console) -> None:
    """Follow an existing run."""
    try:
        run_verdict.require_mlflow("--follow")
        kubeflow, _ = _connected(options)
    except UsageError:
        raise
    except MetsegError as error:
        raise NotKnown(f"{error}. {unknown_state(identity)}") from error
    print(f"Run {kubeflow.page(f'runs/details/{identity}')}", flush=True)
    _follow(Follower(kubeflow, identity, console))


def _set_up() -> None:
    """Show metseg's log lines on the terminal, but none of its libraries."""
    apply_defaults()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    for ours in ("metseg", "pipelines"):
        logging.getLogger(ours).setLevel(logging.INFO)
    for noisy in ("urllib3", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for variable, limit in MLFLOW_RETRIES.items():
        os.environ.setdefault(variable, limit)


def _order(options: Options) -> Submission:
    values = profile(options.profile or "") | parse(options.param)
    check_reference(str(values.get(REFERENCE, "")))
    checked = check(values)
    ready = package(options.images or "", compiled_for(checked.architectures))
    parameters = pack(values)
    cron = Cron.parse(options.cron) if options.cron else None
    if options.images and not options.dry_run:
        check_images(ready.images)
    model = checked.model.name
    run_name = str(parameters.get(RUN_NAME, ""))
    if options.name and run_name not in ("", options.name) and cron is None:
        raise UsageError(f"--name {options.name} and --param {RUN_NAME}={run_name}: a run has one name; leave one out")
    given = options.name or run_name
    name = given or default_name(model, options.cron or "")
    request = RunRequest(name, {**parameters, RUN_NAME: name}, None if given else default_names(model))
    return Submission(ready, parameters, name, None if cron else request, cron)


def _show(order: Submission, console: Console) -> None:
    """Show the action without doing it."""

    def show(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    show(f"Would be uploaded, unless it exists already: {order.package.name} version {order.package.version}")
    for image, state in image_states(order.package.images):
        show(f"  image {image}: {state}")
    if order.cron is not None:
        there = schedules.zone()
        following = order.cron.next(there.now())
        when = f"next at {schedules.moment(following, there)}" if following else "never"
        show(f"Would be scheduled: {order.name}, {when} ({there.text})")
    else:
        show(f"Would be started: {order.name}")
    sent = order.request.parameters if order.request else order.parameters
    for name, value in sorted(sent.items()):
        show(f"  {name} = {value!r}")
    show("Nothing was sent to Kubeflow.")


def _begin(order: Submission, kubeflow: Kubeflow, options: Options, console: Console) -> None:
    """Start the run and follow it on request, or create the schedule."""
    if order.cron is not None:
        there = schedules.zone()
        made = schedules.schedule(kubeflow, order.package, order.parameters, order.name, order.cron)
        following = order.cron.next(there.now())
        print(f"Schedule {made.page}")
        print(f"Next at {schedules.moment(following, there) if following else '–'} ({there.text})", flush=True)
        return
    assert order.request is not None
    started = start(kubeflow, order.package, order.request, options.again)
    print(f"Run {started.page}", flush=True)
    if options.wait:
        submitted = Specification.from_documents(order.package.documents)
        _follow(Follower(kubeflow, started.identity, console, submitted))


def _follow(follower: Follower) -> None:
    """Follow a run to its end and print its verdict."""
    try:
        ended = follower.follow()
    except RunFailed as failed:
        run_verdict.mark_ended(follower.run, "KILLED" if failed.terminated else "FAILED")
        raise
    except KeyboardInterrupt:
        print(f"metseg: no longer followed. {follower.continues()}", file=sys.stderr)
        raise
    if page := run_verdict.mlflow_page(ended):
        print(f"MLflow {page}")
    print(run_verdict.verdict(follower.run))


def _list(kubeflow: Kubeflow, console: Console) -> None:
    there = schedules.zone()
    rows = schedules.listed(kubeflow, there)
    if not rows:
        print("no schedules; metseg submit --cron '0 3 * * 1' creates one")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "state", "times", "next run", "last run"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table, markup=False, highlight=False)
    print(f"Times: minute, hour, day, month, weekday, in {there.text}")
