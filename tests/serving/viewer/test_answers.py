"""What a server holds, what its models answer, and the files made of that; against a real server."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from metseg.errors import DataError, ServingError, UsageError
from metseg.imaging.geometry import Geometry
from metseg.serving.client import ModelDescription, Segmentation
from metseg.serving.viewer import downloads
from metseg.serving.viewer.mask_comparison import agreement
from metseg.serving.viewer.model_versions import ServedVersion, list_versions, pair_to_show
from metseg.serving.viewer.options import ViewerOptions
from metseg.serving.viewer.predictions import PredictionCache, StudyPrediction, predict
from metseg.serving.viewer.rendering import CONTOUR, FILL, FIRST, HEAT, TRUE_MASK, Appearance, draw, to_jpeg
from metseg.serving.viewer.samples import folder_samples, phantom_samples
from metseg.serving.viewer.slices import PLANES
from metseg.serving.viewer.study import Study
from metseg.serving.viewer.uploads import Upload, open_uploads, roles_of
from tests.serving.conftest import MODEL
from tests.serving.viewer.conftest import BRIGHT, CHANNELS, FAINT, SHAPE

NOWHERE = "127.0.0.1:1"


@pytest.fixture(scope="module")
def study(study_files):
    uploads = [Upload(path.name, path.read_bytes()) for path in study_files.values()]
    roles = roles_of([upload.name for upload in uploads], CHANNELS)
    return open_uploads(list(zip(uploads, roles, strict=True)), CHANNELS, ("1", "3"))


@pytest.fixture(scope="module")
def answers(two_models, study):
    return {version: predict(two_models.address, ServedVersion(MODEL, version), study) for version in (1, 2)}


def test_labels_are_resolved_to_versions(two_models):
    versions, missing = list_versions(two_models.address, [MODEL])
    assert [(one.version, one.labels) for one in versions] == [(1, ("stable",)), (2, ("canary",))]
    assert missing == []


def test_a_label_and_a_model_that_are_not_there_are_said(one_label):
    versions, missing = list_versions(one_label.address, [MODEL, "other"])
    assert [one.version for one in versions] == [1]
    assert any("label canary" in sentence for sentence in missing)
    assert any("other" in sentence for sentence in missing)


def test_a_server_that_is_not_there_is_one_sentence():
    with pytest.raises(ServingError, match=r"no model server responds at 127\.0\.0\.1:1") as caught:
        list_versions(NOWHERE, [MODEL])
    assert "\n" not in str(caught.value)


def served(version: int, *labels: str, architecture: str = "unet", model: str = MODEL) -> ServedVersion:
    return ServedVersion(model, version, labels, architecture)


@pytest.mark.parametrize(
    ("there", "pair"),
    [
        ([], (None, None)),
        ([served(3, "stable")], (3, None)),
        ([served(4, "canary"), served(3, "stable")], (3, 4)),
        ([served(3, "stable", "canary")], (3, None)),
        ([served(3, "stable"), served(2), served(1, architecture="other")], (3, 1)),
        ([served(3, "stable"), served(2)], (3, None)),
        ([served(2), served(5)], (5, None)),
    ],
)
def test_which_two_are_shown_first(there, pair):
    assert tuple(one.version if one else None for one in pair_to_show(there)) == pair


def test_the_models_threshold_and_minimum_volume_make_the_mask(answers):
    expected = np.zeros(SHAPE, bool)
    expected[BRIGHT] = True
    assert (answers[2].mask == expected).all()
    expected[FAINT] = True
    assert (answers[1].mask == expected).all()
    # 48 and 18 voxels of 4 × 1.5 × 1 mm; the longest axial diameter is the diagonal of 3 × 1.5 mm and 3 × 1 mm.
    first, second = answers[1].lesions
    assert (first.volume_mm3, second.volume_mm3) == (288, 108)
    assert first.longest_axial_diameter_mm == pytest.approx(29.25**0.5)
    assert first.centroid_voxel == pytest.approx((6, 11.5, 7.5))
    assert second.mean_probability == pytest.approx(0.6)


def test_the_two_versions_differ_by_the_faint_lesion(answers):
    found = agreement(answers[1].mask, answers[2].mask, (4.0, 1.5, 1.0))
    assert found.dice == pytest.approx(2 * 48 / (66 + 48))
    assert (found.both_mm3, found.only_first_mm3, found.only_second_mm3) == (288, 108, 0)
    assert (found.first_lesions, found.first_alone, found.second_lesions, found.second_alone) == (2, 1, 1, 0)


def test_the_same_question_is_asked_once(two_models, study):
    cache = PredictionCache()
    first = cache.get(two_models.address, ServedVersion(MODEL, 1), study)
    assert cache.get(two_models.address, ServedVersion(MODEL, 1, ("stable",)), study) is first
    assert cache.get(two_models.address, ServedVersion(MODEL, 2), study) is not first
    assert first.result(60).served.version == 1


def test_only_the_last_answers_are_kept(two_models, study):
    cache = PredictionCache(size=1)
    first = cache.get(two_models.address, ServedVersion(MODEL, 1), study)
    first.result(60)
    cache.get(two_models.address, ServedVersion(MODEL, 2), study).result(60)
    assert cache.get(two_models.address, ServedVersion(MODEL, 1), study) is not first


def test_a_question_that_failed_can_be_asked_again(two_models, study):
    cache = PredictionCache()
    failed = cache.get(two_models.address, ServedVersion("absent", 1), study)
    assert isinstance(failed.exception(60), ServingError)
    assert cache.get(two_models.address, ServedVersion("absent", 1), study) is failed
    cache.forget_failed()
    assert cache.get(two_models.address, ServedVersion("absent", 1), study) is not failed


def test_a_channel_that_the_study_lacks_is_named(two_models, study_files):
    study = open_uploads([(Upload("a-t1c.nii.gz", study_files["t1c"].read_bytes()), "t1c")], CHANNELS, ())
    with pytest.raises(DataError, match="lacks t1n, t2f"):
        predict(two_models.address, ServedVersion(MODEL, 1), study)


def test_the_mask_lies_on_the_uploaded_file_voxel_for_voxel(study, answers, study_files, tmp_path):
    path = tmp_path / f"mask{downloads.mask_suffix_of(study)}"
    path.write_bytes(downloads.mask_file(study, answers[2]))
    mask, image = nibabel.load(path), nibabel.load(study_files["t1c"])
    assert np.allclose(mask.affine, image.affine)
    # The bright lesion and the speck have 900 and more; the speck was dropped.
    assert (np.asarray(mask.dataobj) == (np.asarray(image.dataobj) == 900)).all()


def test_the_mask_of_a_sample_is_nifti_in_its_place(answers, study, tmp_path):
    path = tmp_path / "mask.nii.gz"
    path.write_bytes(downloads.mask_file(replace(study, original=None), answers[2]))
    mask = nibabel.load(path)
    voxel = np.argwhere(np.asarray(mask.dataobj)).mean(axis=0)
    ras = nibabel.affines.apply_affine(mask.affine, voxel)
    assert np.allclose(ras * [-1, -1, 1], answers[2].lesions[0].centroid_mm, atol=1e-4)


def test_the_lesions_are_given_as_json_and_csv(study, answers):
    content = json.loads(downloads.lesions_json(study, answers[1]))
    assert content["version"] == 1 and content["units"] == "mm"
    assert [row["volume_mm3"] for row in content["lesions"]] == [288, 108]
    rows = list(csv.DictReader(io.StringIO(downloads.lesions_csv(answers[1]).decode())))
    assert [float(row["volume_mm3"]) for row in rows] == [288, 108]
    assert [float(row["mean_probability"]) for row in rows] == pytest.approx([0.9, 0.6])


@pytest.mark.parametrize("overlays", [(), (CONTOUR,), (FILL, HEAT, CONTOUR)])
def test_every_lesion_has_a_picture(study, answers, overlays):
    appearance = Appearance("t1c", (0.0, 1000.0), overlays)
    with zipfile.ZipFile(io.BytesIO(downloads.overlays_zip(study, answers[1], appearance))) as archive:
        assert archive.namelist() == ["lesion-001.png", "lesion-002.png"]
        with Image.open(archive.open("lesion-001.png")) as picture:
            colours = {colour for _, colour in picture.getcolors(1 << 24)}
    assert ((240, 160, 0) in colours) == (CONTOUR in overlays)


def test_three_planes_of_a_large_volume_are_drawn_at_once():
    rng = np.random.default_rng(0)
    shape = (155, 240, 240)
    image = rng.integers(0, 1000, (*shape, 3), dtype=np.int16)
    probability = rng.random(shape, dtype=np.float32)
    study = Study("large", image, CHANNELS, Geometry.unknown(), image[..., 0] > 900)
    description = ModelDescription.parse("large", "{}")
    segmentation = Segmentation((probability > 0.9).astype(np.uint8), probability, (), 0, 1, description)
    answer = StudyPrediction(ServedVersion(MODEL, 1), segmentation, 0.0)
    appearance = Appearance("t1c", (0.0, 1000.0), (CONTOUR, FILL, HEAT, TRUE_MASK))

    def seconds() -> float:
        start = time.process_time()
        for plane in PLANES.values():
            to_jpeg(draw(study, plane, 70, appearance, answer, FIRST))
        return time.process_time() - start

    # CPU seconds, so that the machine's load does not count. The worst a study can be: every pixel has an edge.
    assert min(seconds() for _ in range(3)) < 0.3


def test_phantoms_are_samples_with_a_truth():
    study = phantom_samples(("1", "3"))["Phantom head 1"]()
    assert study.title == "Phantom head 1"
    assert study.channels == ("t1n", "t2f", "t1c")
    assert study.truth is not None and study.truth.any()


def test_a_folder_of_images_without_masks_gives_samples(study_files, tmp_path):
    for name in CHANNELS:
        (tmp_path / f"case-{name}.nii.gz").write_bytes(study_files[name].read_bytes())
    (tmp_path / "lonely-t1c.nii.gz").write_bytes(study_files["t1c"].read_bytes())
    samples = folder_samples(tmp_path, CHANNELS, ("1", "3"))
    assert list(samples) == ["case"]
    assert samples["case"]().truth is None


def test_a_folder_in_a_layout_gives_samples_with_their_masks(study_files, tmp_path):
    case = "BraTS-MET-00001-000"
    (tmp_path / case).mkdir()
    for name, path in study_files.items():
        (tmp_path / case / f"{case}-{name}.nii.gz").write_bytes(path.read_bytes())
    (opener,) = folder_samples(tmp_path, CHANNELS, ("1", "3")).values()
    study = opener()
    assert study.title == case and int(study.truth.sum()) == 48


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"server": "host"}, "HOST:PORT"),
        ({"server": "host:x"}, "HOST:PORT"),
        ({"models": ()}, "no model"),
        ({"samples": Path("absent")}, "no such folder"),
    ],
)
def test_options_that_cannot_be_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        ViewerOptions(**arguments)


def test_options_reach_the_page_through_the_environment(monkeypatch, tmp_path):
    options = ViewerOptions(server="h:1", models=("a", "b"), samples=tmp_path)
    for name, value in options.to_environment().items():
        monkeypatch.setenv(name, value)
    assert ViewerOptions.from_environment() == options


def test_the_page_imports_neither_tensorflow_nor_mlflow():
    code = (
        "import sys, metseg.serving.viewer.panels.details, metseg.serving.viewer.panels.sidebar; "
        "assert not {'tensorflow', 'keras', 'mlflow', 'models'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
