"""Pseudonyms follow from the key alone, and the key is kept from others."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pydicom
import pytest

from metseg.errors import UsageError
from metseg.privacy import KEY_FILE, Pseudonyms
from metseg.settings import Settings


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
