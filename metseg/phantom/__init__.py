"""Synthetic heads with brain metastases, equal to the byte on every machine."""

from metseg.phantom.cohort import PhantomCase, cohort_cases, generate_cohort, phantom_case
from metseg.phantom.synthetic_lesions import ENHANCING, LESION_LABELS, NECROSIS, OEDEMA

__all__ = [
    "ENHANCING",
    "LESION_LABELS",
    "NECROSIS",
    "OEDEMA",
    "PhantomCase",
    "cohort_cases",
    "generate_cohort",
    "phantom_case",
]
