"""The two locks: every file pinned by its hash, and the same versions with CUDA as without."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)", re.MULTILINE)


def pinned(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / name).read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cuda.lock"])
def test_every_requirement_is_pinned_by_hash_and_names_no_registry(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.split(r"\n(?=\S)", text.strip())
    entries = [block for block in blocks if not block.startswith("#")]
    assert len(entries) == len(pinned(name)) > 100
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_cuda_adds_nvidia_and_changes_nothing():
    plain, cuda = pinned("requirements.lock"), pinned("requirements-cuda.lock")
    assert {name: cuda.get(name) for name in plain} == plain
    added = set(cuda) - set(plain)
    assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12", "nvidia-nccl-cu12", "nvidia-ml-py"} <= added
