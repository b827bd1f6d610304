"""What secrets.sh makes: gaps are filled, what the cluster holds stays, and nothing secret stands on a command line."""

from __future__ import annotations

import configparser
import subprocess

import pytest
import yaml
from sqlalchemy.engine import make_url

from tests.infra.clusters import FakeCluster, parsed
from tests.infra.rendering import KUBERNETES

OF_RUNS = {"metseg-mlflow-client", "metseg-storage", "metseg-pseudonyms"}


@pytest.fixture
def cluster(tmp_path) -> FakeCluster:
    return FakeCluster.made(tmp_path, "kubeflow")


@pytest.mark.parametrize("runs", [(), ("kubeflow",), ("kubeflow", "profile-b", "profile-c")])
def test_a_second_call_prints_the_same_bytes(cluster, runs):
    first = cluster.apply(*runs)
    assert cluster.apply(*runs) == first
    assert cluster.apply() == first, "namespaces of runs are found by their label"
    places = {namespace for namespace, _ in parsed(first)}
    assert places == {"metseg", *(runs or ("kubeflow",))}


def test_a_further_namespace_changes_nothing_and_gets_the_same_passwords(cluster):
    cluster.apply("kubeflow")
    before = cluster.secrets()
    cluster.apply("profile-b")
    after = cluster.secrets()
    assert {name: after[name] for name in before} == before
    for name in OF_RUNS:
        assert after["profile-b", name] == after["kubeflow", name]


def test_namespaces_are_made_and_labelled(cluster):
    answer = cluster.run("kubeflow", "profile-b")
    assert answer.returncode == 0, answer.stderr
    labels = {name: cluster.get("Namespace", "-", name)["metadata"]["labels"] for name in ("kubeflow", "profile-b")}
    assert labels == {"kubeflow": {"metseg-runs": "true"}, "profile-b": {"metseg-runs": "true"}}
    made = cluster.get("Namespace", "-", "metseg")["metadata"]["labels"]
    written = yaml.safe_load((KUBERNETES / "base/services/namespace.yaml").read_text())["metadata"]["labels"]
    assert made == written and "metseg-runs" not in made


def test_gaps_alone_are_filled(cluster):
    cluster.apply("kubeflow")
    before = cluster.secrets()
    (cluster.folder / "metseg/Secret/metseg-gateway.json").unlink()
    cluster.put_secret("metseg", "metseg-mlflow-server", backend_store_uri="postgresql+psycopg2://a:b@db/runs", own="x")
    cluster.apply("kubeflow")
    after = cluster.secrets()
    same = {name for name in before if name[1] not in ("metseg-gateway", "metseg-mlflow-server")}
    assert all(after[name] == before[name] for name in same)
    assert len(after["metseg", "metseg-gateway"]["api-keys"]) == 48 != before["metseg", "metseg-gateway"]["api-keys"]
    server = after["metseg", "metseg-mlflow-server"]
    assert server["backend-store-uri"] == "postgresql+psycopg2://a:b@db/runs" and server["own"] == "x"
    assert len(server["flask-secret-key"]) == 48
    assert "database_uri = postgresql+psycopg2://a:b@db/runs" in server["basic_auth.ini"].splitlines()


def test_secrets_that_the_earlier_script_wrote_stay(cluster):
    """Its values were taken from the recorded cluster by name and key; their content is made up."""
    cluster.put({"kind": "Namespace", "metadata": {"name": "metseg", "labels": {}}}, "-")
    for namespace in ("metseg", "kubeflow"):
        cluster.put_secret(namespace, "metseg-mlflow-client", username="admin", password="p" * 48)
        cluster.put_secret(namespace, "metseg-storage", access_key_id="metseg", secret_access_key="s" * 48)
    cluster.put_secret("metseg", "metseg-database", password="d" * 48)
    before = cluster.secrets()
    cluster.apply("kubeflow")
    after = cluster.secrets()
    assert all(after[name] == before[name] for name in before)
    assert make_url(after["metseg", "metseg-mlflow-server"]["backend-store-uri"]).password == "d" * 48


def test_pseudonyms_keep_their_key_whatever_is_done(cluster):
    cluster.apply("kubeflow", "profile-b")
    key = cluster.secret("kubeflow", "metseg-pseudonyms")["key"]
    assert len(key) == 64 and cluster.secret("profile-b", "metseg-pseudonyms")["key"] == key
    assert cluster.get("Secret", "kubeflow", "metseg-pseudonyms")["immutable"] is True
    assert ("metseg", "metseg-pseudonyms") not in cluster.secrets()
    cluster.put({"kind": "statefulset", "metadata": {"name": "s3"}}, "metseg")
    for rotated in ("mlflow", "storage", "gateway"):
        assert cluster.run("--rotate", rotated).returncode == 0
    cluster.apply("profile-c")
    assert {cluster.secret(place, "metseg-pseudonyms")["key"] for place in ("kubeflow", "profile-b", "profile-c")} == {
        key
    }


def test_two_keys_of_pseudonyms_are_reported_and_neither_is_changed(cluster):
    cluster.apply("kubeflow", "profile-b")
    cluster.put_secret("profile-b", "metseg-pseudonyms", key="another")
    answer = cluster.run()
    assert "kubeflow, profile-b hold different keys of pseudonyms" in answer.stderr
    made = parsed(answer.stdout)
    assert made["profile-b", "metseg-pseudonyms"]["key"] == "another" != made["kubeflow", "metseg-pseudonyms"]["key"]


def test_the_newline_behind_a_key_of_pseudonyms_makes_no_other_key(cluster):
    cluster.apply("kubeflow", "profile-b")
    key = cluster.secret("kubeflow", "metseg-pseudonyms")["key"]
    cluster.put_secret("profile-b", "metseg-pseudonyms", key=key + "\n")
    assert "different keys" not in cluster.run().stderr


def test_a_role_takes_the_place_of_storage_keys(cluster):
    made = parsed(cluster.apply("kubeflow", "--no-storage-keys", DATABASE_URI="postgresql://u:p@db.example.org/runs"))
    assert not [name for _, name in made if name in ("metseg-storage", "metseg-database")]


ROLE = {"DATABASE_URI": "postgresql://u:p@db.example.org/runs"}
OWN = {"AWS_ACCESS_KEY_ID": "AKPERSON", "AWS_SECRET_ACCESS_KEY": "of-a-person"}


@pytest.mark.parametrize("rotated", ["database", "mlflow", "storage", "gateway"])
@pytest.mark.parametrize("environment", [{}, OWN], ids=["", "keys of a person"])
def test_a_rotation_makes_no_storage_keys_where_pods_have_a_role(cluster, rotated, environment):
    cluster.apply("kubeflow", "--no-storage-keys", **ROLE)
    before = cluster.secrets()
    answer = cluster.run("--rotate", rotated, **environment)
    assert answer.returncode == (rotated in ("database", "storage")), answer.stderr
    assert not [name for _, name in cluster.secrets() if name == "metseg-storage"]
    changed = {name for name, values in cluster.secrets().items() if values != before[name]}
    assert bool(changed) is (rotated in ("mlflow", "gateway"))


def test_a_further_namespace_and_the_doctors_remedy_make_none_either(cluster):
    cluster.apply("kubeflow", "--no-storage-keys", **ROLE)
    for arguments in (("profile-b",), ("kubeflow",), ()):
        cluster.apply(*arguments)
        assert ("profile-b", "metseg-mlflow-client") in cluster.secrets()
        assert not [name for _, name in cluster.secrets() if name == "metseg-storage"]
    assert "pods have a role" in cluster.run().stderr


def test_keys_that_are_given_take_the_place_of_the_role(cluster):
    cluster.apply("kubeflow", "--no-storage-keys", **ROLE)
    answer = cluster.run("kubeflow", **OWN)
    assert parsed(answer.stdout)["kubeflow", "metseg-storage"] == {
        "access-key-id": "AKPERSON",
        "secret-access-key": "of-a-person",
    }
    assert "--no-storage-keys makes none" in answer.stderr


def test_a_first_call_that_was_cut_short_is_completed_with_storage_keys(cluster):
    """kubectl applies in order: whatever it had written when it ended, the next call fills the gaps."""
    lines = cluster.run("kubeflow").stdout.split("---\n")[1:]
    for number in range(len(lines)):
        for path in cluster.folder.glob("*/Secret/*.json"):
            path.unlink()
        part = "".join("---\n" + text for text in lines[:number])
        for (namespace, name), data in parsed(part).items():
            cluster.put_secret(namespace, name, **data)
        assert ("kubeflow", "metseg-storage") in parsed(cluster.run().stdout), number


@pytest.mark.parametrize(
    ("given", "password"),
    [
        ("postgresql://u:p%40s%2Fs@db.example.org:5432/runs", "p@s/s"),
        ("postgres://u:100%25@db.example.org/runs?sslmode=require", "100%"),
        ("postgresql+psycopg2://u:plain@db.example.org/runs", "plain"),
    ],
)
def test_a_percent_sign_and_an_old_scheme_work_in_every_file(cluster, given, password):
    made = parsed(cluster.apply("kubeflow", DATABASE_URI=given))
    server = made["metseg", "metseg-mlflow-server"]
    read = configparser.ConfigParser()
    read.read_string(server["basic_auth.ini"])
    for uri in (server["backend-store-uri"], read["mlflow"]["database_uri"]):
        url = make_url(uri)
        assert (url.username, url.password, url.host) == ("u", password, "db.example.org")
        assert url.get_dialect().import_dbapi().__name__ == "psycopg2"
        assert url.query == make_url(given.replace("postgres:", "postgresql:")).query
    assert cluster.apply("kubeflow") == cluster.apply("kubeflow", DATABASE_URI=given)


def test_another_database_is_refused_without_its_password(cluster):
    answer = cluster.run(DATABASE_URI="mysql://u:hidden@db/runs")
    assert answer.returncode == 1 and not answer.stdout
    assert "DATABASE_URI begins with 'mysql': expected postgresql://" in answer.stderr
    assert "hidden" not in answer.stderr


def test_half_a_pair_of_storage_keys_is_refused(cluster):
    answer = cluster.run(AWS_ACCESS_KEY_ID="only")
    assert answer.returncode == 1 and "go together" in answer.stderr and not answer.stdout


def test_the_environment_fills_gaps_and_replaces_nothing(cluster):
    first = parsed(cluster.apply("kubeflow", AWS_ACCESS_KEY_ID="AKEXAMPLE", AWS_SECRET_ACCESS_KEY="given"))
    assert first["kubeflow", "metseg-storage"] == {"access-key-id": "AKEXAMPLE", "secret-access-key": "given"}
    later = cluster.run("kubeflow", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y", DATABASE_URI="postgresql://a@b/c")
    assert parsed(later.stdout) == first
    assert "DATABASE_URI is not that of metseg/metseg-mlflow-server" in later.stderr


def test_the_page_login_fits_the_password_and_is_kept(cluster):
    made = parsed(cluster.apply("kubeflow"))
    login = made["metseg", "metseg-viewer-login"]
    user, _, hash_ = login["auth"].partition(":")
    scheme, salt = hash_.split("$")[1:3]
    again = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"], input=login["password"], text=True, capture_output=True
    )
    assert (user, scheme) == (login["username"], "6") and again.stdout.strip() == hash_
    assert parsed(cluster.apply())["metseg", "metseg-viewer-login"] == login


def test_the_viewers_logins_are_not_the_administrators(cluster):
    """Nor is the one that people type the one that its server has."""
    made = parsed(cluster.apply("kubeflow"))
    viewer, client = made["metseg", "metseg-viewer-login"], made["metseg", "metseg-mlflow-client"]
    assert viewer["username"] != client["username"]
    assert len({viewer["password"], viewer["mlflow-password"], client["password"]}) == 3


def test_a_page_login_of_an_earlier_release_is_replaced(cluster):
    """It was the administrator's password under MD5."""
    cluster.put({"kind": "Namespace", "metadata": {"name": "metseg", "labels": {}}}, "-")
    cluster.put_secret("metseg", "metseg-mlflow-client", username="admin", password="p" * 48)
    cluster.put_secret("metseg", "metseg-viewer-login", auth="admin:$apr1$salt$ABCDEFGHIJKLMNOPQRSTU.")
    answer = cluster.run("kubeflow")
    login = parsed(answer.stdout)["metseg", "metseg-viewer-login"]
    assert login["auth"].startswith("viewer:$6$") and "a user and password of its own" in answer.stderr


def test_no_secret_stands_on_a_command_line(cluster, tmp_path):
    cluster.apply("kubeflow", "profile-b")
    for rotated in ("mlflow", "viewer"):
        assert cluster.run("--rotate", rotated).returncode == 0
    values = {value for held in cluster.secrets().values() for value in held.values() if len(value) > 10}
    lines = (cluster.folder / "calls.jsonl").read_text() + (tmp_path / "openssl.log").read_text()
    assert "passwd" in lines and not [value for value in values if value in lines]


def test_the_services_namespace_is_none_of_runs(cluster):
    answer = cluster.run("metseg")
    assert answer.returncode == 1 and "name the namespaces" in answer.stderr


def test_a_namespace_that_is_being_deleted_is_left_alone(cluster):
    cluster.apply("kubeflow", "profile-b")
    gone = cluster.get("Namespace", "-", "profile-b")
    cluster.put({**gone, "status": {"phase": "Terminating"}}, "-")
    assert {namespace for namespace, _ in parsed(cluster.apply())} == {"metseg", "kubeflow"}


def test_an_unreachable_cluster_gives_its_reason_and_prints_nothing(cluster, tmp_path):
    (tmp_path / "bin/kubectl").write_text("#!/bin/sh\necho 'connection refused' >&2\nexit 1\n")
    answer = cluster.run()
    assert answer.returncode == 1 and "connection refused" in answer.stderr and not answer.stdout
