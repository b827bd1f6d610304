"""Names that attack pages: in a browser none runs a script, loads or changes anything, and each is shown as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

from metseg.dataset.image_statistics import slice_statistics
from metseg.dataset.manifest import CaseEntry, Manifest
from metseg.dataset.slice_files import write_case_records
from metseg.html_templates import POLICY
from metseg.imaging.preprocessing.specification import PreprocessingSpecification
from metseg.report.html_report import write_report
from metseg.report.step_pages import write_declined_page, write_records_page, write_training_page
from metseg.report.verdict_page import write_verdict_page
from metseg.scoring.operating_point import OperatingPoint
from metseg.training.result_records import HeadScores
from metseg.validation.cohort_validation import validate_cohort
from metseg.validation.reference_statistics import describe
from tests.report.example import example
from tests.training_records import training_record

EVIL = (
    "<svg onload=document.title='EVIL'>",
    "\"><svg onload=document.title='EVIL'>",
    "'><img src=x onerror=document.title='EVIL'>",
    "<details open ontoggle=document.title='EVIL'>",
    "<script>document.title='EVIL'<script>",
    "<img src=https:evil.example>",
    "<iframe src=https:evil.example>",
    "<link rel=stylesheet href=https:evil.example>",
    "<meta http-equiv=refresh content=0;url=https:evil.example>",
    "<base href=https:evil.example>",
    "<style>*{background:url(https:evil.example)}<style>",
    "<form action=https:evil.example><button autofocus>",
    "<a href=javascript:document.title='EVIL'>x",
    "pla{{7*7}}in {%raw%}",
    "$v__0 ${v__1} $$",
    "&lt;b&gt;&amp;",
    "![x](https:evil.example)",
    "url(https:evil.example)",
)
"""Names of folders, which have no slash."""

HEAD = HeadScores(EVIL[0], 8190, 7_299_072, 0.35, 5.0, dice=0.751, lesion_f1=0.802, exported=True)

FOREIGN = """() => [...document.querySelectorAll(
  "svg, script, iframe, base, form, details[ontoggle], [onload], [onerror], img:not([src^='data:']), " +
  "link:not([href^='data:']), meta[http-equiv=refresh], a[href^='javascript:'], body style"
)].map(element => element.outerHTML.slice(0, 100))"""


def evil_cohort() -> tuple[Manifest, pandas.DataFrame]:
    """A cohort in which every name attacks, with faults that put them into findings."""
    shape, channels, rows, entries = (4, 24, 24, 2), (EVIL[0], EVIL[14]), [], []
    for number, name in enumerate(EVIL):
        image = np.zeros(shape, np.float32)
        image[:3, 2:22, 2:22] = np.random.default_rng(number % 3).normal(100, 20, (3, 20, 20, 2))
        image[0, 3, 3, 0] = np.nan
        mask = np.zeros(shape[:3], np.uint8)
        slices = tuple(f"{name} {place}" for place in range(4))
        rows += slice_statistics(name, channels, slices, image, mask)
        split = ("train", "validation", "test")[number % 3]
        entries.append(
            CaseEntry(name, f"patient {name}", name, split, False, *shape[:3], (3.0, 1.0, 1.0), 0, 0, (name,))
        )
    manifest = Manifest(EVIL[1], EVIL[2], EVIL[3], list(channels), [EVIL[4]], list(EVIL), entries)
    return manifest, pandas.DataFrame(rows).assign(skull_stripped=True, tilt_degrees=0.0)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> list[Path]:
    """Every kind of page that metseg writes, made of such names."""
    folder = tmp_path_factory.mktemp("pages")
    manifest, rows = evil_cohort()
    other = replace(manifest, channels=[EVIL[5], EVIL[14]], labels=[EVIL[6]], version=EVIL[7])
    reference = describe(other, rows.assign(channel=rows["channel"].replace(EVIL[0], EVIL[5])))
    validate_cohort(manifest, rows, folder / "validation", reference=reference)
    content = example(3, prefix=f"{EVIL[0]}{EVIL[4]}", reference=EVIL[1], run=EVIL[2], card="\n\n".join(EVIL))
    write_report(folder / "report.html", replace(content, facts={EVIL[3]: EVIL[5]}))
    write_verdict_page(folder / "verdict.html", content)
    write_declined_page(folder / "declined.html", EVIL[0])
    point = OperatingPoint(0.35, 5.0, lesion_f1=0.8, dice=0.7, patients=2, curve=())
    training_record(
        "unet",
        point=point,
        history=({"loss": 0.9, "val_dice": 0.2},),
        heads=(HEAD,),
        validation_patients=EVIL,
        run=EVIL[0],
    ).write(folder / "training.json")
    write_training_page(folder / "training.html", folder)
    specification = PreprocessingSpecification(channels=EVIL[:2], image_size=32)
    for split in ("train", "validation", "test"):
        (folder / "records" / split).mkdir(parents=True)
    specification.write(folder / "records" / "preprocessing.json")
    images, masks = np.zeros((2, 32, 32, 2), np.float32), np.zeros((2, 32, 32), np.uint8)
    write_case_records(folder / "records" / "train" / f"{EVIL[0]}.npy", images, masks)
    write_records_page(folder / "records.html", folder / "records")
    return sorted(folder.rglob("*.html"))


@pytest.fixture(scope="module")
def opened(browser) -> Iterator:
    """A function that opens a page, and returns it with all that it complained of and asked for."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True)

    def open_page(path: Path):
        page, complaints, asked = context.new_page(), [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_timeout(50)
        return page, complaints, [url for url in asked if not url.startswith("data:")]

    yield open_page
    context.close()


def test_every_page_has_the_policy_first(pages):
    assert len(pages) == 1 + 1 + 6 + 6 + 5
    for path in pages:
        head = path.read_text(encoding="utf-8").partition("<head>")[2]
        assert POLICY in head[:200], path


@pytest.mark.parametrize("policy", [POLICY, ""], ids=["with the policy", "by escaping alone"])
def test_no_page_runs_loads_or_holds_anything_of_a_name(opened, pages, policy, tmp_path):
    for number, path in enumerate(pages):
        copy = tmp_path / f"{number}.html"
        copy.write_text(path.read_text(encoding="utf-8").replace(POLICY, policy), encoding="utf-8")
        page, complaints, asked = opened(copy)
        assert page.title() != "EVIL", path
        assert asked == [copy.as_uri()], path
        assert complaints == [], path
        assert page.evaluate(FOREIGN) == [], path
        page.close()


def test_every_name_is_shown_as_it_is(opened, pages):
    texts = {}
    for path in pages:
        page, *_ = opened(path)
        texts[path.relative_to(path.parents[0]).as_posix()] = page.evaluate("document.body.textContent")
        page.close()
    whole = "\n".join(texts.values())
    assert [name for name in EVIL if name not in texts["validation.html"]] == []
    docs = "\n".join(page for name, page in texts.items() if name not in ("validation.html", "report.html"))
    assert [name for name in EVIL if name not in docs] == []
    assert "&amp;lt;" not in whole and "&lt;svg" not in whole


def test_the_policy_alone_would_hold(opened, pages, tmp_path):
    """Where a script got in, the browser refuses it."""
    for number, path in enumerate(pages):
        bad = "<script>document.title='EVIL'</script><svg onload=document.title='EVIL'><img src='https://evil.example'>"
        text = path.read_text(encoding="utf-8")
        (tmp_path / f"{number}.html").write_text(text.replace("<body>", f"<body>{bad}", 1), encoding="utf-8")
        assert "<body>" in text
        page, complaints, _ = opened(tmp_path / f"{number}.html")
        assert page.title() != "EVIL" and any("Content Security Policy" in one for one in complaints)
        page.close()
