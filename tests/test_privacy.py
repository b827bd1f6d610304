"""What names a patient goes in and never comes out: files, names, databases, log lines, errors."""

from __future__ import annotations

import base64
import copy
import gzip
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import nibabel
import numpy as np
import pandas
import pydicom
import pytest
from pydicom.dataset import Dataset

from metseg.dataset.data_cache import DataCache
from metseg.dataset.ingest import ingest
from metseg.errors import DataError
from metseg.imaging.io import read_image, write_mask_like
from metseg.pseudonyms import KEY_FILE, Pseudonyms
from tests.imaging.dicom_cohorts import Study, head, write_segmentation, write_series
from tests.imaging.planted import NEEDLES as PLANTED
from tests.imaging.planted import TEXT, plant, plant_in_items, structure
from tests.privacy_search import found

ROOT = Path(__file__).resolve().parents[1]
PATIENTS = ("Zwingelstein", "Vandevelde", "Xanthopoulos", "Wojciechowska")
BIRTHS = ("19370212", "19410723", "19521130", "19660408")
COMMON = [
    "ACC5550123", "Hospital of Nowhere", "Quux^Operator", "Refers^Doctor", "SCANNER77X", "SN-31337-Q", "19990909",
    "private remark", "secret^operator", "comment on her", "Nested^Person",
]  # fmt: skip
NEEDLES = [*PATIENTS, *BIRTHS, *(f"QX-9912-{number}" for number in range(4)), *COMMON, *PLANTED]


def export(root: Path) -> list[str]:
    """Four patients as a scanner exports them, names in headers, folders and files. Gives the UIDs of it all."""
    uids: list[str] = []
    for number, name in enumerate(PATIENTS):
        study = Study(f"QX-9912-{number}", f"{name}^Ottilie", "19990909")
        image, mask = head(number)
        folder = root / f"{name}_Ottilie_{BIRTHS[number]}"
        identifiers = {
            "PatientBirthDate": BIRTHS[number], "AccessionNumber": COMMON[0], "InstitutionName": COMMON[1],
            "OperatorsName": COMMON[2], "ReferringPhysicianName": COMMON[3], "StationName": COMMON[4],
            "DeviceSerialNumber": COMMON[5], "ImageComments": COMMON[9], "SeriesDescription": f"AX T1 POST {name}",
            "IssuerOfPatientID": TEXT,
        }  # fmt: skip
        for channel in ("t1c", "t2f"):
            described = {**identifiers, "SeriesDescription": f"{'T1 POST' if channel == 't1c' else 'FLAIR'} {name}"}
            images = write_series(folder / channel, study, image, channel=channel, **described)
            for plane, dataset in enumerate(images):
                dataset.private_block(0x0011, "NOWHERE", create=True).add_new(1, "LO", COMMON[7])
                nested = Dataset()
                nested.PersonName = COMMON[10]
                dataset.ReferencedInstanceSequence = [nested]
                planted = copy.deepcopy(dataset)
                if plane == 0:
                    plant(planted, {"SpacingBetweenSlices", *(element.keyword for element in dataset)})
                planted.save_as(folder / channel / f"IM_{name}_{plane}", enforce_file_format=True)
            for path in (folder / channel).glob("IM0*"):
                path.unlink()
            if channel == "t1c":
                write_segmentation(folder / "seg.dcm", images, mask[..., None], operator=COMMON[8])
                mask_file = pydicom.dcmread(folder / "seg.dcm")
                # Codes have one value or another: with both, the mask would be refused.
                plant_in_items(mask_file, {"LongCodeValue", "URNCodeValue"})
                plant(mask_file, structure(mask_file) | {"ContentCreatorName"})
                mask_file.save_as(folder / "seg.dcm")
            uids += [study.uid, study.frame_of_reference, images[0].SeriesInstanceUID, images[0].SOPInstanceUID]
    return [*map(str, uids)]


STEPS = textwrap.dedent("""
    import sys
    from pathlib import Path
    from components.configuration.settings import DataSettings
    from components.step_execution import executing
    from components.ingest.step import ingest
    from components.preprocess.step import preprocess
    from components.promote.step import conclude
    from components.validate.step import validate
    from metseg.cli import app
    from metseg.files import read_json, write_json
    from metseg.settings import Settings
    from metseg.tracking import mlflow_runs

    cohort, broken = map(Path, sys.argv[1:])
    app(["inspect", str(cohort)], standalone_mode=False)
    with executing("ingest", "steps/cohort") as folder:
        whole = ingest(DataSettings(str(cohort)), folder, model_name="m", run_name="r")
    with executing("preprocess", "steps/records") as folder:
        preprocess(Path("steps/cohort"), folder, image_size=32)
    settings = Settings.from_environment()
    for wanted in (True, False):
        with executing("validate", f"steps/validation-{wanted}") as folder:
            tracking = mlflow_runs.client(settings)
            run = mlflow_runs.start_run(tracking, settings, folder.name, {}, {})
            page = Path("steps/page.html")
            validate(Path("steps/cohort"), run, "m", folder, page, patient_pictures_in_mlflow=wanted)
        (folder / "figures").mkdir()
        for name in ("summary.json", "report.html", "overlay.png", "figures/dice.png"):
            (folder / name).write_text("of a run")
        write_json(folder / "registration.json", {"run": run})
        conclude(folder, folder, wanted)
        kept = [item.path for part in ("validation", "report") for item in tracking.list_artifacts(run, part)]
        print("kept", wanted, *sorted(kept))
    from components.evaluate.step import evaluate, evaluate_champion
    from components.promote.step import promote
    from components.register.step import register
    from components.train.step import train
    from components.gate_inputs import copy, run_folders
    from metseg.report.run_report import write_run_report
    from metseg.training.configuration import TrainingConfiguration

    paths = {part: Path("steps") / part for part in ("cohort", "records", "model", "evaluation", "champion")}
    tiny = TrainingConfiguration("attention_unet", epochs=1, steps_per_epoch=2, batch_size=2, filters=2, depth=2)
    with executing("train", "steps/model") as folder:
        train(paths["cohort"], paths["records"], whole, folder, tiny)
    for wanted in (False, True):
        with executing("evaluate", "steps/evaluation") as folder:
            evaluate(paths["cohort"], paths["model"], folder, patient_pictures_in_mlflow=wanted)
        training = read_json(paths["model"] / "training.json")
        listed = [item.path for item in tracking.list_artifacts(training["run"], "evaluation")]
        print("judged", wanted, *sorted(listed))
    with executing("evaluate champion", "steps/champion") as folder:
        evaluate_champion(paths["cohort"], whole, "m", folder)
    judged = Path("steps/validation-True")
    for name in ("manifest.json", "statistics.parquet"):
        (judged / name).write_bytes((paths["cohort"] / name).read_bytes())
    with executing("register", "steps/registration") as registration:
        register(judged, [paths["evaluation"]], paths["champion"], whole, "m", 0.0, 0.0, registration)
        copy(registration, judged, {"attention_unet": paths["evaluation"]}, paths["champion"], "attention_unet")
    with executing("promote", "steps/promoted") as promoted:
        chosen = {"attention_unet": paths["evaluation"]}
        promote(registration, chosen, paths["champion"], "m", "automatic", promoted)
        write_run_report(run_folders(registration, promoted), 1.0, Path("steps/report.html"))
        conclude(registration, promoted, True)
    for one in sorted(broken.iterdir()):
        try:
            with executing("ingest", f"steps/{one.name}") as folder:
                ingest(DataSettings(str(one), layout="dicom"), folder)
        except SystemExit:
            print("refused", one.name)
""")


def break_pixels(folder: Path) -> None:
    path = next((folder / f"{PATIENTS[0]}_Ottilie_{BIRTHS[0]}" / "t1c").iterdir())
    path.write_bytes(path.read_bytes()[:-900])


def break_header(folder: Path) -> None:
    path = next((folder / f"{PATIENTS[0]}_Ottilie_{BIRTHS[0]}" / "t2f").iterdir())
    path.write_bytes(path.read_bytes()[:500])


def burn_in(folder: Path) -> None:
    path = next((folder / f"{PATIENTS[1]}_Ottilie_{BIRTHS[1]}" / "t2f").iterdir())
    dataset = pydicom.dcmread(path)
    dataset.BurnedInAnnotation = "YES"
    dataset.save_as(path)


def lose_slice(folder: Path) -> None:
    (folder / f"{PATIENTS[2]}_Ottilie_{BIRTHS[2]}" / "t1c" / f"IM_{PATIENTS[2]}_3").unlink()


def lose_mask(folder: Path) -> None:
    (folder / f"{PATIENTS[3]}_Ottilie_{BIRTHS[3]}" / "seg.dcm").unlink()


def wrong_value(folder: Path) -> None:
    path = next((folder / f"{PATIENTS[1]}_Ottilie_{BIRTHS[1]}" / "t1c").iterdir())
    content = path.read_bytes()
    spacing = b"0.9\\0.7"
    assert spacing in content
    path.write_bytes(content.replace(spacing, PATIENTS[1][:7].encode()))


BREAKING = [break_pixels, break_header, burn_in, lose_slice, lose_mask, wrong_value]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], subprocess.CompletedProcess]:
    """Inspect and a whole run, from ingest to promote, on identified DICOM; and ingest of broken copies of it."""
    folder = tmp_path_factory.mktemp("privacy")
    uids = export(folder / "in" / "export")
    for one in BREAKING:
        shutil.copytree(folder / "in" / "export", folder / "in" / "broken" / one.__name__)
        one(folder / "in" / "broken" / one.__name__)
    # A file that has just changed is not remembered in the table of hashes: these are to be.
    for path in (folder / "in").rglob("*"):
        os.utime(path, (1e9, 1e9))
    out = folder / "out"
    out.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("METSEG", "MLFLOW_TR"))}
    answer = subprocess.run(
        [sys.executable, "-c", STEPS, str(folder / "in" / "export"), str(folder / "in" / "broken")],
        cwd=out,
        env={**environment, "METSEG_WORKSPACE": str(out), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "always"},
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, uids, answer


def test_the_search_finds_what_went_in(steps) -> None:
    folder, uids, _ = steps
    wanted = [*NEEDLES, *uids]
    assert set(found(wanted, [folder / "in"])) == set(wanted)


def test_the_steps_did_their_work(steps) -> None:
    folder, _, answer = steps
    assert answer.returncode == 0, answer.stdout[-2000:] + answer.stderr[-2000:]
    assert "data version" in answer.stdout and "pseudonyms was made in" in answer.stdout + answer.stderr
    out = folder / "out"
    assert list((out / "inspection").rglob("inspection.json"))
    assert len(list((out / "steps" / "cohort" / "cases").iterdir())) == len(PATIENTS)
    assert len(list((out / "steps" / "records").rglob("*.npy"))) == len(PATIENTS)
    with sqlite3.connect(out / "var" / "state" / "data" / "hashes.sqlite") as table:
        assert table.execute("SELECT count(*) FROM files").fetchone()[0] >= 13 * len(PATIENTS)
    assert (out / "steps" / "validation-True" / "validation.html").exists() and (out / "var" / "mlflow.db").exists()
    summary = json.loads((out / "steps" / "promoted" / "summary.json").read_text())
    assert summary["registered"] == {"name": "m", "version": 1, "aliases": ["champion"]}
    assert summary["served"]["version"] == 1 and len(summary["data"]["test_patients"]) >= 1
    for pattern in ("var/**/saved_model.pb", "steps/model/**/model.keras", "steps/report.html", "var/**/report/*.png"):
        assert list(out.glob(pattern)), pattern
    assert [line.split()[1] for line in answer.stdout.splitlines() if line.startswith("refused")] == sorted(
        one.__name__ for one in BREAKING
    )


def test_no_identifier_comes_out(steps) -> None:
    folder, uids, answer = steps
    assert found([*NEEDLES, *uids], [folder / "out"], [answer.stdout, answer.stderr]) == {}


def test_pages_that_show_patients_reach_mlflow_only_where_wanted(steps) -> None:
    _, _, answer = steps
    kept = [line.split()[1:] for line in answer.stdout.splitlines() if line.startswith("kept ")]
    tables = {"report/summary.json", "report/figures", "validation/verdict.json"}
    pictures = {"report/overlay.png", "report/report.html", "validation/validation.html"}
    assert [(switch, set(names)) for switch, *names in kept] == [("True", tables | pictures), ("False", tables)]
    judged = [line.split()[1:] for line in answer.stdout.splitlines() if line.startswith("judged ")]
    tables = {f"evaluation/{name}" for name in ("evaluation.json", "golden.npz", "calibration.png")}
    assert [(switch, set(names)) for switch, *names in judged] == [
        ("False", tables), ("True", {*tables, "evaluation/worst_cases"})
    ]  # fmt: skip


def test_the_key_is_in_no_output_but_its_file(steps) -> None:
    folder, _, answer = steps
    path = folder / "out" / "var" / "state" / KEY_FILE
    key = path.read_text().strip()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert found([key], [folder / "out"], [answer.stdout, answer.stderr]) == {key: [f"var/state/{KEY_FILE}"]}


def packed(kind: str, folder: Path) -> None:
    """A file that holds a needle where a plain search does not see it."""
    text = "before Zwingelstein after"
    if kind == "gzip":
        (folder / "x.bin").write_bytes(gzip.compress(text.encode()))
    elif kind == "npz":
        np.savez_compressed(folder / "x.npz", text=np.array(text))
    elif kind == "parquet":
        pandas.DataFrame({"a": [text] * 3}).to_parquet(folder / "x", compression="zstd")
    elif kind == "sqlite":
        with sqlite3.connect(folder / "x.db") as table:
            table.execute("CREATE TABLE t (c)")
            table.execute("INSERT INTO t VALUES (?)", (text,))
    elif kind == "name":
        (folder / "a Zwingelstein b").mkdir()
    elif kind.startswith("base64"):
        (folder / "x").write_bytes(base64.b64encode(b"y" * int(kind[-1]) + text.encode()))
    elif kind == "hex":
        (folder / "x").write_text(text.encode().hex().upper())
    else:
        (folder / "x").write_bytes(text.upper().encode(kind))


KINDS = ["ascii", "utf-16-le", "utf-16-be", "hex", "base64+0", "base64+1", "base64+2"]
KINDS += ["gzip", "npz", "parquet", "sqlite", "name"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_search_finds_a_name_however_it_is_packed(tmp_path: Path, kind: str) -> None:
    assert found(["Zwingelstein"], [tmp_path]) == {}
    packed(kind, tmp_path)
    assert set(found(["Zwingelstein"], [tmp_path])) == {"Zwingelstein"}


def nifti_cohort(root: Path) -> None:
    """BraTS-METS folders named after patients, with names in every free field of the headers."""
    for number, name in enumerate(PATIENTS):
        case = f"{name}-{number:05d}-000"
        (root / case).mkdir(parents=True)
        image, mask = head(number, size=20)
        for channel, array in (("t1c", image), ("seg", mask)):
            volume = nibabel.Nifti1Image(np.transpose(array, (2, 1, 0)).astype(np.int16), np.diag([-1, -1, 3, 1]))
            for field in ("descrip", "aux_file", "db_name", "intent_name"):
                volume.header[field] = f"Quux {field}"
            volume.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"comment on her"))
            nibabel.save(volume, root / case / f"{case}-{channel}.nii.gz")


def test_nifti_headers_stay_outside_and_names_too_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nifti_cohort(tmp_path / "in")
    monkeypatch.chdir(tmp_path)
    headers = ["Quux ", "comment on her"]
    assert set(found([*headers, *PATIENTS], [tmp_path / "in"])) == {*headers, *PATIENTS}
    ingest("in", tmp_path / "plain")
    assert set(found([*headers, *PATIENTS], [tmp_path / "plain"])) == set(PATIENTS)
    monkeypatch.setenv("METSEG_PSEUDONYMS", "on")
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "a key of the tests, long enough")
    manifest = ingest("in", tmp_path / "hidden")
    assert found([*headers, *PATIENTS], [tmp_path / "hidden"]) == {}
    assert len(manifest.patients()) == len(PATIENTS)
    pseudonym = Pseudonyms(b"a key of the tests, long enough").patient(f"{PATIENTS[0]}-00000")
    plain = np.load(tmp_path / "plain" / "cases" / f"{PATIENTS[0]}-00000-000" / "image.npy")
    np.testing.assert_array_equal(plain, np.load(tmp_path / "hidden" / "cases" / f"{pseudonym}-000" / "image.npy"))


def test_kept_cases_are_not_taken_under_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nifti_cohort(tmp_path / "in")
    monkeypatch.setenv("METSEG_PSEUDONYMS", "on")
    patients = {}
    for name, key in {"a": "one", "b": "other", "c": "one"}.items():
        monkeypatch.setenv("METSEG_PSEUDONYM_KEY", f"{key} key that is long enough")
        patients[name] = ingest(str(tmp_path / "in"), tmp_path / name, cache=DataCache(tmp_path / "cache")).patients()
    assert patients["a"] == patients["c"] and not set(patients["a"]) & set(patients["b"])
    assert len(list((tmp_path / "cache" / "cases").glob("[0-9a-f]*"))) == 2


@pytest.mark.parametrize("broken", ["truncated", "no mask", "unknown layout"])
def test_errors_hide_names_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    nifti_cohort(tmp_path / "in")
    case = tmp_path / "in" / f"{PATIENTS[1]}-00001-000"
    image, mask = case / f"{case.name}-t1c.nii.gz", case / f"{case.name}-seg.nii.gz"
    if broken == "truncated":
        image.write_bytes(image.read_bytes()[:200])
    elif broken == "no mask":
        mask.unlink()
    else:
        for path in list((tmp_path / "in").rglob("*.gz")):
            path.rename(path.with_suffix(".dat"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "a key of the tests, long enough")
    messages = {}
    for switch in ("off", "on"):
        monkeypatch.setenv("METSEG_PSEUDONYMS", switch)
        with pytest.raises(DataError) as refused:
            ingest("in", tmp_path / "out")
        messages[switch] = str(refused.value)
    assert found(PATIENTS, [], [messages["off"]]) and "file-" in messages["on"]
    assert found(PATIENTS, [], [messages["on"]]) == {}


def test_errors_hide_names_behind_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        folder = tmp_path / "elsewhere" / str(number)
        folder.mkdir(parents=True)
        image, mask = head(number, size=20)
        for name, array in ((PATIENTS[0], image), ("seg", mask)):
            nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), folder / f"{name}.nii.gz")
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"case{number}").symlink_to(folder)
    broken = tmp_path / "elsewhere" / "1" / f"{PATIENTS[0]}.nii.gz"
    broken.write_bytes(broken.read_bytes()[:200])
    monkeypatch.setenv("METSEG_PSEUDONYM_KEY", "a key of the tests, long enough")
    monkeypatch.setenv("METSEG_PSEUDONYMS", "on")
    with pytest.raises(DataError, match="file-") as refused:
        ingest(str(tmp_path / "in"), tmp_path / "out")
    assert found(PATIENTS, [], [str(refused.value)]) == {}


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_mask_carries_nothing_of_its_images_header(tmp_path: Path, kind: type) -> None:
    image = kind(np.ones((4, 5, 6), np.int16), np.diag([-1, -1, 3, 1]))
    for field in {"descrip", "aux_file", "db_name", "intent_name", "data_type"} & set(image.header.keys()):
        image.header[field] = "Quux"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"Quux comment" * 99))
    (tmp_path / "in").mkdir()
    nibabel.save(image, tmp_path / "in" / "a.nii.gz")
    assert found(["Quux"], [tmp_path / "in"])
    original = read_image(tmp_path / "in" / "a.nii.gz").original
    write_mask_like(tmp_path / "out" / "a.nii.gz", np.ones((6, 5, 4), np.uint8), original)
    assert found(["Quux"], [tmp_path / "out"]) == {}
