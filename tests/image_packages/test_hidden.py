"""A hidden module is not found, and nothing else is hidden."""

import os
import subprocess
import sys

import pytest

from tests.image_packages import as_in_image, hidden, images_of_steps


@pytest.mark.parametrize(
    ("image", "module", "found"),
    [
        ("train", "pydicom", False),
        ("train", "tensorflow", True),
        ("data", "tensorflow", False),
        ("data", "pydicom", True),
        ("serve", "kfp", False),
        ("serve", "fastapi", True),
    ],
)
def test_a_module_is_found_where_the_image_holds_its_package(image, module, found):
    program = f"import {module}"
    answer = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **as_in_image(image)}, capture_output=True, text=True
    )
    assert (answer.returncode == 0) is found, answer.stderr


def test_no_image_lacks_our_own_packages():
    for image in ("data", "train", "serve"):
        assert not {"metseg", "components", "models", "pipelines", "numpy"} & set(hidden(image))


def test_each_step_has_an_image():
    assert images_of_steps()["train"] == images_of_steps()["evaluate"] == "train"
    assert images_of_steps()["ingest"] == images_of_steps()["register"] == "data"
