"""`metseg submit` and what it speaks to."""

from pipelines.compiling import COMPILED
from pipelines.submission.pipeline_package import Specification, documents
from pipelines.submission.submit import REFERENCE

DATA = ("--param", f"{REFERENCE}=s3://scans/2026")


def titles() -> list[str]:
    """Titles of the steps of today's pipeline, in the order in which they may run."""
    specification = Specification.from_documents(documents(COMPILED.read_text(encoding="utf-8")))
    return [step.title for step in specification.steps()]
