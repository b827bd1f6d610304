"""Trials of being killed while publishing: what must hold after every SIGKILL, and after the next start."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc
import numpy as np

from metseg.saved_model_digest import saved_model_digest
from metseg.serving.client import ModelClient
from tests.serving.reconciliation.killing import Reconciling
from tests.serving.reconciliation.laboratory import FACTORS, Laboratory, answer, request, stub_of
from tests.serving.server_process import ServerProcess

UNFIT = ({"golden": 0.6}, {"golden": 0.3}, {"gate": "rejected"}, {"digest": "0" * 64})


FOLDER, CONVERGENCE, ANSWERS = "folder", "convergence", "answers"
"""What may go wrong: what lies where a server looks, what the next start makes of it, what `stable` answers."""


@dataclass
class Findings:
    """What went wrong, in words, by topic, and how often what was seen."""

    wrong: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: Counter[str] = field(default_factory=Counter)

    def require(self, topic: str, holds: bool, what: str) -> None:
        if not holds:
            self.wrong[topic].append(what)


class Watcher:
    """Asks `stable` all the time; every answer must be that of one version that is fit.

    Args:
        address: the model server.
        name: the model.
        factors: factor of each version that may answer, read anew for every answer.
        findings: told of every other answer.
    """

    def __init__(self, address: str, name: str, factors: dict[int, float], findings: Findings) -> None:
        self._address, self._name, self._factors, self._findings = address, name, factors, findings
        self._end = threading.Event()
        self._pause = threading.Event()
        self._asking = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def pause(self) -> None:
        """Ask no more until `resume`; returns when nothing is in flight."""
        self._pause.set()
        with self._asking:
            pass

    def resume(self) -> None:
        self._pause.clear()

    def _watch(self) -> None:
        image = request(7)
        with stub_of(self._address) as ask:
            while not self._end.wait(0.01):
                with self._asking:
                    if not self._pause.is_set():
                        self._look(ask, image)

    def _look(self, ask: object, image: np.ndarray) -> None:
        try:
            version, probability = ask(self._name, "stable", image)  # type: ignore[operator]
        except grpc.RpcError as error:
            self._findings.require(ANSWERS, False, f"stable did not answer: {error.code()} {error.details()}")
            return
        except AssertionError as error:
            self._findings.require(ANSWERS, False, str(error))
            return
        self._findings.counts["answers"] += 1
        factor = self._factors.get(version)
        right = factor is not None and np.allclose(probability, answer(image, factor), atol=1e-6)
        self._findings.require(ANSWERS, right, f"stable answered as version {version}, which is not fit, or mixed")


class KillingTrials:
    """Champions are moved, and the reconciler that should follow is killed.

    Args:
        laboratory: registry and folder.
        server: `metseg serve` on that folder.
        name: a model that is not registered yet.
        seed: decides versions and moments.
    """

    def __init__(self, laboratory: Laboratory, server: ServerProcess, name: str, seed: int) -> None:
        self.findings = Findings()
        self._laboratory, self._server, self._name = laboratory, server, name
        self._random = random.Random(seed)
        self._fit: dict[int, float] = {}
        self._digests = {
            factor: saved_model_digest(saved_model) for factor, saved_model in laboratory.saved_models.items()
        }
        self._champion = 0
        self._seconds = 1.0

    def _register(self, unfit: dict[str, object] | None = None) -> int:
        factor = FACTORS[len(self._laboratory.factors) % len(FACTORS)]
        number = self._laboratory.register(self._name, factor, **(unfit or {}))  # type: ignore[arg-type]
        if unfit is None:
            self._fit[number] = factor
        return number

    def run(self, kills: int, restart_every: int) -> Findings:
        """Kill so many reconcilers at random moments; the server is killed and started again now and then, too."""
        for _ in range(3):
            self._register()
        environment = self._laboratory.environment()
        with Reconciling(self._server.address, self._name, environment) as reconciling:
            self._settle(reconciling, 1)
            _, self._seconds = self._settle(reconciling, 2)
            with Watcher(self._server.address, self._name, self._fit, self.findings) as watcher:
                while self.findings.counts["kills"] < kills:
                    self._trial(reconciling)
                    if self.findings.counts["trials"] % restart_every == 0:
                        watcher.pause()
                        self._restart_server()
                        watcher.resume()
        return self.findings

    def _settle(self, reconciling: Reconciling, number: int) -> tuple[int, float]:
        self._laboratory.point(self._name, "champion", number)
        code, seconds = reconciling.finished()
        self._champion = number
        self.findings.require(CONVERGENCE, code == 0, f"an undisturbed reconciler ended with {code}")
        return code, seconds

    def _trial(self, reconciling: Reconciling) -> None:
        """One to five kills on the way to one version, then one that finishes."""
        self.findings.counts["trials"] += 1
        unfit = self._random.random() < 0.3
        wanted = self._wanted(unfit)
        self.findings.counts["unfit"] += unfit
        self._laboratory.point(self._name, "champion", wanted)
        for _ in range(self._random.randint(1, 5)):
            if not reconciling.killed_after(self._random.uniform(0, 1.1 * self._seconds)):
                self.findings.counts["finished before the kill"] += 1
                break
            self.findings.counts["kills"] += 1
            self.findings.counts[f"killed {self._stage(wanted)}"] += 1
            self._check_folder()
        code, _ = reconciling.finished()
        if not unfit:
            self._champion = wanted
        # 1: refused just now; 0, where it was refused before the kill.
        right = code in (0, 1) if unfit else code == 0
        self.findings.require(CONVERGENCE, right, f"the start after a kill ended with {code}")
        self._check_folder()
        self._check_converged()

    def _wanted(self, unfit: bool) -> int:
        """A version that is not champion now, mostly one whose folder was pruned, so that it is published again."""
        if unfit:
            wrong = self._random.choice(UNFIT)
            self.findings.counts[f"unfit {next(iter(wrong))}"] += 1
            return self._register(dict(wrong))
        published = self._laboratory.volume.published(self._name)
        fit = [number for number in self._fit if number != self._champion]
        return self._random.choice([number for number in fit if number not in published] or fit)

    def _stage(self, wanted: int) -> str:
        """How far the killed one had come, as its traces tell."""
        volume = self._laboratory.volume
        if list(volume.root.glob(f"{self._name}/.metseg-publishing-*")):
            return "while copying or removing a version"
        if wanted in volume.served(self._name).versions:
            return "with the file written"
        if wanted in volume.published(self._name):
            return "while loading or comparing"
        if list(volume.root.glob(".metseg-download-*")):
            return "while downloading"
        return "before or after publishing"

    def _check_folder(self) -> None:
        """No version is broken, and the file names none that is not there or not fit."""
        volume = self._laboratory.volume
        for number in volume.published(self._name):
            registered = self._digests[self._laboratory.factors[self._name, number]]
            whole = saved_model_digest(volume.base(self._name) / str(number)) == registered
            self.findings.require(FOLDER, whole, f"version {number} is published broken")
        served = volume.served(self._name)
        self.findings.require(
            FOLDER,
            set(served.labels.values()) <= set(served.versions) <= set(volume.published(self._name)),
            f"the configuration file names what is not there: {served}",
        )
        self.findings.require(
            FOLDER, set(served.versions) <= set(self._fit), f"the file holds what is not fit: {served}"
        )

    def _check_converged(self) -> None:
        with ModelClient(self._server.address, 60, retry_delays=()) as server:
            stable, available = server.labelled_version(self._name, "stable"), server.available(self._name)
        self.findings.require(CONVERGENCE, stable == self._champion, f"stable is {stable}, expected {self._champion}")
        aliases = self._laboratory.pointed(self._name)
        self.findings.require(CONVERGENCE, aliases["champion"] == self._champion, f"aliases {aliases}")
        kept = {self._champion, aliases["previous"]}
        published = set(self._laboratory.volume.published(self._name))
        self.findings.require(
            CONVERGENCE, available == published == kept, f"{available} loaded, {published} published, {kept} kept"
        )
        left = [path.name for path in self._laboratory.volume.root.rglob(".metseg-*") if path.is_dir()]
        self.findings.require(CONVERGENCE, not left, f"left behind: {left}")

    def _restart_server(self) -> None:
        """A server that is started again comes up with the champion, before any reconciler has looked."""
        self._server.restart()
        self.findings.counts["server restarts"] += 1
        deadline = time.monotonic() + 30
        with ModelClient(self._server.address, 60, retry_delays=()) as server:
            while server.labelled_version(self._name, "stable") != self._champion and time.monotonic() < deadline:
                time.sleep(0.1)
            stable = server.labelled_version(self._name, "stable")
        self.findings.require(CONVERGENCE, stable == self._champion, f"the restarted server's stable is {stable}")
