"""MRI signal of a head with lesions: contrast, bias field, noise and scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metseg.phantom.anatomy import SHAPE, Anatomy
from metseg.phantom.random_draws import Draws, Floats
from metseg.phantom.synthetic_lesions import Pathology


@dataclass(frozen=True)
class Sequence:
    """Signal of each tissue in one MRI sequence; white matter on T1 is 1.

    `noise` is the deviation of the noise.
    """

    white: float
    grey: float
    fluid: float
    dura: float
    bone: float
    marrow: float
    fat: float
    skin: float
    muscle: float
    necrosis: float
    oedema: float
    noise: float


T1 = Sequence(1.0, 0.74, 0.30, 0.55, 0.10, 0.62, 1.55, 0.70, 0.60, 0.52, 0.74, 0.028)
FLAIR = Sequence(0.56, 0.68, 0.14, 0.35, 0.10, 0.45, 0.95, 0.60, 0.42, 0.70, 1.08, 0.026)
_ENHANCED_SKIN = 0.25
_LESION_T1, _LESION_FLAIR = 0.78, 0.84


def take_pictures(
    draws: Draws, anatomy: Anatomy, vessels: Floats, spots: Floats, pathology: Pathology
) -> dict[str, NDArray[np.int16]]:
    """Return the sequences `t1n`, `t2f` and `t1c` of one session, int16 `(width, height, slices)` in scanner units."""
    enhancing, necrosis = pathology.enhancing, pathology.necrosis

    plain = _tissue_signal(T1, anatomy, pathology)
    plain = _mix(plain, enhancing, np.float32(_LESION_T1))
    plain = _mix(plain, necrosis, np.float32(T1.necrosis))

    flair = _tissue_signal(FLAIR, anatomy, pathology)
    flair = flair + spots * anatomy.white * np.float32(0.4)
    flair = _mix(flair, vessels * np.float32(0.35), np.float32(0.2))
    flair = _mix(flair, enhancing, np.float32(_LESION_FLAIR))
    flair = _mix(flair, necrosis, np.float32(FLAIR.necrosis))

    # Dose, delay and fat suppression differ from session to session.
    suppressed, blood = draws.uniform(0.1, 0.9), draws.uniform(1.35, 1.75)
    contrast = _tissue_signal(T1, anatomy, pathology)
    contrast += anatomy.skin * np.float32(_ENHANCED_SKIN) - anatomy.fat * np.float32(suppressed)
    contrast = _mix(contrast, vessels, np.float32(blood))
    contrast = _mix(contrast, enhancing, pathology.enhancement)
    contrast = _mix(contrast, necrosis, np.float32(T1.necrosis))
    return {
        "t1n": _acquire(draws, plain, T1.noise),
        "t2f": _acquire(draws, flair, FLAIR.noise),
        "t1c": _acquire(draws, contrast, T1.noise),
    }


def _tissue_signal(sequence: Sequence, anatomy: Anatomy, pathology: Pathology) -> Floats:
    brain = anatomy.white * np.float32(sequence.white) + anatomy.grey * np.float32(sequence.grey)
    swollen = (anatomy.white + anatomy.grey) * np.float32(sequence.oedema)
    signal: Floats = brain + (swollen - brain) * pathology.oedema
    for tissue, value in (
        (anatomy.fluid, sequence.fluid),
        (anatomy.dura, sequence.dura),
        (anatomy.bone, sequence.bone),
        (anatomy.marrow, sequence.marrow),
        (anatomy.fat, sequence.fat),
        (anatomy.skin, sequence.skin),
        (anatomy.muscle, sequence.muscle),
    ):
        signal = signal + tissue * np.float32(value)
    return signal


def draw_white_matter_spots(draws: Draws, anatomy: Anatomy) -> Floats:
    """Return age-related bright spots on FLAIR, neither enhancing nor labelled; 0 to 1."""
    burden = draws.uniform(0.28, 0.5)
    field = draws.field(SHAPE, (26, 31, 10))
    spots: Floats = np.clip((field - np.float32(burden)) * np.float32(9.0), np.float32(0.0), np.float32(1.0))
    spots *= np.clip((anatomy.white - np.float32(0.6)) * np.float32(3.0), np.float32(0.0), np.float32(1.0))
    return spots


def _acquire(draws: Draws, signal: Floats, noise: float) -> NDArray[np.int16]:
    """Apply texture, receive field, Rician noise and the scale of this session's scanner."""
    texture = np.float32(1.0) + draws.field(SHAPE, (30, 36, 12)) * np.float32(0.10)
    receive = np.float32(1.0) + draws.field(SHAPE, (2, 2, 2)) * np.float32(0.45)
    real = signal * texture * receive + draws.normals(SHAPE) * np.float32(noise)
    imaginary = draws.normals(SHAPE) * np.float32(noise)
    magnitude = np.sqrt(real * real + imaginary * imaginary)
    gain, offset = draws.uniform(380.0, 900.0), draws.uniform(0.0, 12.0)
    picture: NDArray[np.int16] = np.rint(magnitude * np.float32(gain) + np.float32(offset)).astype(np.int16)
    return picture


def _mix(signal: Floats, fraction: Floats, value: Floats | np.float32) -> Floats:
    mixed: Floats = signal + (value - signal) * fraction
    return mixed
