"""UCSF-BMSR: `100101A/100101A_{T1pre,T1post,FLAIR,subtraction,T2Synth,seg}.nii.gz` (Rudie et al. 2024)."""

from __future__ import annotations

import re
from typing import ClassVar

from metseg.imaging.channel_names import MASK
from metseg.imaging.layouts.base_volumes import VolumeLayout


class UcsfBmsr(VolumeLayout):
    """One folder per scan: six digits for the patient, a letter for the timepoint."""

    name = "ucsf-bmsr"
    looks_for = "folders such as 100101A with 100101A_{T1pre,T1post,FLAIR,subtraction,T2Synth,seg}.nii.gz"
    case_folder = re.compile(r"(?P<patient>\d{6})(?P<timepoint>[A-Z])")
    file_stem = "{case}_{channel}"
    channel_files: ClassVar = {
        "T1pre": "t1n",
        "T1post": "t1c",
        "FLAIR": "t2f",
        "T2Synth": "t2w",
        "subtraction": "subtraction",
        "seg": MASK,
    }
