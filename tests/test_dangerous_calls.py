"""No code unpickles, evaluates text, runs a shell, loads unsafe files or calls out to the net unasked.

A new kind is a row of `FORBIDDEN` or `MODULES`. An exception is a row with its reason, and goes with its call.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

FILES = [
    path
    for folder in ("metseg", "components", "pipelines", "models", "infra")
    for path in (ROOT / folder).rglob("*.py")
]


def argument(call: ast.Call, name: str) -> ast.expr | None:
    """Return a keyword argument."""
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def is_not(name: str, safe: object) -> Callable[[ast.Call], bool]:
    """Return a rule: the argument is there, and is anything but this constant."""

    def rule(call: ast.Call) -> bool:
        given = argument(call, name)
        return given is not None and not (isinstance(given, ast.Constant) and given.value is safe)

    return rule


def first_is_text(call: ast.Call) -> bool:
    """Return whether a program is called by a text in place of a list of words."""
    command = call.args[0] if call.args else argument(call, "args")
    return isinstance(command, ast.JoinedStr) or (isinstance(command, ast.Constant) and isinstance(command.value, str))


def always(call: ast.Call) -> bool:
    return True


PROGRAM = r"subprocess\.\w+|asyncio\.create_subprocess_exec"
FORBIDDEN: tuple[tuple[str, Callable[[ast.Call], bool]], ...] = (
    (r"eval|exec|compile|__import__|builtins\.\w+|importlib\.import_module|runpy\.\w+", always),
    (r"os\.(system|popen|spawn\w+|posix_spawn\w*)|pty\.spawn|asyncio\.create_subprocess_shell", always),
    (r"subprocess\.(getoutput|getstatusoutput)", always),
    (PROGRAM, is_not("shell", False)),
    (PROGRAM, first_is_text),
    (r"(.*\.)?(read_pickle|to_pickle|Unpickler|unpickle)", always),
    (r"yaml\.(load|load_all|full_load\w*|unsafe_load\w*)|ruamel\..*", always),
    (r"(numpy|np)\.(load|save|savez|savez_compressed)|.*\.(load|open)_memmap", is_not("allow_pickle", False)),
    (r"keras\..*|.*\.load_model|.*\.deserialize_keras_object", is_not("safe_mode", True)),
    (r"keras\..*enable_unsafe_deserialization|(keras\.layers\.|keras\.)?Lambda", always),
    (r"torch\.load|mlflow\..*load_model|tf\.(py_function|numpy_function)", always),
    (r".*\.(extract|extractall)|shutil\.unpack_archive|tempfile\.mktemp|(os|pathlib)\.umask", always),
    (r"ssl\._create_unverified_context|ssl\.SSLContext|grpc\.insecure_server_credentials", always),
    (r".*", is_not("verify", True)),
    (r"jinja2\.(Environment|Template|Sandboxed\w+)|markupsafe\.Markup", always),
)
"""Calls by their full name, and when they are forbidden."""

ALLOWED = {
    ("components/__main__.py", "importlib.import_module"): "a step's module by its name in a table of this package",
    ("metseg/tensorflow_protos.py", "importlib.import_module"): "generated modules of one package, by constant names",
    ("metseg/doctor/machine.py", "__import__"): "constant names of packages that must be installed",
    (
        "pipelines/submission/pipeline_package.py",
        "yaml.load_all",
    ): "the loader is yaml's safe one, in C if there is one",
    ("metseg/html_templates.py", "jinja2.Environment"): "the one environment that makes pages",
    ("metseg/html_templates.py", "markupsafe.Markup"): "the constant policy of pages",
    ("metseg/validation/escaping_view.py", "markupsafe.Markup"): "markup of Great Expectations' own templates",
}

MODULES = re.compile(
    r"(c?[pP]ickle|dill|cloudpickle|joblib|shelve|marshal|diskcache|xml|telnetlib|ftplib|smtplib)(\..*)?$"
)

NETWORK = re.compile(
    r"(aiohttp|asyncssh|boto3|docker|dulwich|dvc|ftplib|httpx|http\.client|kfp_server_api|kubernetes|requests|scmrepo|"
    r"smtplib|socket|urllib\.request|urllib3|websockets?)(\..*)?$"
)
CALLERS = {
    "infra/audit.py": "make audit: the configured package index",
    "infra/kubernetes/base/services/mlflow/bucket.py": "the configured artifact store",
    "infra/kubernetes/base/services/mlflow/prepare.py": "the configured artifact store",
    "metseg/dataset/dvc_pin.py": "DVC on a folder of this machine",
    "metseg/dataset/references/dvc_revision.py": "the repository that a data reference names",
    "metseg/dataset/references/git_credentials.py": "the repository that a data reference names",
    "metseg/dataset/references/s3.py": "the bucket that a data reference names",
    "metseg/doctor/connectivity.py": "metseg doctor: the configured services",
    "metseg/doctor/machine.py": "metseg doctor: the configured services",
    "metseg/retry_deadline.py": "classes of errors alone",
    "metseg/serving/reconciliation/serving_volume.py": "the name of this machine",
    "metseg/serving/server/rest.py": "the server's own port",
    "metseg/tracking/container_registry.py": "metseg lineage: the registry of a version's image",
    "metseg/tracking/mlflow_store.py": "the configured MLflow",
    "metseg/tracking/kubeflow_run.py": "the API of the Kubeflow that the step runs in",
    "pipelines/containers.py": "the Docker of this machine",
    "pipelines/submission/kubeflow_client.py": "metseg submit: the configured Kubeflow",
    "pipelines/submission/pod_events.py": "metseg submit: the configured cluster",
}
"""Files that import a client of the net, and what they reach."""

JSON = re.compile(r"(json|orjson)\.loads?|metseg\.files\.read_json")
OWN_JSON = {
    "components/__main__.py": "kfp's executor input",
    "components/configuration/settings.py": "what metseg wrote",
    "components/register/step.py": "what metseg wrote",
    "infra/audit.py": "what pip-audit prints",
    "infra/kubernetes/passwords/cluster.py": "the configured cluster",
    "metseg/dataset/case_cache.py": "what metseg wrote, compared with its digest",
    "metseg/doctor/kubectl.py": "the configured cluster",
    "metseg/doctor/probe_pods.py": "what metseg's own pod printed",
    "metseg/files.py": "the reader of the others",
    "metseg/imaging/preprocessing/specification.py": "what metseg wrote",
    "metseg/records.py": "what metseg wrote in the same call",
    "metseg/serving/server/json_tensors.py": "bounded in size and depth by itself",
    "metseg/training/accelerators.py": "TF_CONFIG, of who starts the process",
    "metseg/training/checkpoint.py": "what metseg wrote",
    "metseg/workspace.py": "what metseg wrote",
    "pipelines/cluster_doctor.py": "the configured cluster",
    "pipelines/console.py": "what metseg's own steps print",
    "pipelines/submission/kubeflow_client.py": "the configured Kubeflow",
    "pipelines/submission/pod_events.py": "the configured cluster",
}
"""Files that read JSON without `metseg.files.parse_json`, and whose it is."""

ADDRESSES = {
    "http://ml-pipeline.kubeflow:8888": "the API of the Kubeflow that the step runs in",
    "http://HOST:PORT": "how a message shows MLflow's address",
    "http://127.0.0.1:8080/v1/segmentations?wait=30": "an example in the gateway's description",
    "http://localhost:5000": "how a message shows MLflow's address",
    "http://localhost:8080": "metseg submit: Kubeflow behind `kubectl port-forward`",
    "https://USER:TOKEN@HOST": "how a message shows a line of Git's credentials",
    "https://host/repository.git@v2#data": "an example of metseg --help",
    "https://kubeflow.example.org/pipeline": "an example of metseg --help",
}
"""Addresses of the web in the code, outside docstrings; a prefix without a host is none."""


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the local and the full name of everything that a file imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield (
                    name.asname or name.name.partition(".")[0],
                    name.name if name.asname else name.name.partition(".")[0],
                )
                yield ("", name.name)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield ("", node.module)
            yield from ((name.asname or name.name, f"{node.module}.{name.name}") for name in node.names)


def calls(source: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield the full name of every call."""
    tree = ast.parse(source)
    names = {local: full for local, full in imported(tree) if local}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield names.get(first, first) + dot + rest, node


def dangers(source: str) -> list[str]:
    """Return the names of forbidden calls and modules in a text of Python."""
    found = [
        name
        for name, call in calls(source)
        if any(re.fullmatch(pattern, name) and rule(call) for pattern, rule in FORBIDDEN)
    ]
    return found + [full for _, full in imported(ast.parse(source)) if MODULES.match(full)]


def test_no_code_unpickles_evaluates_or_shells_out():
    found = {(relative(path), name) for path in FILES for name in dangers(path.read_text(encoding="utf-8"))}
    assert found - set(ALLOWED) == set(), "forbidden: write it otherwise, or give the reason in ALLOWED"
    assert set(ALLOWED) - found == set(), "exceptions that nothing needs any more"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from pickle import loads", "import xml.etree.ElementTree", "import joblib as j",
        "eval('1')", "exec(text)", "__import__(name)", "import importlib\nimportlib.import_module(name)",
        "import os\nos.system('ls')", "from os import system as run\nrun(text)", "import os as o\no.popen(text)",
        "import subprocess\nsubprocess.run('ls -l')", "import subprocess\nsubprocess.run(f'ls {folder}')",
        "import subprocess as s\ns.Popen(words, shell=True)", "from subprocess import run\nrun(words, shell=flag)",
        "import numpy as np\nnp.load(path, allow_pickle=True)", "import pandas\npandas.read_pickle(path)",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)", "import yaml\nyaml.unsafe_load(text)",
        "import keras\nkeras.saving.load_model(path, safe_mode=False)", "import mlflow\nmlflow.pyfunc.load_model(uri)",
        "archive.extractall(folder)", "import tempfile\ntempfile.mktemp()",
        "import requests\nrequests.get(url, verify=False)",
        "import jinja2\njinja2.Template(text)", "from markupsafe import Markup\nMarkup(text)",
        "import ssl\nssl._create_unverified_context()",
    ],
)  # fmt: skip
def test_each_kind_is_found(source):
    assert dangers(source)


@pytest.mark.parametrize(
    "source",
    [
        "import subprocess\nsubprocess.run(['ls', folder])", "import numpy as np\nnp.load(path, allow_pickle=False)",
        "import yaml\nyaml.safe_load(text)", "import keras\nkeras.saving.load_model(path, safe_mode=True)",
        "import re\nre.compile('a')", "model.compile(loss=loss)", "import requests\nrequests.get(url, verify=True)",
    ],
)  # fmt: skip
def test_what_is_safe_is_not_found(source):
    assert dangers(source) == []


def test_json_of_others_is_read_by_the_reader_that_has_limits():
    readers = {
        relative(path)
        for path in FILES
        for name, _ in calls(path.read_text(encoding="utf-8"))
        if JSON.fullmatch(name) or name == "read_json"
    }
    assert readers == set(OWN_JSON)


def test_only_listed_files_reach_the_net():
    callers = {
        relative(path)
        for path in FILES
        for _, full in imported(ast.parse(path.read_text(encoding="utf-8")))
        if NETWORK.match(full)
    }
    assert callers == set(CALLERS)


def test_every_address_in_the_code_has_its_reason():
    found = set()
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
                found |= set(re.findall(r"https?://[\w.\[\]:-]+[^\s'\"`<>)]*", node.value))
    assert found == set(ADDRESSES)


def test_templates_take_nothing_for_markup_but_the_model_card():
    """`metseg.report.markdown` makes the card's HTML, and the card itself is Markdown."""
    found = {
        (path.name, line.strip())
        for path in (ROOT / "metseg").rglob("*.j2")
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\|\s*safe\b|autoescape false|Markup", line)
    }
    assert found == {
        ("parts.html.j2", '<div class="card scroll">{{ content.card | safe }}</div>'),
        ("model_card.html.j2", "{% autoescape false %}"),
    }


def test_every_template_of_a_page_has_the_policy():
    pages = [path for path in (ROOT / "metseg").rglob("*.html.j2") if "<html" in path.read_text(encoding="utf-8")]
    assert len(pages) >= 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "{{ policy }}" in text or "parts.head(" in text, page.name
    assert "{{ policy }}" in (ROOT / "metseg/report/parts.html.j2").read_text(encoding="utf-8")
