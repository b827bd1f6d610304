"""JSON from others is read, or refused with a sentence: whatever it holds, nothing ends in a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from components.configuration.parsing import parse, parse_options
from metseg.dataset.manifest import Manifest
from metseg.errors import MetsegError
from metseg.files import MAX_JSON, parse_json, read_json_of_others
from metseg.imaging.layouts import open_cohort
from metseg.serving.client.model_description import ModelDescription
from metseg.validation.reference_statistics import Reference
from pipelines.submission.kubeflow_token import expired_since

DEEP = "[" * 200_000 + "]" * 200_000
DEEP_OBJECT = '{"a":' * 200_000 + "1" + "}" * 200_000
HUGE_NUMBER = "9" * 5000
VALUES = {
    "deep": DEEP,
    "deep object": DEEP_OBJECT,
    "just too deep": "[" * 65 + "]" * 65,
    "900 levels": "[" * 900 + "]" * 900,
    "1e400": "1e400",
    "-1e400": "-1e400",
    "5000 digits": HUGE_NUMBER,
    "NaN": "NaN",
    "Infinity": "Infinity",
    "cut off": '{"a": ',
    "nothing": "",
    "BOM": "\ufeff{}",
}
"""Texts of JSON that are refused wherever they are."""

ODD = {
    "1e300": "1e300",
    "fraction": "1.5",
    "true": "true",
    "null": "null",
    "nested": "[[1]]",
    "object": '{"a": 1}',
    "text": '"x"',
    "empty": "[]",
    "400 digits": "9" * 400,
    "beyond a mask": "70000",
}
"""Proper JSON, but no label of a mask."""


def nnunet(root: Path, description: str) -> Path:
    for folder, name in (("imagesTr", "p1_0000"), ("labelsTr", "p1")):
        (root / folder).mkdir(parents=True)
        volume = np.ones((4, 4, 3), np.int16)
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), root / folder / f"{name}.nii.gz")
    (root / "dataset.json").write_text(description, encoding="utf-8")
    return root


def _file(read: Callable[[Path], object]) -> Callable[[Path, str], object]:
    def reader(folder: Path, text: str) -> object:
        (folder / "x.json").write_text(text, encoding="utf-8")
        return read(folder / "x.json")

    return reader


READERS: dict[str, Callable[[Path, str], object]] = {
    "dataset.json": lambda folder, text: open_cohort(nnunet(folder, text)),
    "its labels": lambda folder, text: open_cohort(nnunet(folder, f'{{"labels": {{"tumour": {text}}}}}')),
    "its channels": lambda folder, text: open_cohort(nnunet(folder, f'{{"channel_names": {{"0": {text}}}}}')),
    "manifest.json": _file(Manifest.read),
    "reference_statistics.json": _file(Reference.read),
    "a setting": lambda folder, text: parse([f"gpu_tolerations={text}"]),
    "options": lambda folder, text: parse_options("data_options", f'{{"channels": {text}}}'),
    "a model's description": lambda folder, text: ModelDescription.parse("m", text),
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("reader", READERS)
def test_it_is_refused_in_a_sentence(tmp_path, reader, value):
    with pytest.raises(MetsegError) as refused:
        READERS[reader](tmp_path, VALUES[value])
    assert len(str(refused.value)) < 2000


@pytest.mark.parametrize("value", ODD)
def test_labels_that_are_none_are_refused_or_have_no_effect(tmp_path, value):
    try:
        cohort = open_cohort(nnunet(tmp_path, f'{{"labels": {{"background": 0, "tumour": {ODD[value]}}}}}'))
    except MetsegError as refused:
        assert str(tmp_path) in str(refused) and len(str(refused)) < 2000
    else:
        assert value in ("empty", "text")
        assert len(cohort.cases) == 1


@pytest.mark.parametrize("number", [HUGE_NUMBER, "12345", "-1", "x"])
def test_numbers_of_channels_have_four_digits(tmp_path, number):
    with pytest.raises(MetsegError, match="channel_names should name each number"):
        open_cohort(nnunet(tmp_path, json.dumps({"channel_names": {number: "t1c"}})))


def test_what_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(MAX_JSON + 1)
    with pytest.raises(ValueError, match=f"the limit is {MAX_JSON}"):
        read_json_of_others(tmp_path / "x.json")


def test_what_is_not_too_deep_or_large_is_read():
    assert parse_json("[" * 63 + "1e300" + "]" * 63)


def test_a_token_with_odd_claims_has_no_end():
    import base64

    for claims in (DEEP, f'{{"exp": {"9" * 4000}}}', '{"exp": NaN}', "[]"):
        middle = base64.urlsafe_b64encode(claims.encode()).decode().rstrip("=")
        assert expired_since(f"a.{middle}.c") is None
