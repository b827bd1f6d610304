"""What stops a training: no number, too little memory, a full disk. The last good state stays, and a person is told."""

from __future__ import annotations

import errno
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from metseg.dataset.slice_files import RecordFile, write_case_records
from metseg.errors import MetsegError
from metseg.training.batches import SliceStore, draw_batch
from metseg.training.loop import train_heads
from metseg.training.resource_errors import explained
from metseg.training.training_monitor import TrainingDiverged
from tests.conftest import ROOT
from tests.training.tiny import CONFIGURATION, quiet, write_records

SETTINGS = replace(
    CONFIGURATION, epochs=3, steps_per_epoch=2, batch_size=1, lesion_share=1.0, normalization="none", augmentation=False
)


@pytest.fixture
def records(tmp_path) -> Path:
    write_records(tmp_path / "records")
    return tmp_path / "records"


def spoil(records: Path, step: int) -> None:
    """Make the slice of one step of `SETTINGS` hold no numbers."""
    store = SliceStore(records / "train", 0)
    images, _ = draw_batch(store, SETTINGS, step)
    for path in sorted((records / "train").iterdir()):
        record = RecordFile(path)
        pairs = [record.read(row) for row in range(len(record))]
        stack = np.stack([image for image, _ in pairs])
        stack[(stack == images[0]).all(axis=(1, 2, 3))] = np.nan
        write_case_records(path, stack, np.stack([mask for _, mask in pairs]))


def test_an_image_without_numbers_ends_the_training_and_leaves_the_epochs_before_it(records, tmp_path):
    """The loss stays a number: a ReLU answers 0 to what is none."""
    spoil(records, step=3)
    with pytest.raises(
        TrainingDiverged, match=r"weights of attention_unet .* in epoch 2: lower train_learning_rate"
    ) as caught:
        train_heads(records, 0, SETTINGS, tmp_path / "state", quiet)
    assert str(tmp_path / "state") in str(caught.value)
    history = json.loads((tmp_path / "state" / "state.json").read_text())["history"]
    assert len(history) == 1 and (tmp_path / "state" / "best.npz").exists()
    write_records(records)
    _, history = train_heads(records, 0, SETTINGS, tmp_path / "state", quiet)
    assert len(history) == 3


STARVED = """
import json, resource, sys
from pathlib import Path
from metseg.process_environment import apply_defaults
apply_defaults()
from metseg.quiet_tensorflow import import_tensorflow
import_tensorflow()
import tensorflow as tf
from metseg.training.configuration import TrainingConfiguration
from metseg.training.resource_errors import explained
from metseg.training.loop import train_heads
configuration = TrainingConfiguration(**json.loads(sys.argv[3]))
def report(epoch, figures):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    tf.ones([64 << 20])
try:
    train_heads(Path(sys.argv[1]), 0, configuration, Path(sys.argv[2]), report)
except Exception as error:
    print(json.dumps([type(error).__name__, str(explained(error, configuration))]))
"""


def test_too_little_memory_says_what_to_lower(records, tmp_path):
    """256 MB are asked for where 64 are left, in the middle of a training."""
    arguments = [str(records), str(tmp_path / "state"), json.dumps(asdict(SETTINGS))]
    done = subprocess.run(
        [sys.executable, "-c", STARVED, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    kind, told = json.loads(done.stdout.splitlines()[-1])
    assert kind == "ResourceExhaustedError"
    assert "lower train_batch_size (now 1) or train_filters (now 4)" in told
    assert (tmp_path / "state" / "epoch-0001.npz").exists()


@contextmanager
def files_limited() -> Iterator[Callable[[int, dict[str, float]], None]]:
    """An epoch's report, after which no file of this process may grow beyond 20 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        yield lambda epoch, figures: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_leaves_the_last_epoch_whole(records, tmp_path):
    with files_limited() as report, pytest.raises(OSError) as caught:
        train_heads(records, 0, SETTINGS, tmp_path / "state", report)
    assert "the disk is full" in str(explained(caught.value, SETTINGS))
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"best.npz", "epoch-0001.npz", "state.json"}
    _, resumed = train_heads(records, 0, SETTINGS, tmp_path / "state", quiet)
    assert len(resumed) == 3


def test_tensorflow_on_a_full_disk_is_told_from_a_full_memory():
    full = tf.errors.ResourceExhaustedError(None, None, "saved_model.pb; No space left on device")
    assert "the disk is full" in str(explained(full, CONFIGURATION))
    assert "does not fit into memory" in str(explained(MemoryError(), CONFIGURATION))
    assert "(MemoryError)" in str(explained(MemoryError(), CONFIGURATION))


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError(errno.ENOENT, "no file"), MetsegError("told"), KeyboardInterrupt()]
)
def test_what_needs_no_explanation_gets_none(error):
    assert explained(error, CONFIGURATION) is None
