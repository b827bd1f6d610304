"""Keeping what is loaded in step with what the base paths hold.

One thread looks, loads and unloads, so that versions change one at a time. A new version is available before the one
it replaces is unloaded, and a version that cannot be loaded replaces nothing (TF Serving:
core/availability_preserving_policy.cc).
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from metseg.serving.server.base_path import aspired_versions
from metseg.serving.server.metrics import LOAD_ATTEMPTS, LOAD_LATENCY, Metrics
from metseg.serving.server.options import ServerOptions
from metseg.serving.server.refusal import Refusal
from metseg.serving.server.saved_model import LoadedModel
from metseg.serving.server.servables import Servable, ServableTable
from metseg.serving.server.warmup import warm_up

LOGGER = logging.getLogger(__name__)

_MICROSECONDS = 1e6


@dataclass
class _Trouble:
    """A version that failed to load."""

    error: Refusal
    failures: int
    next_try: float


class BasePathWatcher:
    """Loads and unloads versions of the models it is told of, until it is stopped."""

    def __init__(self, options: ServerOptions, table: ServableTable, metrics: Metrics) -> None:
        self._options = options
        self._table = table
        self._metrics = metrics
        self._models: list[Any] = []
        self._troubles: dict[tuple[str, int], _Trouble] = {}
        self._warnings: dict[str, str] = {}
        self._changed = threading.Condition()
        self._asked = 0
        self._done = 0
        self._stopped = False
        self._thread = threading.Thread(target=self._watch, name="base-path-watcher", daemon=True)

    def start(self, models: list[Any]) -> None:
        """Load what the base paths of the models (ModelConfig) hold now, then go on watching in the background."""
        self._models = models
        self._look()
        self._thread.start()

    def replace(self, models: list[Any], *, wait: bool) -> None:
        """Watch these models from now on; `wait` until their base paths were looked at and loading was tried."""
        with self._changed:
            self._models = models
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            if wait:
                self._changed.wait_for(lambda: self._done >= mine or self._stopped)

    def stop(self) -> None:
        """Stop watching; versions stay as they are."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def trouble(self, name: str) -> str:
        """Why no version of a model could be loaded, as far as is known."""
        errors = [
            f"version: {version} due to error: {trouble.error}"
            for (model, version), trouble in sorted(self._troubles.items())
            if model == name
        ]
        return "; ".join(errors) or self._warnings.get(name, "")

    def _watch(self) -> None:
        seconds = self._options.file_system_poll_wait_seconds or None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._asked > self._done, timeout=seconds)
                if self._stopped:
                    return
                asked = self._asked
            try:
                self._look()
            except Exception:
                LOGGER.exception("looking at the base paths failed; trying again at the next turn")
            with self._changed:
                self._done = asked
                self._changed.notify_all()

    def _look(self) -> None:
        models = list(self._models)
        for model in models:
            aspired = aspired_versions(Path(model.base_path), model.model_version_policy)
            self._warn_once(model, aspired)
            if aspired is not None:
                self._bring_about(model.name, aspired)
        known = self._table.names() | {name for name, _ in self._troubles}
        for name in known - {model.name for model in models}:
            self._bring_about(name, {})

    def _bring_about(self, name: str, aspired: dict[int, Path]) -> None:
        """Load what is aspired, the highest version first; unload the rest once an aspired version answers."""
        self._forget_troubles(name, aspired)
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
        self._table.loading(name, version)
        try:
            model = self._loaded(path)
        except Refusal as error:
            self._failed(name, version, path, error)
        except Exception as error:
            LOGGER.exception("loading %s version %d met an unexpected error", name, version)
            self._failed(name, version, path, Refusal(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}"))
        else:
            self._troubles.pop((name, version), None)
            self._table.loaded(Servable(name, version, model))
            LOGGER.info("loaded %s version %d from %s in %.1f s", name, version, path, time.monotonic() - began)

    def _loaded(self, path: Path) -> LoadedModel:
        """The model in a folder, warm; raises Refusal."""
        began = time.monotonic()
        try:
            model = LoadedModel(path, self._options)
        except Refusal:
            self._metrics.add(LOAD_ATTEMPTS, str(path), "fail")
            raise
        self._metrics.add(LOAD_ATTEMPTS, str(path), "success")
        self._metrics.add(LOAD_LATENCY, str(path), amount=round((time.monotonic() - began) * _MICROSECONDS))
        if self._options.enable_model_warmup:
            try:
                iterations = self._options.num_request_iterations_for_warmup or 1
                warm_up(model, path, iterations, self._metrics)
            except BaseException:
                model.close()
                raise
        return model

    def _failed(self, name: str, version: int, path: Path, error: Refusal) -> None:
        before = self._troubles.get((name, version))
        failures = before.failures + 1 if before else 1
        wait = max(self._options.load_retry_interval_micros, 0) / _MICROSECONDS
        self._troubles[name, version] = _Trouble(error, failures, time.monotonic() + wait)
        if failures > self._options.max_num_load_retries:
            self._table.failed(name, version, error)
            LOGGER.error("loading %s version %d from %s failed for good: %s", name, version, path, error)
        else:
            LOGGER.warning(
                "loading %s version %d from %s failed (try again in %g s): %s", name, version, path, wait, error
            )

    def _is_due(self, name: str, version: int) -> bool:
        trouble = self._troubles.get((name, version))
        if trouble is None:
            return True
        return trouble.failures <= self._options.max_num_load_retries and time.monotonic() >= trouble.next_try

    def _forget_troubles(self, name: str, aspired: dict[int, Path]) -> None:
        for model, version in list(self._troubles):
            if model == name and version not in aspired:
                trouble = self._troubles.pop((model, version))
                self._table.failed(name, version, trouble.error)

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
