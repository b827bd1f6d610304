"""Our own variables win over those of libraries that another program of the pod is steered by."""

from __future__ import annotations

import logging
import os
import ssl
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from urllib3 import HTTPResponse

from metseg.certificates import READERS, trust_own_authorities
from metseg.errors import UsageError
from metseg.process_environment import FOREIGN_LOGIN, OURS, OVERRULED, QUIET, apply_defaults, origin, prepare
from metseg.settings import Settings
from tests.conftest import ROOT
from tests.dataset.certificates import authority, issue

PLUGIN = {"MLFLOW_RUN_ID": "ab12", "MLFLOW_EXPERIMENT_ID": "7", "MLFLOW_TRACKING_TOKEN": "of-the-plugin"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine, and nothing of a test is left behind."""
    overruled = [name for names in OVERRULED.values() for name in names]
    others = [*overruled, *FOREIGN_LOGIN, "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "https_proxy", "no_proxy"]
    for name in [*os.environ, *OURS, *OURS.values(), *PLUGIN, *READERS, *others]:
        if name.startswith(("MLFLOW_", "METSEG_", "AWS_")) or name in (*READERS, "https_proxy", "no_proxy"):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    monkeypatch.setenv("METSEG_WORKSPACE", str(tmp_path))


def given(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


def test_libraries_see_ours_and_the_others_stay_where_we_name_none(monkeypatch):
    settings = given(
        monkeypatch,
        METSEG_MLFLOW_TRACKING_URI="http://mlflow.metseg:5000",
        METSEG_MLFLOW_USERNAME="pipeline",
        METSEG_MLFLOW_PASSWORD="secret",
        MLFLOW_TRACKING_URI="http://plugins-own:80",
        MLFLOW_TRACKING_TOKEN="of-the-plugin",
        METSEG_S3_ENDPOINT_URL="http://s3.metseg:9000",
        METSEG_S3_REGION="eu-north-1",
        METSEG_S3_ACCESS_KEY_ID="ours",
        METSEG_S3_SECRET_ACCESS_KEY="ours-too",
        AWS_ENDPOINT_URL_S3="http://minio-service.kubeflow:9000",
        AWS_ACCESS_KEY_ID="launchers",
        AWS_SESSION_TOKEN="launchers",
        AWS_REGION="us-west-2",
    )
    assert settings.tracking_uri == "http://mlflow.metseg:5000"
    from mlflow.utils.credentials import get_default_host_creds

    login = get_default_host_creds(settings.tracking_uri)
    assert (login.username, login.password, login.token) == ("pipeline", "secret", None)
    client = boto3.session.Session().client("s3")
    assert client.meta.endpoint_url == "http://s3.metseg:9000" and client.meta.region_name == "eu-north-1"
    keys = client._request_signer._credentials.get_frozen_credentials()
    assert (keys.access_key, keys.secret_key, keys.token) == ("ours", "ours-too", None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_REGISTRY_URI", "http://plugins-own:80"),
        ("MLFLOW_TRACKING_AWS_SIGV4", "true"),
        ("AWS_SECURITY_TOKEN", "launchers"),
        ("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z"),
        ("AWS_PROFILE", "launchers"),
        ("AWS_DEFAULT_PROFILE", "launchers"),
        ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
    ],
)
def test_no_variable_of_the_launcher_is_combined_with_ours(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    settings = given(
        monkeypatch,
        METSEG_MLFLOW_TRACKING_URI="http://mlflow.metseg:5000",
        METSEG_MLFLOW_USERNAME="pipeline",
        METSEG_MLFLOW_PASSWORD="secret",
        METSEG_S3_ENDPOINT_URL="http://s3.metseg:9000",
        METSEG_S3_ACCESS_KEY_ID="ours",
        METSEG_S3_SECRET_ACCESS_KEY="ours-too",
    )
    import mlflow
    from mlflow.utils.credentials import get_default_host_creds

    client = mlflow.MlflowClient(tracking_uri=settings.tracking_uri)
    assert client._registry_uri == "http://mlflow.metseg:5000"
    login = get_default_host_creds(settings.tracking_uri)
    assert (login.username, login.password, login.aws_sigv4) == ("pipeline", "secret", False)
    store = boto3.session.Session().client("s3", region_name="us-east-1")
    keys = store._request_signer._credentials.get_frozen_credentials()
    assert (keys.access_key, keys.secret_key, keys.token) == ("ours", "ours-too", None)
    sent: list[str] = []

    def answered(request, **unused):
        sent.append(request.url)
        return AWSResponse(request.url, 200, {}, HTTPResponse(BytesIO(b"<x/>"), preload_content=False))

    store.meta.events.register("before-send.s3", answered)
    store.list_buckets()
    assert sent == ["http://s3.metseg:9000/"]


def test_a_role_is_asked_for_where_no_keys_are_given(monkeypatch, tmp_path):
    role = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/x", "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token")}
    given(monkeypatch, METSEG_S3_ENDPOINT_URL="https://s3.example.org", **role)
    assert {name: os.environ[name] for name in role} == role
    assert boto3.session.Session().get_credentials().method == "assume-role-with-web-identity"


def test_certificates_of_the_plugins_mlflow_are_not_asked_of_ours(monkeypatch):
    plugins = {
        "MLFLOW_TRACKING_SERVER_CERT_PATH": "/plugin/ca.crt",
        "MLFLOW_TRACKING_CLIENT_CERT_PATH": "/plugin/client.pem",
        "MLFLOW_TRACKING_INSECURE_TLS": "true",
    }
    ours = {"METSEG_MLFLOW_TRACKING_URI": "https://mlflow.metseg"}
    given(monkeypatch, MLFLOW_TRACKING_URI="https://mlflow.kubeflow", **ours, **plugins)
    assert not plugins.keys() & os.environ.keys()
    given(monkeypatch, MLFLOW_TRACKING_URI="https://mlflow.metseg", **ours, **plugins)
    assert plugins.keys() <= os.environ.keys(), "the same server: its certificates are ours"


def test_elsewhere_mlflows_and_amazons_variables_work_as_ever(monkeypatch):
    settings = given(
        monkeypatch, MLFLOW_TRACKING_URI="http://localhost:5000", AWS_ENDPOINT_URL="http://s3:9000", **PLUGIN
    )
    assert settings.tracking_uri == "http://localhost:5000" and os.environ["AWS_ENDPOINT_URL"] == "http://s3:9000"
    assert {name: os.environ[name] for name in PLUGIN} == PLUGIN


@pytest.mark.parametrize(
    ("address", "joined"),
    [
        ("http://mlflow.metseg:5000", True),
        ("http://MLFLOW.metseg:5000/", True),
        ("https://mlflow.metseg:5000", False),
        ("http://mlflow.metseg", False),
        ("http://mlflow.kubeflow:5000", False),
        ("", False),
    ],
)
def test_run_of_the_plugin_is_joined_at_the_same_address_alone(monkeypatch, caplog, address, joined):
    caplog.set_level(logging.INFO)
    given(
        monkeypatch,
        METSEG_MLFLOW_TRACKING_URI="http://mlflow.metseg:5000",
        **({"MLFLOW_TRACKING_URI": address} if address else {}),
        **PLUGIN,
    )
    Settings.from_environment()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://mlflow.metseg:5000"
    left = {name for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID") if name in os.environ}
    assert left == ({"MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"} if joined else set())
    assert ("MLFLOW_TRACKING_TOKEN" in os.environ) is (joined or not address)
    told = [record.getMessage() for record in caplog.records if "ab12" in record.getMessage()]
    assert len(told) == (0 if joined else 1) and all("is ignored" in line for line in told)


def test_default_ports_are_the_schemes():
    assert origin("https://h/path") == origin("https://h:443") != origin("http://h:443")
    assert origin("http://h") == ("http", "h", 80)


def test_step_says_once_that_the_plugins_run_is_ignored(tmp_path):
    """The line is seen although no log is set up so early."""
    program = "from components.step_execution import executing\nwith executing('ingest', 'out'): pass"
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
    variables |= {"PYTHONPATH": str(ROOT), "METSEG_MLFLOW_TRACKING_URI": "http://ours:5000", **PLUGIN}
    variables |= {"MLFLOW_TRACKING_URI": "http://plugins:5000"}
    done = subprocess.run([sys.executable, "-c", program], env=variables, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (done.stdout + done.stderr).count("ab12 is ignored") == 1


def test_child_process_has_the_same_settings(monkeypatch):
    settings = given(monkeypatch, METSEG_MLFLOW_TRACKING_URI="http://ours:5000")
    monkeypatch.setenv("METSEG_MLFLOW_TRACKING_URI", "http://others:5000")
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.from_environment().tracking_uri == "http://ours:5000"


def test_no_client_follows_presigned_urls_unless_it_is_told_to(monkeypatch):
    from mlflow.environment_variables import MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD as DOWNLOAD
    from mlflow.environment_variables import MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD as UPLOAD

    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    Settings.from_environment()
    for variable in (DOWNLOAD, UPLOAD):
        assert variable.is_set() and variable.get() is False


def test_proxies_are_known_by_both_names(monkeypatch):
    given(monkeypatch, HTTPS_PROXY="http://proxy:3128", NO_PROXY="mlflow.metseg", no_proxy="already")
    assert os.environ["https_proxy"] == "http://proxy:3128" and os.environ["no_proxy"] == "already"


# Files of a pod


def test_folders_are_those_that_the_pipeline_mounts():
    """Each ConfigMap and Secret that a compiled task names has a reader here, at the path where it is mounted."""
    import yaml

    from metseg.certificates import BUNDLE
    from metseg.dataset.references.git_credentials import FOLDER
    from metseg.process_environment import MOUNTED, MOUNTED_SECRETS

    compiled = list(yaml.safe_load_all((ROOT / "pipelines/compiled/training.yaml").read_text()))
    mounted = {
        volume["mountPath"]
        for executor in compiled[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
        for kind in ("secretAsVolume", "configMapAsVolume")
        for volume in executor.get(kind, [])
    }
    read = {file.partition("/")[0] for file in MOUNTED_SECRETS} | {"settings", "proxy"}
    assert mounted == {FOLDER, BUNDLE, *(f"{MOUNTED}/{folder}" for folder in read)}


# Certificates


def test_own_authority_is_trusted_beside_the_systems(monkeypatch, tmp_path):
    own = authority(tmp_path)
    system = ssl.create_default_context().get_ca_certs(binary_form=True)
    monkeypatch.setenv("METSEG_CA_BUNDLE", str(tmp_path))
    apply_defaults()
    first = {name: os.environ[name] for name in READERS}
    assert len(set(first.values())) == 1
    trusted = ssl.create_default_context().get_ca_certs(binary_form=True)
    (added,) = set(trusted) - set(system)
    assert added == ssl.PEM_cert_to_DER_cert(own.certificate.read_text()) and set(system) <= set(trusted)
    apply_defaults()
    assert {name: os.environ[name] for name in READERS} == first, "a second call changes nothing"


def test_each_library_accepts_a_server_of_the_own_authority(monkeypatch, tmp_path):
    import requests
    from urllib3 import PoolManager

    from tests.dataset.git_server import serving

    own = authority(tmp_path)
    (tmp_path / "dvc").mkdir()
    (tmp_path / "dvc" / "file").write_text("content")
    with serving(tmp_path, issue(tmp_path, own), "u", "t") as server:
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{server.url}/dvc/file", timeout=10)
        monkeypatch.setenv("METSEG_CA_BUNDLE", str(own.certificate))
        apply_defaults()
        assert requests.get(f"{server.url}/dvc/file", timeout=10).text == "content"
        assert PoolManager().request("GET", f"{server.url}/dvc/file", timeout=10).data == b"content"
        s3 = boto3.client(
            "s3", endpoint_url=server.url, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
        )
        assert s3.get_object(Bucket="dvc", Key="file")["Body"].read() == b"content"


def test_bundle_that_is_none_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("METSEG_CA_BUNDLE", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match="no such PEM file"):
        trust_own_authorities()
    (tmp_path / "ca.crt").write_text("no certificate")
    monkeypatch.setenv("METSEG_CA_BUNDLE", str(tmp_path))
    with pytest.raises(UsageError, match="no certificates in PEM"):
        trust_own_authorities()


# Every way in


@pytest.mark.parametrize(
    "command",
    [
        ["models"],
        ["lineage", "champion"],
        ["promote", "1", "--server", "127.0.0.1:9"],
        ["rollback", "--elsewhere"],
        ["reconcile", "--once", "--server", "127.0.0.1:9"],
    ],
    ids=lambda command: command[0],
)
def test_command_asks_our_mlflow(command, tmp_path):
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
    variables |= {
        "METSEG_WORKSPACE": str(tmp_path),
        "METSEG_MLFLOW_TRACKING_URI": "http://127.0.0.1:9/ours",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9/plugins",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    metseg = str(Path(sys.executable).parent / "metseg")
    done = subprocess.run([metseg, *command], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "http://127.0.0.1:9/ours" in said and "plugins" not in said, said


@pytest.mark.parametrize("step", ["ingest", "train"])
def test_step_asks_our_mlflow_and_names_it_where_it_is_away(step, tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom components.step_execution import executing\n"
        "from metseg.settings import Settings\nfrom metseg.tracking import mlflow_runs\n"
        f"with executing({step!r}, 'out'): mlflow_runs.client(Settings.from_environment())"
    )
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "METSEG_"))}
    variables |= {
        "PYTHONPATH": str(ROOT),
        "METSEG_MLFLOW_TRACKING_URI": "http://127.0.0.1:9/ours",
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9/plugins",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1 and "http://127.0.0.1:9/ours does not respond" in done.stdout, done.stdout + done.stderr


def test_gateway_and_viewer_read_the_same_settings(monkeypatch):
    from metseg.serving.gateway.settings import GatewaySettings

    monkeypatch.setenv("METSEG_MLFLOW_TRACKING_URI", "http://ours:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://plugins:5000")
    GatewaySettings.from_environment()
    assert os.environ["MLFLOW_TRACKING_URI"] == "http://ours:5000"


def test_a_pod_reads_the_settings_and_secrets_that_are_mounted_as_files(monkeypatch, tmp_path, caplog):
    files = {
        "settings/METSEG_MLFLOW_TRACKING_URI": "http://mlflow.metseg:5000\n",
        "settings/METSEG_MODEL_SERVER": "model-server.metseg:8500",
        "settings/METSEG_S3_REGION": "",
        "settings/ANYTHING_ELSE": "not ours",
        "settings/AWS_ENDPOINT_URL": "http://of-an-earlier-version:9000",
        "proxy/HTTPS_PROXY": "http://proxy.example.org:3128",
        "mlflow/username": "pipeline",
        "mlflow/password": "secret",
        "storage/access-key-id": "reader",
        "pseudonyms/key": "of the site\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("METSEG_MODEL_SERVER", "another:8500")
    with monkeypatch.context() as changed:
        for name in ("HTTPS_PROXY", "https_proxy", *OURS, *OURS.values(), "METSEG_PSEUDONYM_KEY"):
            changed.setenv(name, "")
            changed.delenv(name)
        prepare(tmp_path)
        prepare(tmp_path)
        (told,) = (record.getMessage() for record in caplog.records)
        assert "metseg-settings: ANYTHING_ELSE, AWS_ENDPOINT_URL has no effect" in told
        assert os.environ["MLFLOW_TRACKING_URI"] == "http://mlflow.metseg:5000"
        assert os.environ["MLFLOW_TRACKING_USERNAME"] == "pipeline"
        assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "secret"
        assert os.environ["AWS_ACCESS_KEY_ID"] == "reader" and "AWS_DEFAULT_REGION" not in os.environ
        assert os.environ["METSEG_PSEUDONYM_KEY"] == "of the site"
        assert os.environ["https_proxy"] == "http://proxy.example.org:3128"
        assert os.environ["METSEG_MODEL_SERVER"] == "another:8500" and "ANYTHING_ELSE" not in os.environ


def test_a_pod_without_its_settings_says_which_and_how_to_bring_them(monkeypatch):
    monkeypatch.setenv("KFP_POD_NAME", "metseg-training-x")
    monkeypatch.setenv("METSEG_MODEL_SERVER", "model-server.metseg:8500")
    with pytest.raises(UsageError) as refused:
        Settings.from_environment()
    assert "METSEG_MLFLOW_TRACKING_URI, METSEG_RECONCILER" in str(refused.value)
    assert "METSEG_MODEL_SERVER" not in str(refused.value) and "metseg-settings" in str(refused.value)
