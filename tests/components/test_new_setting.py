"""A new training setting is written in one place, the class that owns it: a copy of the code gets one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

CLASS = Path("metseg/training/configuration.py")
DESCRIBED = ("        seed: of initial weights", "        smoothing: share of the labels that is spread evenly.\n")
FIELD = ("    seed: int = 2023\n", "    smoothing: float = 0.0\n")

PROGRAM = """
import sys
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

from components.check import task
from components.configuration.parsing import pack, parse
from components.configuration.settings import Configuration
from metseg.training.configuration import TrainingConfiguration
from metseg.training.result_records import TrainingRecord
from metseg.tuning.search_space import parse_search
from pipelines.compiling import COMPILED, compile_pipeline
from tests.training_records import training_record

folder = Path(sys.argv[1])
values = parse(["data_reference=s3://scans/a", "train_smoothing=0.1"])
form = pack(values)
assert form == {"data_reference": "s3://scans/a", "train_options": '{"smoothing": 0.1}'}
task.executing = lambda step, path: __import__("contextlib").nullcontext(Path(path))
task.check("nested_unet,attention_unet", SimpleNamespace(path=str(folder)), **form)
training = Configuration.read(folder).training("attention_unet")
assert training.smoothing == 0.1 and training.digest() != TrainingConfiguration("attention_unet").digest()
training_record("attention_unet", configuration=training).write(folder / "training.json")
assert TrainingRecord.read(folder / "training.json").configuration == training
(dimension,) = parse_search(["train_smoothing=0..0.2"], lambda name, text: float(text))
assert dimension.name == "train_smoothing"
assert compile_pipeline(folder / "training.yaml").read_text() == COMPILED.read_text()
from components.configuration.settings_table import markdown
assert "| `train_smoothing` | `0.0` | train_options | Share of the labels that is spread evenly. |" in markdown()
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The code with one more setting: a line in the class, and a line in its docstring."""
    for name in ("components", "metseg", "models", "pipelines", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.xz"))
    owner = tmp_path / CLASS
    text = owner.read_text(encoding="utf-8")
    for before, added in (DESCRIBED, FIELD):
        assert text.count(before) == 1
        text = text.replace(before, added + before)
    owner.write_text(text, encoding="utf-8")
    return tmp_path


def test_a_new_setting_is_a_line_in_its_class_and_one_in_its_docstring(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    environment = {**os.environ, "PYTHONPATH": str(copy), "METSEG_GIT_COMMIT": "0" * 40}
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "out")]
    ended = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
