"""Freed memory stays with the process: counted by the pages that the system has to give."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = """
import resource, sys
import numpy as np
from metseg.heap import keep_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(100 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

plain = new_pages()
keep_freed_memory()
np.ones(100 * 2**20, np.uint8)
print(plain, new_pages())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_a_large_array_takes_the_memory_of_the_one_before_it():
    said = subprocess.run([sys.executable, "-c", PAGES], check=True, capture_output=True, text=True).stdout
    plain, kept = map(int, said.split())
    assert kept < plain / 20
