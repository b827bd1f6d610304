"""Loading and unloading of versions after the content of the base paths.

One thread polls, loads and unloads, so that versions change one at a time. A new version is available before the one
it replaces is unloaded, and a version that cannot be loaded replaces nothing (TF Serving:
core/availability_preserving_policy.cc).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metseg.serving.server.flags import ServerOptions
from metseg.serving.server.metrics import LOAD_ATTEMPTS, LOAD_LATENCY, Metrics
from metseg.serving.server.saved_model import LoadedModel
from metseg.serving.server.servables import Servable, ServableTable
from metseg.serving.server.status import StatusError, status_of
from metseg.serving.server.warmup import warm_up

LOGGER = logging.getLogger(__name__)

_MICROSECONDS = 1e6


@dataclass
class _Failure:
    """A version that failed to load; `next_attempt` is a time of the monotonic clock."""

    error: StatusError
    attempts: int
    next_attempt: float


class BasePathWatcher:
    """Loads and unloads versions of models, in a thread of its own."""

    def __init__(self, options: ServerOptions, table: ServableTable, metrics: Metrics) -> None:
        self._options = options
        self._table = table
        self._metrics = metrics
        self._models: list[Any] = []
        self._failures: dict[tuple[str, int], _Failure] = {}
        self._warnings: dict[str, str] = {}
        self._changed = threading.Condition()
        self._requested = 0
        self._completed = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="base-path-watcher", daemon=True)

    def start(self, models: list[Any]) -> None:
        """Load the versions of the models (ModelConfig), then watch in the background."""
        self._models = models
        self._poll()
        self._thread.start()

    def replace(self, models: list[Any], *, wait: bool) -> None:
        """Watch these models instead; `wait` until their base paths are polled and loading is tried."""
        with self._changed:
            self._models = models
            self._requested += 1
            mine = self._requested
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(lambda: self._completed >= mine or self._stopped)

    def stop(self) -> None:
        """Stop watching; versions stay loaded."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def failure_text(self, name: str) -> str:
        """Return the reasons for which no version of a model is loaded; empty if unknown."""
        errors = [
            f"version: {version} due to error: {failure.error}"
            for (model, version), failure in sorted(self._failures.items())
            if model == name
        ]
        return "; ".join(errors) or self._warnings.get(name, "")

    def _watch(self) -> None:
        seconds = self._options.file_system_poll_wait_seconds or None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._requested > self._completed, timeout=seconds)
                if self._stopped:
                    return
                requested = self._requested
            try:
                self._poll()
            except Exception:
                LOGGER.exception("polling the base paths failed; trying again at the next poll")
            with self._changed:
                self._completed = requested
                self._changed.notify_all()

    def _poll(self) -> None:
        models = list(self._models)
        for model in models:
            aspired = aspired_versions(Path(model.base_path), model.model_version_policy)
            self._warn_once(model, aspired)
            if aspired is not None:
                self._update(model.name, aspired)
        known = self._table.names() | {name for name, _ in self._failures}
        for name in known - {model.name for model in models}:
            self._update(name, {})

    def _update(self, name: str, aspired: dict[int, Path]) -> None:
        """Load the aspired versions, highest first; then unload the others."""
        self._forget_failures(name, aspired)
        self._unload_others(name, aspired)
        for version in sorted(aspired, reverse=True):
            if self._stopped:
                return
            if version not in self._table.available(name) and self._is_due(name, version):
                self._load(name, version, aspired[version])
                self._unload_others(name, aspired)

    def _unload_others(self, name: str, aspired: dict[int, Path]) -> None:
        available = self._table.available(name)
        if aspired and not available & set(aspired):
            return
        for version in sorted(available - set(aspired)):
            self._table.unload(name, version)

    def _load(self, name: str, version: int, path: Path) -> None:
        began = time.monotonic()
        self._table.set_loading(name, version)
        try:
            model = self._load_warm(path)
        except Exception as error:
            self._note_failure(name, version, path, status_of(error, f"loading {name} version {version}"))
        else:
            self._failures.pop((name, version), None)
            self._table.set_available(Servable(name, version, model))
            LOGGER.info("loaded %s version %d from %s in %.1f s", name, version, path, time.monotonic() - began)

    def _load_warm(self, path: Path) -> LoadedModel:
        """Return the model of a folder after its warm-up; raises StatusError."""
        began = time.monotonic()
        try:
            model = LoadedModel(path, self._options)
        except StatusError:
            self._metrics.add(LOAD_ATTEMPTS, str(path), "fail")
            raise
        self._metrics.add(LOAD_ATTEMPTS, str(path), "success")
        self._metrics.add_time(LOAD_LATENCY, str(path), since=began)
        if self._options.enable_model_warmup:
            try:
                iterations = self._options.num_request_iterations_for_warmup or 1
                warm_up(model, path, iterations, self._metrics)
            except BaseException:
                model.close()
                raise
        return model

    def _note_failure(self, name: str, version: int, path: Path, error: StatusError) -> None:
        previous = self._failures.get((name, version))
        attempts = previous.attempts + 1 if previous else 1
        wait = max(self._options.load_retry_interval_micros, 0) / _MICROSECONDS
        self._failures[name, version] = _Failure(error, attempts, time.monotonic() + wait)
        if attempts > self._options.max_num_load_retries:
            self._table.set_failed(name, version, error)
            LOGGER.error("loading %s version %d from %s failed permanently: %s", name, version, path, error)
        else:
            LOGGER.warning(
                "loading %s version %d from %s failed (try again in %g s): %s", name, version, path, wait, error
            )

    def _is_due(self, name: str, version: int) -> bool:
        failure = self._failures.get((name, version))
        if failure is None:
            return True
        return failure.attempts <= self._options.max_num_load_retries and time.monotonic() >= failure.next_attempt

    def _forget_failures(self, name: str, aspired: dict[int, Path]) -> None:
        for model, version in list(self._failures):
            if model == name and version not in aspired:
                failure = self._failures.pop((model, version))
                self._table.set_failed(name, version, failure.error)

    def _warn_once(self, model: Any, aspired: dict[int, Path] | None) -> None:
        missing = set(model.model_version_policy.specific.versions) - set(aspired or {})
        if aspired is None:
            warning = f"Could not find base path {model.base_path} for servable {model.name}"
        elif not aspired:
            warning = (
                f"No versions of servable {model.name} found under base path {model.base_path}. "
                "Did you forget to name your leaf directory as a number (eg. '/1/')?"
            )
        elif missing:
            warning = f"versions {sorted(missing)} of {model.name} are not under {model.base_path}"
        else:
            warning = ""
        if warning and warning != self._warnings.get(model.name):
            LOGGER.warning("%s", warning)
        self._warnings[model.name] = warning


_VERSION = re.compile(r"-?[0-9]+")
_LARGEST = 2**63


def aspired_versions(base_path: Path, policy: Any) -> dict[int, Path] | None:
    """Return the folder of each version to serve (TF Serving: file_system_storage_path_source.cc).

    Args:
        base_path: the folder of the versions; only children named by an integer count.
        policy: ServableVersionPolicy: `latest` (one, or `num_versions`), `all` or `specific`; unset: the latest one.

    Returns:
        None if the base path is missing or cannot be read: the loaded versions then stay.
    """
    try:
        names = sorted(child.name for child in base_path.iterdir())
    except OSError:
        return None
    children = {int(name): base_path / name for name in names if _is_version(name)}
    match policy.WhichOneof("policy_choice"):
        case "all":
            selected = set(children)
        case "specific":
            selected = set(policy.specific.versions)
        case _:
            selected = set(sorted(children)[-max(policy.latest.num_versions, 1) :])
    return {version: path for version, path in children.items() if version in selected}


def _is_version(name: str) -> bool:
    return _VERSION.fullmatch(name) is not None and -_LARGEST <= int(name) < _LARGEST
