"""What is waited for, and for how long."""

from __future__ import annotations

import errno
import socket
import ssl
import time
import urllib.request

import pytest

from metseg.errors import UsageError
from metseg.process_environment import apply_defaults
from metseg.retry_deadline import away, hopeless, insist, patience
from tests.serving.ports import free_port


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KFP_POD_NAME", "METSEG_PATIENCE_SECONDS", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, "")  # so that what the door sets is taken back
        monkeypatch.delenv(name)


def test_a_pod_waits_four_minutes_and_a_person_does_not(monkeypatch):
    assert patience() == 0
    monkeypatch.setenv("KFP_POD_NAME", "metseg-training-x")
    assert patience() == 240
    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "30")
    assert patience() == 30
    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", "4 min")
    with pytest.raises(UsageError, match="METSEG_PATIENCE_SECONDS"):
        patience()


@pytest.mark.parametrize(
    ("seconds", "retries"), [("0", 0), ("1", 2), ("240", 7), ("300", 8), ("600", 10), ("9999", 10)]
)
def test_mlflow_waits_as_long_by_its_own_means(monkeypatch, seconds, retries):
    """Its pauses double from 4 seconds on, the first retry has none, none is over 120, and ten are the most."""
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

    monkeypatch.setenv("METSEG_PATIENCE_SECONDS", seconds)
    apply_defaults()
    assert MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == retries


def test_mlflow_keeps_its_own_patience_unless_told_otherwise(monkeypatch):
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES

    monkeypatch.setenv("KFP_POD_NAME", "metseg-training-x")
    apply_defaults()
    assert not MLFLOW_HTTP_REQUEST_MAX_RETRIES.is_set() and MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 7


def met(address: str) -> Exception:
    with pytest.raises(Exception) as raised:
        urllib.request.urlopen(address, timeout=5)
    return raised.value


def test_a_port_that_nobody_listens_on_is_away_and_a_host_that_does_not_exist_is_hopeless():
    refused = met(f"http://127.0.0.1:{free_port()}")
    unknown = met("http://no-such-host.invalid")
    assert away(refused.reason) and not hopeless(refused.reason)  # type: ignore[attr-defined]
    assert hopeless(unknown.reason) and not away(unknown.reason)  # type: ignore[attr-defined]


def test_a_name_server_that_is_busy_passes_and_a_certificate_or_a_full_disk_does_not():
    assert away(socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"))
    untrusted = ConnectionError()
    untrusted.__cause__ = ssl.SSLCertVerificationError("self-signed certificate")
    for error in (untrusted, OSError(errno.ENOSPC, "No space left on device")):
        assert hopeless(error) and not away(error)
    assert not away(ValueError("shapes (3,) and (4,)"))


def test_what_is_asked_for_again_is_asked_until_the_time_is_over(monkeypatch):
    monkeypatch.setattr("metseg.retry_deadline.LOOK_SECONDS", 0.1)
    began = time.monotonic()

    def ask() -> str:
        if time.monotonic() - began < 0.5:
            raise ConnectionError
        return "answer"

    with pytest.raises(ConnectionError):
        insist(ask, (ConnectionError,))
    assert insist(ask, (ConnectionError,), seconds=5) == "answer"
    began = time.monotonic()
    with pytest.raises(ConnectionError):
        insist(ask, (TimeoutError,), seconds=5)
    assert time.monotonic() - began < 0.4, "another error is none to wait for"
