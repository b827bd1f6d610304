"""Commands of docs/cluster.md: those that make objects are run; of all others the paths, names and options exist."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import ROOT
from tests.infra import pages
from tests.infra.clusters import FakeCluster
from tests.infra.conftest import KUBERNETES_VERSION
from tests.infra.rendering import KUBERNETES, containers, of_kind, overlay, pods, rendered_with

PAGE = pages.read("cluster.md")
URI = "postgresql://metseg:p%40ss@db.example.org:5432/mlflow"
FILES = (
    "token.txt",
    "id_ed25519",
    "known_hosts",
    "company-ca.pem",
    "server.crt",
    "server.key",
    "ca.crt",
)


def commands() -> list[str]:
    return pages.commands(PAGE)


def section(title: str) -> str:
    return re.split(r"\n#{2,3} ", PAGE.split(f"{title}\n", 1)[1])[0]


def created(folder: Path) -> dict[tuple[str, str], set[str]]:
    """Objects that the page's `kubectl create` commands make, by kind and name; keys of all together."""
    for name in FILES:
        (folder / name).write_text(f"content of {name}")
    (folder / "registry.json").write_text('{"auths": {"registry.example.org": {"username": "a", "password": "b"}}}')
    found: dict[tuple[str, str], set[str]] = {}
    for command in (line for line in commands() if line.startswith("kubectl create")):
        resolved = command.partition(" | ")[0].replace("RUNS", "kubeflow") + " --dry-run=client --output=yaml"
        answer = subprocess.run(["bash", "-c", resolved], cwd=folder, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, (command, answer.stderr)
        entry: dict[str, Any] = yaml.safe_load(answer.stdout)
        kubernetes_validate.validate(entry, KUBERNETES_VERSION, strict=True)
        found.setdefault((entry["kind"], entry["metadata"]["name"]), set()).update(entry["data"])
    return found


def test_commands_that_make_objects_make_those_that_are_read(tmp_path):
    if not shutil.which("kubectl"):
        pytest.skip("LOUD: kubectl is not installed, so no command of docs/cluster.md was run")
    (tls,) = [
        volume["secret"]
        for volume in pods(rendered_with("local", "grpc-tls"))["grpc"]["spec"]["volumes"]
        if "secret" in volume
    ]
    assert created(tmp_path) == {
        ("Secret", "metseg-git"): {"token", "ssh-key", "known-hosts"},
        ("ConfigMap", "metseg-ca"): {"ca.crt"},
        ("ConfigMap", "metseg-proxy"): {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"},
        ("Secret", "metseg-registry"): {".dockerconfigjson"},
        ("Secret", tls["secretName"]): {item["key"] for item in tls["items"]},
    }


def test_every_path_and_workload_exists():
    objects = overlay("local")
    names = {f"{entry['kind'].lower()}/{entry['metadata']['name']}" for entry in of_kind(objects, *{
        entry["kind"] for entry in objects})}  # fmt: skip
    for command in commands():
        for path in re.findall(r"infra/[\w./-]+", command):
            assert (ROOT / path).exists(), command
        if "kubectl delete" not in command:
            assert set(re.findall(r"\b(?:deployment|statefulset)/[\w-]+", command)) <= names, command
    gone = {"job/bucket", "networkpolicy/bucket", "horizontalpodautoscaler/model-server"}
    assert any(gone <= set(command.split()) for command in commands()) and not gone & names


def test_patches_are_json():
    for command in (line for line in commands() if "--patch" in line):
        words = shlex.split(command)
        json.loads(words[words.index("--patch") + 1])


def test_secrets_of_the_table_are_those_that_are_made():
    table = PAGE.split("## Secrets")[1].split("\n## ")[0]
    listed = {row.split("`")[1]: set(re.findall(r"`([\w.-]+)`", row.split("|")[3])) for row in table.splitlines()
              if row.startswith("| `metseg-")}  # fmt: skip
    source = (KUBERNETES / "passwords/content.py").read_text()
    assert set(listed) == set(re.findall(r'"(metseg-[\w-]+)"', source))
    assert listed["metseg-mlflow-server"] == {"backend-store-uri", "flask-secret-key", "basic_auth.ini"}


def test_options_of_the_scripts_exist():
    told = subprocess.run([KUBERNETES / "secrets.sh", "--help"], capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"secrets\.sh.*?(--[\w-]+)", PAGE)) <= set(re.findall(r"--[\w-]+", told))
    rotated = set(re.findall(r"--rotate (\w+)", PAGE))
    assert rotated == set(re.search(r"--rotate \{([\w,]+)\}", told)[1].split(","))
    for script in ("kubernetes/backup.sh", "kubernetes/restore.sh", "compose/backup.sh", "compose/restore.sh"):
        answer = subprocess.run([ROOT / "infra" / script], capture_output=True, text=True, check=False)
        assert answer.returncode != 0 and "usage: " in answer.stderr


@pytest.mark.parametrize("name", ["local", "aws"])
def test_the_first_block_of_an_overlay_makes_what_its_pods_read(tmp_path, name):
    block = next(lines for lines in pages.blocks(PAGE) if f"kubectl apply -k infra/kubernetes/overlays/{name}" in lines)
    reader = pages.Reader(tmp_path, "kubeflow")
    (tmp_path / "database.txt").write_text(URI + "\n")
    reader.types(*block)
    made = {key: set(data) for key, data in reader.cluster.secrets().items()}
    for template in pods(overlay(name)).values():
        for container in containers(template):
            for variable in container.get("env", []):
                reference = variable.get("valueFrom", {}).get("secretKeyRef")
                if reference and not reference.get("optional"):
                    assert reference["key"] in made["metseg", reference["name"]], (container["name"], reference)
    stored = reader.cluster.secret("metseg", "metseg-mlflow-server")["backend-store-uri"]
    in_cluster = name == "local"
    assert ("@postgres:5432/" in stored) is in_cluster and ("p%40ss@db.example.org" in stored) is not in_cluster
    assert (("kubeflow", "metseg-storage") in made) is in_cluster


def rotations() -> list[list[str]]:
    """Rows of the table: password, overlay `local`, overlays `aws` and `gpu`."""
    rows = re.findall(r"^\| `secrets\.sh --rotate (\w+)` \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)
    return [list(row) for row in rows]


def test_the_table_of_rotations_is_right_for_a_database_elsewhere_and_a_role(tmp_path):
    cluster = FakeCluster.made(tmp_path, "kubeflow")
    cluster.apply("kubeflow", "--no-storage-keys", DATABASE_URI=URI)
    for workload in ("mlflow", "model-server", "viewer", "gateway"):
        cluster.put({"kind": "deployment", "metadata": {"name": workload}}, "metseg")
    assert len(rotations()) == 5
    for password, local, elsewhere in rotations():
        before = cluster.secrets()
        answer = cluster.run("--rotate", password)
        if elsewhere == "the same":
            assert answer.returncode == 0 and local and cluster.secrets() != before, password
        elif elsewhere.startswith("prints the steps"):
            assert answer.returncode == 1 and "In this order" in answer.stderr and cluster.secrets() == before
            given = cluster.run("--rotate", password, DATABASE_URI=URI.replace("p%40ss", "new"))
            assert given.returncode == 0 and "MLflow: restarted" in given.stderr, password
        else:
            assert elsewhere.startswith("reports that there are none")
            assert answer.returncode == 1 and "pods have a role" in answer.stderr and cluster.secrets() == before


def test_removing_everything_says_that_the_data_go():
    """The overlay holds the namespace itself: with it go its volumes."""
    rendered = {(entry["kind"], entry["metadata"]["name"]) for entry in overlay("local")}
    assert ("Namespace", "metseg") in rendered and of_kind(overlay("local"), "StatefulSet")
    for text in (section("### Removing everything"), pages.read("kubeflow.md").split("**8. ")[1].split("\n## ")[0]):
        assert not re.search(r"volumes? .{0,60}\bstays?\b", text)
        assert re.search(r"\bdeletes the (data|namespace `metseg` with all runs, models and the bucket)", text)
        lines = [line for block in pages.blocks(text) for line in block]
        (removal,) = [number for number, line in enumerate(lines) if line.startswith("kubectl delete -k")]
        assert any("backup.sh" in line for line in lines[:removal])
        assert not [line for line in lines[removal:] if re.search(r"delete (namespace|ns) metseg", line)]


def test_removing_everything_leaves_the_key_of_pseudonyms_alone(tmp_path):
    """All that a page makes in a namespace of runs, and secrets.sh, is removed; and no command fails."""
    reader = pages.Reader(tmp_path, "kubeflow")
    reader.types(*pages.blocks(PAGE)[0])
    for kind, name in created(tmp_path):
        lines = [line for line in commands() if line.startswith("kubectl create") and f" {name} " in line]
        if any(pages.namespace(line) == "RUNS" for line in lines):
            reader.cluster.put({"kind": kind, "metadata": {"name": name}, "data": {}}, "kubeflow")
    removal, by_hand = pages.blocks(section("### Removing everything"))
    typed = [line.replace("RUNS", "kubeflow") for line in removal if line.startswith("kubectl")]
    reader.types(*(line.replace("configmap", "ConfigMap") for line in typed))
    held = {(path.parts[-2], path.stem) for path in (reader.cluster.folder / "kubeflow").glob("*/*.json")}
    assert held == {("Secret", "metseg-pseudonyms")} and not (reader.cluster.folder / "metseg").exists()
    assert not reader.cluster.get("Namespace", "-", "kubeflow")["metadata"]["labels"]
    assert removal[0].startswith("metseg submit --schedules")
    reader.types(*(line.replace("RUNS", "kubeflow") for line in by_hand))


LITERALS = {"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"}
"""What may stand on a command line: it is no secret."""


def test_no_document_and_no_message_puts_a_secret_on_a_command_line():
    sources = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", *(ROOT / "metseg").rglob("*.py")]
    sources += [path for path in (ROOT / "infra").rglob("*") if path.is_file()]
    for path in sources:
        text = path.read_text(encoding="utf-8", errors="replace")
        assert set(re.findall(r"--from-literal[ =][\"']?([\w.-]+)=", text)) <= LITERALS, path
        assert "--docker-password" not in text, path
        assert not re.search(r"DATABASE_URI=[\"']?postgres(ql)?://[^\s…]*:[^\s…]*@", text), path


def test_the_git_secret_is_made_and_made_again(tmp_path):
    """With what there is: each of the two ways alone, then both; kubectl itself reads the files."""
    if not shutil.which("kubectl"):
        pytest.skip("LOUD: kubectl is not installed, so no command for Git was run")
    for page in (PAGE, pages.read("versions.md")):
        (line,) = [line for line in pages.commands(page) if "secret generic metseg-git" in line]
        make, _, apply = line.partition(" | ")
        assert apply == "kubectl apply -f -" and "--dry-run=client" in make
        for name in FILES:
            (tmp_path / name).write_text(f"content of {name}")
        for keys in ({"token"}, {"ssh-key", "known-hosts"}, {"token", "ssh-key", "known-hosts"}):
            words = [word for word in shlex.split(make) if not word.startswith("--from-file") or
                     word.split("=")[1] in keys]  # fmt: skip
            answer = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
            assert set(yaml.safe_load(answer.stdout)["data"]) == keys
