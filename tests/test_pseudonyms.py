"""Pseudonyms follow from the key alone, and the key is kept from others."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest

from metseg.dataset.data_cache import DataCache
from metseg.dataset.ingest import ingest
from metseg.errors import UsageError
from metseg.process_environment import prepare
from metseg.pseudonyms import KEY_FILE, Pseudonyms, naming
from metseg.settings import Settings
from tests.dataset.cohorts import brats_cohort
from tests.imaging.dicom_cohorts import Study, head, write_segmentation, write_series


def test_pseudonyms_depend_on_the_key_the_number_and_its_issuer() -> None:
    one, other = Pseudonyms(b"one key that is long enough"), Pseudonyms(b"other key that is long enough")
    # `printf 'patient\\0004711\\000north' | openssl dgst -sha256 -hmac 'one key that is long enough'`
    assert one.patient("4711", "north") == "P59164ead4eee1749"
    assert one.patient(" 4711 ") == one.patient("4711")
    assert len({one.patient("4711"), one.patient("4712"), one.patient("4711", "x"), other.patient("4711")}) == 4
    assert one.patient("a", "b") != one.patient("ab")
    assert pydicom.uid.UID(one.uid("1.2.3")).is_valid and one.uid("1.2.3").startswith("2.25.")
    assert one.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert "key" not in repr(one).lower()


def test_the_key_is_made_once_and_kept_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    monkeypatch.delenv("METSEG_PSEUDONYM_KEY", raising=False)
    settings = Settings.from_environment()
    with caplog.at_level(logging.INFO, "metseg"):
        first = Pseudonyms.from_environment(settings)
    path = settings.state / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and [entry.name for entry in settings.state.iterdir()] == [
        KEY_FILE
    ]
    assert str(path) in caplog.text and first.key.decode() not in caplog.text
    assert Pseudonyms.from_environment(settings) == first
    path.chmod(0o640)
    with pytest.raises(UsageError, match="chmod 600"):
        Pseudonyms.from_environment(settings)
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "given")
    with caplog.at_level(logging.WARNING, "metseg"):
        assert Pseudonyms.from_environment(settings).key == b"given"
    assert "can be guessed" in caplog.text


def from_variable(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", text)


def from_mounted_file(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what `prepare` sets is undone after the test.
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "")
    monkeypatch.delenv("METSEG_PSEUDONYM_KEY")
    (folder / "mounted" / "pseudonyms").mkdir(parents=True)
    (folder / "mounted" / "pseudonyms" / "key").write_bytes(text.encode())
    prepare(folder / "mounted")


def from_state_folder(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("METSEG_PSEUDONYM_KEY", raising=False)
    path = Settings.from_environment().state / KEY_FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(text.encode())
    path.chmod(0o600)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", " \n\n"], ids=repr)
@pytest.mark.parametrize("way", [from_variable, from_mounted_file, from_state_folder])
def test_a_key_gives_the_same_names_whatever_ends_it(
    way: Callable[[str, Path, pytest.MonkeyPatch], None], ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    way("one key that is long enough" + ending, tmp_path, monkeypatch)
    # The constant of openssl above.
    assert Pseudonyms.from_environment().patient("4711", "north") == "P59164ead4eee1749"
    given = naming()
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "one key that is long enough")
    assert naming() == given


@pytest.mark.parametrize("way", [from_variable, from_state_folder])
def test_a_blank_key_is_refused(
    way: Callable[[str, Path, pytest.MonkeyPatch], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))
    way("\n", tmp_path, monkeypatch)
    with pytest.raises(UsageError, match=r"is blank\. Set it|is empty\. Restore it"):
        Pseudonyms.from_environment()


def test_two_runs_on_kubeflow_over_one_folder_give_the_same_names_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run has a pod, and so a state folder, of its own; without the key from the Secret nothing is ingested."""
    source = tmp_path / "in"
    for number in range(4):
        study = Study(patient=f"ID{number}", name=f"Name^{number}")
        image, mask = head(number, size=16)
        drawn = write_series(source / f"p{number}" / "t1c", study, image)
        write_segmentation(source / f"p{number}" / "masks" / "seg.dcm", drawn, mask[..., None])
    monkeypatch.setenv("METSEG_KUBEFLOW_RUN", "7c1e")
    monkeypatch.setenv("METSEG_MLFLOW_TRACKING_URI", "http://mlflow.metseg:5000")
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path / "refused"))
    monkeypatch.delenv("METSEG_PSEUDONYM_KEY", raising=False)
    with pytest.raises(UsageError, match=r"openssl rand .*kubectl .*create secret generic metseg-pseudonyms "):
        ingest(str(source), tmp_path / "refused-cohort", cache=DataCache(tmp_path / "refused-cache"))
    assert not (tmp_path / "refused" / "var" / "state" / KEY_FILE).exists()
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "from the Secret, long enough")
    found = []
    for pod in ("one", "two"):
        monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path / pod))
        found.append(ingest(str(source), tmp_path / f"{pod}-cohort", cache=DataCache(tmp_path / f"{pod}-cache")))
    assert found[0].assignments() == found[1].assignments() and len(found[0].assignments()) == 4
    assert [case.case for case in found[0].cases] == [case.case for case in found[1].cases]
    assert not any(name.startswith("ID") for name in found[0].assignments())
    # Other layouts name nobody by default and need no key.
    monkeypatch.delenv("METSEG_PSEUDONYM_KEY")
    brats_cohort(tmp_path / "plain", 3)
    assert len(ingest(str(tmp_path / "plain"), tmp_path / "plain-cohort").cases) == 3
