"""The pages that preprocess and train show in the Kubeflow UI hold their pictures and load nothing."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from metseg.dataset.slice_files import write_case_records
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.report.step_pages import write_declined_page, write_records_page, write_training_page
from metseg.scoring.operating_point import OperatingPoint
from metseg.training.result_records import HeadScores
from tests.training_records import training_record

HEAD = HeadScores("last", 8190, 7_299_072, 0.35, 5.0, dice=0.751, lesion_f1=0.802, exported=True)


def pictures(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def loads_nothing(page: str) -> bool:
    return not re.search(r'(src|href)="(?!data:|#)', page) and "<script" not in page


@pytest.fixture
def model(tmp_path):
    training_record(
        "attention_unet",
        point=OperatingPoint(0.35, 5.0, lesion_f1=0.802, dice=0.751, patients=2, curve=()),
        parameters=8190,
        history=({"loss": 0.9, "val_dice": 0.2}, {"loss": 0.5, "val_dice": 0.7}),
        seconds=61.2,
        heads=(HEAD,),
        validation_patients=("a", "b"),
    ).write(tmp_path / "training.json")
    return tmp_path


def test_training_page_shows_curves_and_the_operating_point(model, tmp_path):
    write_training_page(tmp_path / "page.html", model)
    page = (tmp_path / "page.html").read_text()
    assert loads_nothing(page)
    assert len(pictures(page)) == 3 and all(picture.size[0] > 300 for picture in pictures(page))
    for shown in ("Attention U-Net", "0.751", "0.802", "0.35", "5 mm³", "ab12"):
        assert shown in page, shown


def test_records_page_shows_the_slice_with_most_lesion_of_each_case(tmp_path):
    specification = PreprocessingSpecification(channels=("t1c",), image_size=32)
    records = tmp_path / "records"
    for split in ("train", "validation", "test"):
        (records / split).mkdir(parents=True)
    specification.write(records / "preprocessing.json")
    for case, pixels in (("a", 7), ("b", 12)):
        masks = np.zeros((3, 32, 32), np.uint8)
        masks[1].flat[200 : 200 + pixels] = 1
        images = np.full((3, 32, 32, 1), 0.25, np.float32)
        images[1] = 0.75
        write_case_records(records / "train" / f"{case}.npy", images, masks)
    write_records_page(tmp_path / "page.html", records)
    page = (tmp_path / "page.html").read_text()
    assert loads_nothing(page)
    (sheet,) = pictures(page)
    # 0.75 of 255 is the grey of the slices with lesion; 0.25 that of the others, which are not shown.
    greys = {colour[0] for _, colour in sheet.convert("RGB").getcolors(1 << 24) if len(set(colour)) == 1}
    assert 191 in greys and 64 not in greys


def test_network_that_was_not_asked_for_says_so(tmp_path):
    write_declined_page(tmp_path / "page.html", "unet")
    page = (tmp_path / "page.html").read_text()
    assert loads_nothing(page) and not pictures(page) and "does not train" in page
