"""`metseg doctor` refuses options that would have no effect, before anything is examined."""

from __future__ import annotations

import sys

import pytest

from metseg import cli
from metseg.doctor import machine


@pytest.fixture
def doctor(monkeypatch, capsys):
    """Exit code and message of `metseg doctor` on a machine that lacks nothing and holds no kubectl."""
    monkeypatch.setattr(machine, "examine", lambda *_: [])
    monkeypatch.setenv("PATH", "")

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["metseg", "doctor", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    "arguments",
    [
        ("--probe",),
        ("--namespace-of-runs", "imaging"),
        ("--namespace-of-runs", "kubeflow"),
        ("--context", "production"),
        ("--kubeconfig", "FILE"),
        ("--host", "http://localhost:8080"),
        ("--token-file", "FILE"),
        ("--certificate", "FILE"),
        ("--images", "0.2.0"),
        ("--gpu-type", "amd.com/gpu"),
    ],
)
def test_options_of_a_cluster_are_refused_for_this_machine(doctor, tmp_path, arguments):
    (tmp_path / "file").write_text("")
    code, said = doctor(*(str(tmp_path / "file") if word == "FILE" else word for word in arguments))
    assert code == 2 and f"{arguments[0]} is for a cluster" in said and "add --cluster" in said


def test_docker_is_refused_beside_a_cluster(doctor):
    code, said = doctor("--docker", "--cluster")
    assert code == 2 and "--docker is for this machine" in said and "metseg doctor --docker" in said


@pytest.mark.parametrize("option", ["--token-file", "--certificate"])
def test_what_is_shown_to_an_address_needs_one(doctor, tmp_path, option):
    (tmp_path / "file").write_text("")
    code, said = doctor("--cluster", option, str(tmp_path / "file"))
    assert code == 2 and f"{option} is for Kubeflow's address" in said and "add --host" in said


@pytest.mark.parametrize("option", ["--namespace-of-runs", "--context", "--host", "--images", "--gpu-type"])
def test_empty_values_are_refused(doctor, option):
    code, said = doctor("--cluster", option, "")
    assert code == 2 and f'{option} "": the value is empty' in said


def test_this_machine_is_examined_without_any(doctor):
    assert doctor() == (0, "")
    assert doctor("--docker", "--json") == (0, "")
