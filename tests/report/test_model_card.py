"""The model card: what must be in it, with figures that were computed by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from metseg.report.model_card import CardIdentity, CardPicture, model_card, write_model_card
from metseg.scoring.gate import decide
from metseg.scoring.patient_scores import score_patient
from metseg.scoring.unscored_champion import Absent
from metseg.scoring.verdict import Verdict
from metseg.training.result_records import EvaluationRecord
from tests.components.registering import COMMIT, GOOD, IMAGE, TEST_PATIENTS, judged
from tests.training_records import training_record
from tests.validation.cohorts import CHANNELS, sound

IDENTITY = CardIdentity("mets", 4, "run-of-pipeline", IMAGE, "2026-11-24")


def winner(**changes) -> EvaluationRecord:
    training = training_record("nested_unet", CHANNELS, run="run-of-training")
    return judged("nested_unet", GOOD, training=training, savedmodel_sha256="ab" * 32, **changes)


def card(record: EvaluationRecord, manifest=None, **options) -> str:
    verdict = decide({"nested_unet": record}, Absent())
    return model_card(IDENTITY, record, verdict, manifest or sound()[0], **options)


def scored(spacing_known: bool = True) -> dict:
    """Five patients, each with a lesion of 4 mm that is found, one of 12 mm that is missed and a false positive."""
    truth, prediction = np.zeros((14, 40, 40), bool), np.zeros((14, 40, 40), bool)
    truth[2:5, 2:6, 2:5] = prediction[2:5, 2:6, 2:5] = True  # 36 mm³: a sphere of 4.1 mm
    truth[1:11, 20:30, 20:30] = True  # 1,000 mm³: a sphere of 12.4 mm
    prediction[12, 38, 38] = True
    scores = score_patient(truth, prediction, (1.0, 1.0, 1.0), spacing_known)
    return dict.fromkeys(TEST_PATIENTS, scores)


def test_it_says_what_it_is_for_and_that_it_is_no_medical_device():
    text = card(winner())
    assert "Not a medical device" in text.splitlines()[2]
    for heading in ("Intended use", "Data", "Scores", "Lesions found, by size", "Where it fails", "Limits", "Origin"):
        assert f"\n## {heading}\n" in text
    assert "t1n, t1c" in text and "labels: 1, 3" in text and "Not for: diagnosis" in text


def test_scores_come_with_intervals_and_the_patients_they_were_taken_on():
    text = card(winner())
    row = next(line for line in text.splitlines() if line.startswith("| Dice |"))
    assert row.startswith("| Dice | 0.812 | 0.7") and row.endswith("| 5 |")
    assert ", ".join(TEST_PATIENTS) in text


def test_lesions_are_counted_by_size_and_failures_are_named():
    text = card(winner(patients=scored()))
    assert "| 3–6 mm | 5 | 5 | 1.00 |" in text and "| > 10 mm | 5 | 0 | 0.00 |" in text
    # Dice of 36 voxels found, one invented, of 1,036: 72 / (37 + 1036).
    assert "| patient k | 0.067 | 2 | 1 | 12.4 | 1 |" in text
    assert "Lesions of < 3 mm among the test patients: 0. How many of such it finds is not known." in text


def test_splits_and_origin_are_those_of_the_run():
    text = card(winner())
    assert "| train | 5 | 5 | 0 |" in text and "| test | 5 | 5 | 0 |" in text
    for part in ("`0.dir`", COMMIT, IMAGE, "run-of-pipeline", "run-of-training", "ab" * 32, "mets, version 4"):
        assert part in text
    outside = model_card(dataclasses.replace(IDENTITY, image=None), winner(), decided(), sound()[0])
    assert "trained outside a container" in outside


def decided() -> Verdict:
    return decide({"nested_unet": winner()}, Absent())


def test_without_spacing_lengths_are_voxels():
    text = card(winner(patients=scored(spacing_known=False)))
    assert "| > 10 voxels | 5 | 0 | 0.00 |" in text and "Volume error in voxels |" in text
    assert "The spacing is unknown" in text and "HD95" not in text and "mm³" not in text


def test_limits_follow_from_the_data():
    manifest = sound()[0]
    assert "Seen voxels: 3 mm between slices, 1 × 1 mm within." in card(winner())
    assert "No test patient is free of lesions" in card(winner())
    unknown = [dataclasses.replace(entry, spacing=None) for entry in manifest.cases[:2]]
    some = dataclasses.replace(manifest, cases=[*unknown, *manifest.cases[2:]])
    assert "2 cases came without spacing" in card(winner(), some)


def test_pictures_are_linked_with_their_captions():
    text = card(winner(), pictures=[CardPicture("pictures/worst.png", "Worst patient, patient m")])
    assert "![Worst patient, patient m](pictures/worst.png)" in text and "report.html" not in text


@pytest.mark.parametrize("odd", ["p|1", "p\n1"])
def test_names_from_the_data_break_no_table(odd):
    scores = scored()
    record = winner(patients={odd: scores[TEST_PATIENTS[0]]})
    row = next(line for line in card(record).splitlines() if "12.4" in line)
    assert row.replace("\\|", "").count("|") == 7


def test_it_is_written_whole(tmp_path):
    write_model_card(tmp_path / "model_card.md", IDENTITY, winner(), decided(), sound()[0])
    assert [path.name for path in tmp_path.iterdir()] == ["model_card.md"]
    assert (tmp_path / "model_card.md").read_text().endswith("checks each of them.\n")
