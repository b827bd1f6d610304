"""What MLflow says reaches a command line, path or address only in a form that is known to be harmless."""

from __future__ import annotations

import pytest

from metseg.errors import MetsegError
from metseg.tracking import registry_values
from metseg.tracking.container_registry import ImageName, image_exists, trusted_registries
from metseg.tracking.tracking_address import shown
from tests.tracking.image_server import running

DIGITS = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    "text", ["--output=/x", DIGITS[:31], DIGITS + "0", DIGITS.upper(), "../../x", DIGITS + "\n", ""]
)
def test_only_32_hexadecimal_digits_are_a_run(text):
    assert registry_values.require_run(DIGITS) == DIGITS
    with pytest.raises(MetsegError, match="no run's id"):
        registry_values.require_run(text)


@pytest.mark.parametrize("text", ["", "..", ".", ".x", "-x", "a/b", "a\\b", "a:b", "a\n", "a\x00", " a", "a" * 300])
def test_only_one_part_of_a_path_is_a_models_name(text):
    assert registry_values.require_model_name("Läsionen v2 (T1c)") == "Läsionen v2 (T1c)"
    with pytest.raises(MetsegError, match="rename it"):
        registry_values.require_model_name(text)


@pytest.mark.parametrize(
    ("text", "number"), [("3", 3), ("0", None), ("-1", None), ("x", None), ("١", None), ("1e9", None)]
)
def test_only_decimal_digits_are_a_version(text, number):
    assert registry_values.version_number(text) == number


MLFLOW = "https://mlflow.example.org:5000"
SOURCES = {
    "mlflow-artifacts:/1/models/m-1/artifacts": True,
    "mlflow-artifacts://mlflow.example.org:5000/1/x": True,
    "mlflow-artifacts://169.254.169.254/1/x": False,
    "mlflow-artifacts://mlflow.example.org:22/1/x": False,
    "file:///srv/artifacts/1": True,
    "/srv/artifacts/1": True,
    "file://other.example.org/share": False,
    "s3://bucket/mlflow/1": True,
    "models:/m-1": True,
    "http://169.254.169.254/latest": False,
    "https://mlflow.example.org:5000/x": False,
    "ftp://example.org/x": False,
    "sftp://example.org/x": False,
    "hdfs://example.org/x": False,
    "wasbs://container@account.blob.example.org/x": False,
    "dbfs:/x": False,
}


@pytest.mark.parametrize(("source", "trusted"), SOURCES.items())
def test_artifacts_are_fetched_from_mlflow_itself_a_folder_or_a_bucket(source, trusted):
    if trusted:
        assert registry_values.require_source(source, MLFLOW) == source
    else:
        with pytest.raises(MetsegError, match="leads to another server"):
            registry_values.require_source(source, MLFLOW)


@pytest.mark.parametrize(
    "name", ["--format=x", "-v", "", "a b", "a;b", "Host/UPPER", "a@b", "a:b:c/d", "a\n", "//a",
             "user:password@host/a", "host/a?x=1", "host/../a", "a@sha256:12"],
)  # fmt: skip
def test_only_the_name_of_an_image_is_looked_up(name):
    with pytest.raises(MetsegError, match="no image's name"):
        ImageName.parse(name)


@pytest.mark.parametrize("configured", ["", "metseg/", "registry.example.org/imaging/"])
def test_a_tag_leads_to_no_request_to_an_address_that_it_chooses(monkeypatch, configured):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("METSEG_IMAGE_PREFIX", configured)
    with running() as server:
        assert image_exists(server.image, trusted_registries()) is None
        assert server.requests == []
        monkeypatch.setenv("METSEG_IMAGE", f"{server.host}/metseg/serve:1")
        assert image_exists(server.image, trusted_registries()) is True and server.requests


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("https://me:secret@host:5000/x?token=secret", "https://host:5000/x"),
        ("postgresql://u:a@b:secret@db/mlflow?password=secret", "postgresql://db/mlflow"),
        ("me:secret@host:5000", "host:5000"),
        ("sqlite:////var/mlflow.db", "sqlite:////var/mlflow.db"),
    ],
)
def test_an_address_is_shown_without_its_login(uri, expected):
    assert shown(uri) == expected
