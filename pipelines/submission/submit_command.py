"""What `metseg submit` does, in its order: check what was typed, ask Kubeflow who it is, then do one thing."""

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
from metseg.commands.promotion import MLFLOW_PATIENCE
from metseg.errors import MetsegError, NotKnown, UsageError
from metseg.option_checks import refuse_empty
from metseg.settings import apply_defaults
from pipelines.compiling import compiled_for
from pipelines.submission import run_verdict, schedules
from pipelines.submission.cron import Cron
from pipelines.submission.kubeflow_client import PORT_FORWARD, Kubeflow
from pipelines.submission.kubeflow_token import TokenSource
from pipelines.submission.pipeline_package import Package, package
from pipelines.submission.pipeline_steps import Specification
from pipelines.submission.run_monitor import Follower, RunFailed, asks_again
from pipelines.submission.submit import (
    REFERENCE,
    RUN_NAME,
    Wish,
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
    """What was typed; None for an option that was not.

    Attributes:
        host: address of Kubeflow.
        param: NAME=VALUE of settings.
        profile: named set of settings, under those of `param`.
        images: TAG or PREFIX:TAG; those of the committed pipeline by default.
        name: of the run or schedule.
        again: whether a run is started beside an unfinished one of that name and parameters.
        dry_run: whether only to show what would be done.
        wait: whether to follow the run that is started.
        follow: id of a run to follow that is there already, or the address of its page.
        cron: times of a schedule to make.
        schedules: whether to list the schedules.
        pause: name of a schedule.
        resume: the same.
        delete: the same.
        namespace: profile, where Kubeflow serves several people.
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
        """Refuse what is empty or contradicts itself; raises UsageError."""
        schedule = {"--cron": self.cron, "--pause": self.pause, "--resume": self.resume, "--delete": self.delete}
        new = {"--profile": self.profile, "--images": self.images, "--name": self.name}
        refuse_empty({**new, "--follow": self.follow, **schedule})
        asked = {"--follow": self.follow, **schedule, "--schedules": self.schedules}
        given = [option for option, value in asked.items() if value]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)}: one thing at a time; leave all but one out")
        if self.wait and given and not self.follow:
            raise UsageError(f"--wait and {given[0]}: a schedule has no end to wait for; leave one of the two out")
        if self.cron and self.again:
            raise UsageError("--again and --cron: a schedule takes the place of one of its name; leave --again out")
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
            raise UsageError(f"{useless[0]} and {given[0]}: nothing new is started with {given[0]}; leave one out")
        if not self.host and not self.dry_run:
            raise UsageError(
                f"--host ADDRESS or KF_PIPELINES_ENDPOINT: whose Kubeflow? Without an address: {PORT_FORWARD}"
            )


@dataclass(frozen=True)
class Order:
    """A run or schedule that is asked for, checked as far as this machine can.

    Attributes:
        package: the pipeline.
        parameters: fields of the pipeline's form that are not to have their default.
        name: of the run or schedule.
        wish: the run, where no schedule is asked for.
        cron: times of the schedule, where one is.
    """

    package: Package
    parameters: dict[str, Any]
    name: str
    wish: Wish | None
    cron: Cron | None


def run(options: Options) -> None:
    """Do what was asked.

    Raises:
        UsageError: it cannot be done as it was asked.
        KubeflowError: Kubeflow does not do it, or the run failed.
        NotRegistered: the run succeeded, and its gate registered nothing.
        NotKnown: the run goes on and is followed no more, or its verdict could not be read.
    """
    _set_up()
    options.check()
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else LOG_WIDTH)
    if options.follow:
        _take_up(run_of(options.follow), options, console)
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
    """The id of a run, from that id or from the address of its page; raises UsageError where there is none in it."""
    page = RUN_PAGE.search(given)
    identity = page[1] if page else re.split(r"[?#&]", given.strip())[0].rstrip("/")
    if not identity or "/" in identity:
        raise UsageError(f"--follow {given}: expected a run's id, or the address of its page")
    return identity


def _connected(options: Options) -> tuple[Kubeflow, str]:
    """Kubeflow at that address, and what it calls its version."""
    kubeflow = Kubeflow(options.host, TokenSource.find(options.token_file), options.namespace, options.certificate)
    return kubeflow, kubeflow.check()


def _take_up(identity: str, options: Options, console: Console) -> None:
    """Follow a run that is there already."""
    try:
        run_verdict.require_mlflow("--follow")
        kubeflow, _ = _connected(options)
    except UsageError:
        raise
    except MetsegError as error:
        raise NotKnown(f"{error}. {asks_again(identity)}") from error
    print(f"Run {kubeflow.page(f'runs/details/{identity}')}", flush=True)
    _follow(Follower(kubeflow, identity, console))


def _set_up() -> None:
    """Have facts and warnings on the terminal, and nothing of the libraries."""
    apply_defaults()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    for ours in ("metseg", "pipelines"):
        logging.getLogger(ours).setLevel(logging.INFO)
    for noisy in ("urllib3", "kubernetes"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    for variable, patience in MLFLOW_PATIENCE.items():
        os.environ.setdefault(variable, patience)


def _order(options: Options) -> Order:
    values = profile(options.profile or "") | parse(options.param)
    check_reference(str(values.get(REFERENCE, "")))
    checked = check(values)
    ready = package(options.images or "", compiled_for(checked.architectures))
    parameters = pack(values)
    cron = Cron.parse(options.cron) if options.cron else None
    if options.images and not options.dry_run:
        check_images(ready.images)
    model = checked.model.name
    called = str(parameters.get(RUN_NAME, ""))
    if options.name and called not in ("", options.name) and cron is None:
        raise UsageError(
            f"--name {options.name} and --param {RUN_NAME}={called}: a run has one name in Kubeflow and MLflow; leave "
            "one out"
        )
    given = options.name or called
    name = given or default_name(model, options.cron or "")
    wish = Wish(name, {**parameters, RUN_NAME: name}, None if given else default_names(model))
    return Order(ready, parameters, name, None if cron else wish, cron)


def _show(order: Order, console: Console) -> None:
    """Say what would be done."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    say(f"Would be uploaded, where it is not there yet: {order.package.name} version {order.package.version}")
    for image, state in image_states(order.package.images):
        say(f"  image {image}: {state}")
    if order.cron is not None:
        there = schedules.zone()
        following = order.cron.next(there.now())
        when = f"next at {schedules.moment(following, there)}" if following else "never"
        say(f"Would be scheduled: {order.name}, {when} ({there.said})")
    else:
        say(f"Would be started: {order.name}")
    sent = order.wish.parameters if order.wish else order.parameters
    for name, value in sorted(sent.items()):
        say(f"  {name} = {value!r}")
    say("Nothing was sent to Kubeflow.")


def _begin(order: Order, kubeflow: Kubeflow, options: Options, console: Console) -> None:
    """Start the run, and follow it where that is asked for; or make the schedule."""
    if order.cron is not None:
        there = schedules.zone()
        made = schedules.schedule(kubeflow, order.package, order.parameters, order.name, order.cron)
        following = order.cron.next(there.now())
        print(f"Schedule {made.page}")
        print(f"Next at {schedules.moment(following, there) if following else '–'} ({there.said})", flush=True)
        return
    assert order.wish is not None
    started = start(kubeflow, order.package, order.wish, options.again)
    print(f"Run {started.page}", flush=True)
    if options.wait:
        submitted = Specification.from_documents(order.package.documents)
        _follow(Follower(kubeflow, started.identity, console, submitted))


def _follow(follower: Follower) -> None:
    """Follow a run to its end and say its verdict."""
    try:
        ended = follower.follow()
    except RunFailed as failed:
        run_verdict.mark_ended(follower.run, "KILLED" if failed.terminated else "FAILED")
        raise
    except KeyboardInterrupt:
        print(f"metseg: no longer followed. {follower.goes_on()}", file=sys.stderr)
        raise
    if page := run_verdict.mlflow_page(ended):
        print(f"MLflow {page}")
    print(run_verdict.verdict(follower.run))


def _list(kubeflow: Kubeflow, console: Console) -> None:
    there = schedules.zone()
    rows = schedules.listed(kubeflow, there)
    if not rows:
        print("no schedules; metseg submit --cron '0 3 * * 1' makes one")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "state", "times", "next run", "last run"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(row.name, row.state, row.when, row.next, row.last)
    console.print(table, markup=False, highlight=False)
    print(f"Times: minute, hour, day, month, weekday, in {there.said}")
