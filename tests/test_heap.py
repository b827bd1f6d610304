"""Freed memory stays with the process: counted by the pages that the system has to give."""

from __future__ import annotations

import subprocess
import sys

import pytest

PAGES = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from metseg.malloc import keep_freed_memory

def fill():
    bytes(bytearray(100 * 2**20))

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        run(fill)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "keep" in sys.argv:
    keep_freed_memory()
if "thread" in sys.argv:
    pool = ThreadPoolExecutor(1)
    run = lambda work: pool.submit(work).result()
else:
    run = lambda work: work()
run(fill)
print(new_pages())
"""


def pages(*arguments: str) -> int:
    said = subprocess.run([sys.executable, "-c", PAGES, *arguments], check=True, capture_output=True, text=True).stdout
    return int(said)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
@pytest.mark.parametrize("where", ["main", "thread"])
def test_a_large_block_takes_the_memory_of_the_one_before_it(where):
    assert pages(where, "keep") < pages(where) / 20
