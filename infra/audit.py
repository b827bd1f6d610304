"""Compare the packages of locks with known advisories, and list licences and release dates: `make audit`.

It exits with 1 for an advisory that `advisories.toml` does not name, and with 2 if packages could not be audited.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from packaging.utils import canonicalize_name
from packaging.version import Version

KNOWN = Path(__file__).with_name("advisories.toml")
PIP_AUDIT = "pip-audit@2.10.1"
SECONDS = 15.0
AT_ONCE = 8
UNKNOWN = "unknown"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)

Advisories = dict[str, str]
"""What is known of a package: one line by the identifiers of the advisory, separated by blanks."""


@dataclass(frozen=True, order=True)
class Package:
    """A package at the version that a lock pins."""

    name: str
    version: str


def pinned(locks: Iterable[Path]) -> list[Package]:
    """Return the packages of all locks, sorted."""
    pins = [pin for lock in locks for pin in _PIN.findall(lock.read_text(encoding="utf-8"))]
    return sorted({Package(canonicalize_name(name), str(Version(version))) for name, version in pins})


def by_pip_audit(packages: list[Package]) -> dict[Package, Advisories] | None:
    """Return the advisories of pip-audit; None without a response.

    Its own variables choose the service, such as `PIP_AUDIT_VULNERABILITY_SERVICE=osv`.
    """
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.txt"
        listed.write_text("".join(f"{one.name}=={one.version}\n" for one in packages), encoding="utf-8")
        options = ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        command = [str(Path(sys.executable).with_name("uv")), "tool", "run", PIP_AUDIT, "-r", str(listed), *options]
        printed = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        content = json.loads(printed.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"pip-audit did not run: {printed.stderr.strip().splitlines()[-1:] or printed.returncode}")
        return None
    audited = [entry for entry in content if "version" in entry]
    for entry in content:
        if "version" not in entry:
            print(f"{entry['name']}: {entry['skip_reason']}")
    advisories = {
        Package(entry["name"], entry["version"]): {
            " ".join([one["id"], *one["aliases"]]): one["description"] for one in entry["vulns"]
        }
        for entry in audited
    }
    return advisories or None


def index_url() -> str:
    """Return the root of the configured package index, above `/simple`."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    url = os.environ.get("PIP_INDEX_URL") or subprocess.run(command, capture_output=True, text=True).stdout.strip()
    if not url:
        from pip._internal.models.index import PyPI

        url = PyPI.simple_url
    return url.rstrip("/").removesuffix("/simple")


def of_index(packages: list[Package]) -> dict[Package, Mapping[str, Any]]:
    """Return the JSON of the index for each package; nothing without a response."""
    root, session = index_url(), requests.Session()

    def fetch(package: Package) -> Mapping[str, Any]:
        response = session.get(f"{root}/pypi/{package.name}/{package.version}/json", timeout=SECONDS)
        content: dict[str, Any] = response.json() if response.ok else {}
        return content

    try:
        first = fetch(packages[0])
        with ThreadPoolExecutor(AT_ONCE) as pool:
            rest = list(pool.map(fetch, packages[1:]))
    except (requests.RequestException, ValueError) as error:
        print(f"the package index returned no JSON ({type(error).__name__})")
        return {}
    return {package: content for package, content in zip(packages, [first, *rest], strict=True) if content}


def by_index(contents: Mapping[Package, Mapping[str, Any]]) -> dict[Package, Advisories] | None:
    """Return the advisories in the JSON of the index; None without any list."""
    listed = {
        package: content["vulnerabilities"] for package, content in contents.items() if "vulnerabilities" in content
    }
    parsed = {
        package: {
            " ".join([one["id"], *one.get("aliases", [])]): one.get("summary") or one.get("details") or ""
            for one in advisories
            if not one.get("withdrawn")
        }
        for package, advisories in listed.items()
    }
    return parsed or None


def released(content: Mapping[str, Any]) -> str:
    """Return the date of a release."""
    times = [file["upload_time_iso_8601"][:10] for file in content.get("urls", []) if "upload_time_iso_8601" in file]
    return min(times, default=UNKNOWN)


def licence(package: Package) -> str:
    """Return the licence that an installed package states."""
    try:
        about = importlib.metadata.metadata(package.name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed here"
    stated = about["License-Expression"] or about["License"] or ""
    classified = [line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License")]
    return stated if stated and "\n" not in stated else ", ".join(classified) or UNKNOWN


def judge(advisories_of: Mapping[Package, Advisories], known: list[dict[str, Any]]) -> int:
    """Print all advisories, and return the number of those that are not known."""
    new = 0
    for package, advisories in sorted(advisories_of.items()):
        for identifiers, summary in advisories.items():
            entry = next(
                (one for one in known if (one["package"], one["version"]) == (package.name, package.version)
                 and one["id"] in identifiers.split()), None,
            )  # fmt: skip
            state = f"known since {entry['date']}: {entry['reason']}" if entry else summary[:200]
            print(f"{'known' if entry else 'NEW'}: {package.name} {package.version} {identifiers}: {state}")
            new += entry is None
    return new


def main(locks: list[Path]) -> int:
    """Audit the packages of some locks."""
    packages = pinned(locks)
    contents = of_index(packages)
    print(f"{'package':40s} {'version':16s} {'released':12s} licence")
    for package in packages:
        date = released(contents.get(package, {}))
        print(f"{package.name:40s} {package.version:16s} {date:12s} {licence(package)}")
    print()
    advisories = by_pip_audit(packages) or by_index(contents)
    if advisories is None:
        print("No service returned advisories: the packages are not audited. Set PIP_INDEX_URL to an index with them.")
        return 2
    new = judge(advisories, tomllib.loads(KNOWN.read_text(encoding="utf-8"))["advisory"])
    missing = [f"{one.name} {one.version}" for one in packages if one not in advisories]
    print(f"{len(packages) - len(missing)} of {len(packages)} packages audited, {new} new advisories")
    if missing:
        print(f"not audited: {', '.join(missing)}")
    return 1 if new else 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
