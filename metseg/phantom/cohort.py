"""The phantom cohort: its cases, and its folder in the layout of BraTS-METS."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metseg.errors import DataError
from metseg.files import folder_written_beside
from metseg.parallel import FEW, usable_cores
from metseg.phantom.anatomy import ORIGIN, SHAPE, SPACING, draw_anatomy
from metseg.phantom.random_draws import Draws
from metseg.phantom.scanner import draw_white_matter_spots, take_pictures
from metseg.phantom.synthetic_lesions import draw_lesions, draw_pathology
from metseg.phantom.vessels import draw_vessels

CHANNELS = ("t1n", "t2f", "t1c")
_VERSION = 1  # raise it when a byte of any case changes
_HEADER_BYTES = 352
_ANATOMY, _VESSELS, _SITES, _LESIONS, _SESSION, _SPOTS = range(6)


@dataclass(frozen=True)
class PhantomCase:
    """One timepoint of one phantom patient.

    Attributes:
        name: such as `PHANTOM-MET-00001-000`: patient and timepoint, as BraTS-METS names them.
        t1n, t2f, t1c: int16 `(width, height, slices)`: T1, FLAIR, and T1 with contrast agent, scanner units.
        seg: uint8 of the same shape: 0 background, 1 necrotic core, 2 oedema, 3 enhancing.
        affine: float64 `(4, 4)`, voxel index → RAS+ mm.
    """

    name: str
    t1n: NDArray[np.int16]
    t2f: NDArray[np.int16]
    t1c: NDArray[np.int16]
    seg: NDArray[np.uint8]
    affine: NDArray[np.float64]


def phantom_case(seed: int, patient: int, timepoint: int = 0) -> PhantomCase:
    """Draw the head of one patient at one timepoint.

    The same arguments give the same bytes on any machine.

    Args:
        seed: of the cohort; not negative.
        patient: its number, from 1.
        timepoint: 0 for the first scan. At a later one the lesions have changed and one is new.
    """
    key = (seed, patient)
    anatomy = draw_anatomy(Draws(*key, _ANATOMY))
    vessels = draw_vessels(Draws(*key, _VESSELS), anatomy)
    spots = draw_white_matter_spots(Draws(*key, _SPOTS), anatomy)
    lesions = draw_lesions(Draws(*key, _SITES), anatomy, (*key, _LESIONS), timepoint)
    pathology = draw_pathology(anatomy, lesions)
    pictures = take_pictures(Draws(*key, _SESSION, timepoint), anatomy, vessels, spots, pathology)
    affine = np.array(
        [[SPACING[0], 0, 0, ORIGIN[0]], [0, SPACING[1], 0, ORIGIN[1]], [0, 0, SPACING[2], ORIGIN[2]], [0, 0, 0, 1]],
        dtype=np.float64,
    )
    name = case_name(patient, timepoint)
    return PhantomCase(name, pictures["t1n"], pictures["t2f"], pictures["t1c"], pathology.labels, affine)


def case_name(patient: int, timepoint: int) -> str:
    """Return a name such as `PHANTOM-MET-00001-000`."""
    return f"PHANTOM-MET-{patient:05d}-{timepoint:03d}"


def cohort_cases(patients: int) -> list[tuple[int, int]]:
    """Return patient and timepoint of every case; patients 3, 13, 23 … have two scans."""
    return [(patient, time) for patient in range(1, patients + 1) for time in range(2 if patient % 10 == 3 else 1)]


def generate_cohort(
    folder: Path, patients: int = 60, seed: int = 2023, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the cohort into `folder`, atomically; do nothing if it is already there.

    Each case is a folder of uncompressed NIfTI files, 3.7 MB: `<case>/<case>-{t1n,t2f,t1c,seg}.nii`.

    Args:
        folder: to be created, along with its parents; an empty folder is taken too.
        patients: how many, from 1.
        seed: decides every byte.
        progress: called with the number of cases done and of all cases.

    Raises:
        DataError: `folder` holds something else, or the template is not installed.
    """
    if patients < 1 or seed < 0:
        raise DataError(f"A phantom cohort has at least 1 patient and a seed from 0: got {patients} and {seed}.")
    folder = folder.absolute()
    cases = cohort_cases(patients)
    if _stands(folder, cases, seed):
        if progress:
            progress(len(cases), len(cases))
        return
    with folder_written_beside(folder) as beside:
        for done, _ in enumerate(_each(partial(_make_case, beside, seed), cases), start=1):
            if progress:
                progress(done, len(cases))


def _each(work: Callable[[tuple[int, int]], None], cases: list[tuple[int, int]]) -> Iterator[None]:
    """Apply `work` to every case, in processes if they are worth their start."""
    if (workers := usable_cores()) == 1 or len(cases) < FEW * workers:
        yield from map(work, cases)
        return
    # Not forked: a progress bar draws in a thread of this process.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(work, cases)


def _stands(folder: Path, cases: list[tuple[int, int]], seed: int) -> bool:
    """Return True if `folder` contains exactly this cohort, False if it is empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    names = {case_name(*case) for case in cases}
    if not folder.is_dir():
        raise DataError(f"{folder} is a file; the phantom cohort needs a folder. Name another one.")
    present = {path.name for path in folder.iterdir()}
    wrong = sorted(present ^ names)
    for name in sorted(names & present):
        for part in (*CHANNELS, "seg"):
            path = folder / name / f"{name}-{part}.nii"
            size = _HEADER_BYTES + SHAPE[0] * SHAPE[1] * SHAPE[2] * (1 if part == "seg" else 2)
            if not path.is_file() or path.stat().st_size != size or _description(path) != _stamp(seed):
                wrong.append(f"{name}/{path.name}")
    if wrong:
        raise DataError(
            f"{folder} is not the phantom cohort of {len(cases)} cases with seed {seed}: {wrong[0]} is missing, "
            f"unexpected or from another cohort ({len(wrong)} such). Remove the folder or name another one."
        )
    return True


def _make_case(folder: Path, seed: int, case: tuple[int, int]) -> None:
    _write_case(folder, phantom_case(seed, *case), seed)


def _write_case(folder: Path, case: PhantomCase, seed: int) -> None:
    (folder / case.name).mkdir()
    for part, data in (("t1n", case.t1n), ("t2f", case.t2f), ("t1c", case.t1c), ("seg", case.seg)):
        (folder / case.name / f"{case.name}-{part}.nii").write_bytes(_nifti(data, seed))


def _nifti(data: NDArray[np.int16] | NDArray[np.uint8], seed: int) -> bytes:
    """Write a NIfTI-1 file, field by field: `nibabel` would take the quaternion from LAPACK."""
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header(endianness="<")  # type: ignore[no-untyped-call]
    header.set_data_shape(data.shape)  # type: ignore[no-untyped-call]
    header.set_data_dtype(data.dtype)  # type: ignore[no-untyped-call]
    header["pixdim"][:4] = (1.0, *SPACING)
    header["qform_code"] = header["sform_code"] = 4  # MNI 152 space
    header["xyzt_units"] = 2  # mm
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["vox_offset"] = _HEADER_BYTES
    header["descrip"] = _stamp(seed)
    for axis, field in enumerate("xyz"):
        header[f"qoffset_{field}"] = ORIGIN[axis]
        header[f"srow_{field}"] = [*(SPACING[axis] * (axis == i) for i in range(3)), ORIGIN[axis]]
    voxels = data.astype(data.dtype.newbyteorder("<")).tobytes(order="F")
    return bytes(header.binaryblock) + bytes(4) + voxels


def _stamp(seed: int) -> bytes:
    return f"metseg phantom {_VERSION}, seed {seed}".encode()


def _description(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(228)[148:].rstrip(b"\0")
