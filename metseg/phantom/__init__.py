"""A cohort of synthetic heads with brain metastases, the same to the last byte on every machine."""

from metseg.phantom.cohort import PhantomCase, cohort_cases, generate_cohort, phantom_case
from metseg.phantom.lesions import ENHANCING, LESION_LABELS, NECROSIS, OEDEMA

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
