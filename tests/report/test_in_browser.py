"""The pages in a real browser, without a network: on a desk, on a phone, on paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from metseg.report.html_report import draw, write_report
from metseg.report.verdict_page import write_verdict_page
from tests.report.example import example

A4_LESS_MARGINS = 703
"""Width in CSS pixels of what the page's print rules leave of A4."""

STICKING_OUT = """() => [...document.querySelectorAll("main *")]
  .filter(element => !element.closest(".scroll") && element.getBoundingClientRect().right > innerWidth + 0.5)
  .map(element => element.outerHTML.slice(0, 120))"""
CUT_OFF = """() => [...document.querySelectorAll(".scroll")]
  .filter(element => element.scrollWidth > element.clientWidth + 1)
  .map(element => element.closest("section").id)"""
SMALLEST_LETTERS = """() => Math.min(...[...document.querySelectorAll("main *")]
  .filter(element => element.innerText?.trim() && element.getClientRects().length)
  .map(element => parseFloat(getComputedStyle(element).fontSize)))"""
EMPTY_PICTURES = "() => [...document.images].filter(picture => !picture.naturalWidth).map(picture => picture.alt)"


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """Reports: a usual one, one of patients with long names, and the page of a verdict."""
    folder = tmp_path_factory.mktemp("pages")
    drawn = draw(example())
    usual, long = example(), example(3, prefix="a_patient_of_a_very_long_name_without_any_space_in_it_")
    write_report(folder / "usual.html", usual, drawn=drawn)
    write_report(folder / "long.html", long, drawn=drawn)
    write_verdict_page(folder / "verdict.html", usual)
    return {path.stem: path for path in folder.glob("*.html")}


class Opened:
    """A page in a browser of some width, and everything that the browser complained of."""

    def __init__(self, browser, path: Path, width: int, media: str = "screen") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.emulate_media(media=media)
        self.page.goto(path.as_uri())

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_) -> None:
        self.context.close()


PAGES = ("usual", "long", "verdict")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_it_opens_offline_and_nothing_sticks_out(browser, pages, name, width):
    with Opened(browser, pages[name], width) as opened:
        assert opened.complaints == []
        assert [url for url in opened.asked if not url.startswith("data:")] == [pages[name].as_uri()]
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.page.evaluate(STICKING_OUT) == []
        assert opened.page.evaluate(EMPTY_PICTURES) == []
        assert opened.page.evaluate(SMALLEST_LETTERS) >= 10


def test_on_a_desk_no_table_has_to_be_pushed_aside(browser, pages):
    with Opened(browser, pages["usual"], 1280) as opened:
        assert opened.page.evaluate(CUT_OFF) == []


def test_on_a_phone_the_table_of_patients_alone_has_to_be_pushed_aside(browser, pages):
    with Opened(browser, pages["usual"], 390) as opened:
        assert opened.page.evaluate(CUT_OFF) == ["patients"]


@pytest.mark.parametrize("name", ["usual", "verdict"])
def test_on_paper_nothing_is_cut_off(browser, pages, name):
    with Opened(browser, pages[name], A4_LESS_MARGINS, media="print") as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= A4_LESS_MARGINS
        assert opened.page.evaluate(CUT_OFF) == []
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert opened.page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_the_verdict_is_what_a_reader_sees_first(browser, pages):
    with Opened(browser, pages["usual"], 390) as opened:
        headline = opened.page.locator(".headline")
        assert headline.is_visible() and headline.bounding_box()["y"] < 400


def test_every_part_is_reached_from_the_top(browser, pages):
    with Opened(browser, pages["usual"], 1280) as opened:
        for link in opened.page.locator("nav a").all():
            link.click()
            target = opened.page.url.split("#")[1]
            assert opened.page.locator(f"section#{target}").bounding_box()["y"] < 800
            opened.page.evaluate("scrollTo(0, 0)")


def test_the_browser_refuses_what_a_page_must_not_do(browser, pages, tmp_path):
    """The policy in the head holds even where a script got in."""
    page = pages["verdict"].read_text(encoding="utf-8")
    bad = '<script>document.title = "run"</script><img src="https://example.org/x.png">'
    (tmp_path / "bad.html").write_text(page.replace("</main>", bad + "</main>"), encoding="utf-8")
    with Opened(browser, tmp_path / "bad.html", 1280) as opened:
        assert opened.page.title().startswith("metseg verdict")
        assert any("Content Security Policy" in complaint for complaint in opened.complaints)
