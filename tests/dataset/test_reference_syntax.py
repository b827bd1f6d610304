"""Data references: their grammar, and the refusal of those that may hold a secret."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from metseg.dataset.references.syntax import Archive, Folder, GitRevision, S3Archive, S3Prefix, parse, require_no_secret
from metseg.errors import UsageError


@pytest.mark.parametrize(
    "reference, expected",
    [
        ("s3://scans/cohort/v1/", S3Prefix("scans", "cohort/v1")),
        ("s3://scans/", S3Prefix("scans", "")),
        ("s3://scans/cohort/v1.zip", S3Archive("scans", "cohort/v1.zip")),
        ("s3://scans/V1.TAR.GZ", S3Archive("scans", "V1.TAR.GZ")),
        ("s3://scans/v1.zip/", S3Prefix("scans", "v1.zip")),
        (
            "git+https://host.example/group/data.git@v1.2#data",
            GitRevision("https://host.example/group/data.git", "v1.2", "data"),
        ),
        ("git+https://host.example/r@feature/x#a/b", GitRevision("https://host.example/r", "feature/x", "a/b")),
        ("git+ssh://git@host.example/r.git@main#data/", GitRevision("ssh://git@host.example/r.git", "main", "data")),
        ("git+ssh://host.example:2222/r.git@main#d", GitRevision("ssh://host.example:2222/r.git", "main", "d")),
        ("git+http://[::1]:3000/a%20b/r@main#d", GitRevision("http://[::1]:3000/a%20b/r", "main", "d")),
        ("git+https://host.example/r@feature/x@y#d", GitRevision("https://host.example/r", "feature/x@y", "d")),
        ("git+file:///srv/ü x/r@feature/x@y#d", GitRevision("file:///srv/ü x/r", "feature/x@y", "d")),
        ("s3://my.scans_1/a b/é+@", S3Prefix("my.scans_1", "a b/é+@")),
        ("git+file:///srv/r@0a1b2c#data", GitRevision("file:///srv/r", "0a1b2c", "data")),
    ],
)
def test_references_are_written_in_one_grammar(reference: str, expected: object) -> None:
    assert parse(reference) == expected


def test_folders_and_archives_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.TAR.GZ").touch()
    assert parse(str(tmp_path)) == Folder(tmp_path)
    assert parse(str(tmp_path / "a.TAR.GZ")) == Archive(tmp_path / "a.TAR.GZ")


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "nowhere",
        "a.rar",
        "gs://bucket/data",
        "https://host.example/data.zip",
        "s3://",
        "s3:bucket/data",
        "git+https://host.example/r.git#data",
        "git+https://host.example/r.git@main",
        "git+https://host.example/r.git@main#../x",
        "git+ftp://host.example/r.git@main#data",
        "git@host.example:r.git",
    ],
)
def test_what_is_no_reference_is_refused_with_the_grammar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.rar").touch()
    with pytest.raises(UsageError, match=r"git\+URL@REVISION#PATH") as error:
        parse(reference)
    assert ":" in reference or reference in str(error.value), "a path is repeated"


SECRET = "hunter2SECRET"
WITH_SECRETS = (
    "git+https://me:{}@host.example/r.git@main#data",
    "git+https://{}@host.example/r.git@main#data",
    "git+https://oauth2:{}@host.example:8443/r.git@main#data",
    "git+https://me:{}/x@host.example/r.git@main#data",
    "git+https://me:12/{}@host.example/r.git@main#data",
    "git+https://me:12/{}@host:3000/r.git@main#data",
    "git+https://me:12/{}@localhost/r.git@main#data",
    "git+https://me/{}@host/r.git@main#data",
    "git+https://me%3A{}@host.example/r.git@main#data",
    "git+https://me%3a{}%40host.example/r.git@main#data",
    "git+https://host.example/me:{}/r.git@main#data",
    "git+https://host.example/r.git?private_token={}@main#data",
    "git+https://host.example/r.git%3Fprivate_token={}@main#data",
    "git+https://host.example/r.git@main?token={}#data",
    "git+https://host.example/r.git@main#data?token={}",
    "git+https://{}@host.example/r.git",
    "git+https://host.example:{}/r.git@main#data",
    "git+http://{}@host.example/r.git@main#data",
    "git+ssh://git:{}@host.example/r.git@main#data",
    "git+ssh://git:12/{}@host.example/r.git@main#data",
    "git+ssh://ghp_0123456789012345678901234567{}@host.example/r.git@main#data",
    "git+file://me:{}@host.example/r.git@main#data",
    "git+ftp://me:{}@host.example/r.git@main#data",
    "GIT+HTTPS://me:{}@host.example/r.git@main#data",
    " git+https://me:{}@host.example/r.git@main#data",
    "s3://AKIAKEY:{}@bucket/prefix",
    "s3://AKIAKEY%3A{}@bucket/prefix",
    "s3://AKIAKEY:{}/x@bucket/prefix",
    "s3://bucket/prefix?Signature={}",
    "s3://bucket/cohort.zip?X-Amz-Signature={}",
    "s3:AKIAKEY:{}@bucket/prefix",
    "S3://AKIAKEY:{}@bucket/prefix",
    "https://me:{}@host.example/data.zip",
    "https://host.example/data.zip?sig={}",
    "ftp://me:{}@host.example/data",
    "gs://bucket/data?token={}",
    "me:{}@host.example:data",
    "{}@host.example:r.git",
    "//me:{}@host.example/data",
)


@pytest.mark.parametrize("form", WITH_SECRETS)
def test_a_reference_that_may_hold_a_secret_is_refused_and_not_repeated(form: str) -> None:
    reference = form.format(SECRET)
    for refuse in (parse, require_no_secret):
        with pytest.raises(UsageError, match=r"docs/data\.md") as error:
            refuse(reference)
        told = "".join(traceback.format_exception(error.value))
        assert SECRET not in told and "host.example" not in told


def test_a_path_needs_not_exist_to_hold_no_secret() -> None:
    require_no_secret("/nowhere/scans")
    require_no_secret("s3://scans/cohort")
