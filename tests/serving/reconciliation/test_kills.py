"""Reconcilers that are killed by SIGKILL at random moments leave nothing broken, and the next one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.serving.reconciliation.laboratory import Laboratory, serving, settings_in
from tests.serving.reconciliation.trials import KillingTrials

pytestmark = pytest.mark.kills


def test_killed_reconcilers_leave_nothing_broken(
    laboratory: Laboratory, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    apart = laboratory.within(settings_in(tmp_path).model_base_path)
    with serving(apart.volume) as server:
        findings = KillingTrials(apart, server, name, seed=5).run(kills=15, restart_every=4)
    assert not findings.wrong
    assert findings.counts["kills"] >= 15 and findings.counts["server restarts"] >= 1
    assert findings.counts["answers"] > 100
