"""What TensorFlow's libraries log while they are loaded is dropped by its level; last words are passed on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

LIBRARY = r"""
import os
os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
os.write(2, b"I0000 00:00:17.6 1 port.cc:153] oneDNN: you may see floating-point round-off errors\n")
os.write(2, b"E0000 00:00:17.6 1 cuda_dnn.cc:85] Unable to register cuDNN factory\n")
os.write(2, b"F0000 00:00:17.6 1 cpu_feature_guard.cc:1] This machine lacks AVX\n")
os.write(2, b"a library of another make\n")
if os.environ.get("ABORTS"):
    os.abort()
"""
PROGRAM = """
import sys
from metseg.quiet_tensorflow import import_tensorflow
import_tensorflow()
import tensorflow
print("after", file=sys.stderr)
"""


def said(folder: Path, **variables: str) -> list[str]:
    """What a process writes that imports a library of that name."""
    (folder / "tensorflow.py").write_text(LIBRARY)
    given = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", **variables}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=given, cwd=folder, capture_output=True, text=True, timeout=60, check=False
    ).stderr.splitlines()


def test_what_is_below_the_level_is_dropped_and_the_rest_is_not(tmp_path):
    fatal, foreign, after = said(tmp_path, TF_CPP_MIN_LOG_LEVEL="3")
    assert "lacks AVX" in fatal and foreign == "a library of another make" and after == "after"


@pytest.mark.parametrize(("level", "lines"), [("0", 6), ("1", 4), ("2", 4), ("3", 3)])
def test_a_person_sees_what_the_level_asks_for(tmp_path, level, lines):
    assert len(said(tmp_path, TF_CPP_MIN_LOG_LEVEL=level)) == lines


def test_the_last_words_of_a_process_that_is_aborted_are_heard(tmp_path):
    fatal, foreign = said(tmp_path, TF_CPP_MIN_LOG_LEVEL="3", ABORTS="yes")
    assert "lacks AVX" in fatal and foreign == "a library of another make"


def test_what_tensorflow_imports_for_nothing_is_hidden_from_it_alone(tmp_path):
    """Of a package that is hidden, nothing is left behind: it can be imported afterwards."""
    (tmp_path / "pandas.py").write_text("")
    (tmp_path / "tensorflow.py").write_text("try:\n    import pandas\nexcept ImportError:\n    alone = True\n")
    program = PROGRAM + "import pandas\nprint(tensorflow.alone, pandas.__file__)\n"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", str(tmp_path / "pandas.py")], done.stderr
