"""The two locks: every file pinned by its hash, and the same versions with CUDA as without."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)", re.MULTILINE)


def pinned(name: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / name).read_text(encoding="utf-8")))


def entries_of(name: str) -> dict[str, list[str]]:
    """Hashes of each requirement, by its name and version."""
    blocks = re.split(r"\n(?=\S)", (ROOT / name).read_text(encoding="utf-8").strip())
    return {
        "==".join(PINNED.findall(block)[0]): sorted(re.findall(r"sha256:[0-9a-f]{64}", block))
        for block in blocks
        if not block.startswith("#")
    }


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


IMAGES = ("data", "train", "serve")


@pytest.mark.parametrize(
    "name", [f"infra/docker/requirements-{image}" for image in IMAGES] + ["tests/containers/requirements-s3"]
)
def test_locks_of_images_are_subsets_of_the_lock_to_the_last_hash(name):
    whole, part = entries_of("requirements.lock"), entries_of(f"{name}.lock")
    assert len(part) > 20
    assert {requirement: whole.get(requirement) for requirement in part} == part


def test_train_with_cuda_is_a_subset_of_the_lock_with_cuda():
    whole, part = entries_of("requirements-cuda.lock"), entries_of("infra/docker/requirements-train-cuda.lock")
    assert {requirement: whole.get(requirement) for requirement in part} == part
    added = set(pinned("infra/docker/requirements-train-cuda.lock")) - set(
        pinned("infra/docker/requirements-train.lock")
    )
    assert {"nvidia-cudnn-cu12", "nvidia-cublas-cu12"} <= added


def test_what_builds_the_images_is_pinned_by_hash():
    assert {requirement.partition("==")[0] for requirement in entries_of("infra/docker/requirements-build.lock")} >= {
        "uv",
        "setuptools",
        "wheel",
    }


def test_images_hold_what_their_weight_allows():
    locks = {image: set(pinned(f"infra/docker/requirements-{image}.lock")) for image in IMAGES}
    assert "tensorflow" in locks["train"] and "keras" in locks["train"]
    for light in ("data", "serve"):
        assert not {"tensorflow", "keras", "jax", "simpleitk"} & locks[light], light
    assert {"great-expectations", "dvc", "mlflow", "flask-wtf", "psycopg2-binary"} <= locks["data"]
    assert {"tensorflow-serving-api", "fastapi", "streamlit", "mlflow-skinny"} <= locks["serve"]
    for image, lock in locks.items():
        assert not {"pytest", "mypy", "ruff", "moto", "playwright"} & lock, image
