"""The page in a real browser, with no network: it draws, reads well on a phone, and no text of a user runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.browser import BROWSER, SKIP_REASON, PageResult, flip_scheme, open_page, print_page
from tests.report.sample import HOSTILE, write_run
from tunesmith.report.page import write

pytestmark = pytest.mark.skipif(BROWSER is None, reason=SKIP_REASON)

LIGHT, DARK = "rgb(247, 247, 244)", "rgb(19, 22, 25)"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run with 150 classes."""
    return write(write_run(tmp_path_factory.mktemp("runs") / "first-run"))


def assert_sound(result: PageResult) -> None:
    """Nothing went wrong, every chart is drawn, nothing was asked for, the page does not scroll sideways."""
    assert result.errors == [] and result.requests == [] and not result.hacked
    assert result.charts > 0 and result.drawings == result.charts
    assert result.plots == f"{result.charts}/{result.charts}"
    assert result.page_width <= result.window_width


@pytest.mark.parametrize("width", [1200, 375])
@pytest.mark.parametrize("dark", [False, True])
def test_the_page_of_a_finished_run(page: Path, width: int, dark: bool) -> None:
    result = open_page(page, width=width, dark=dark)
    assert_sound(result)
    assert result.charts == 15
    assert result.window_width == width and result.background == (DARK if dark else LIGHT)
    for text in HOSTILE[:6]:
        assert text in result.text


def test_a_figure_tells_what_it_is_when_it_is_pressed(page: Path) -> None:
    result = open_page(page, width=390, press=".scores .term")
    assert_sound(result)
    assert result.opened.split("\n")[0] == "accuracy" and "The share of right answers. <script>" in result.opened


def test_an_open_page_follows_the_colour_scheme(page: Path) -> None:
    light, dark = flip_scheme(page)
    assert_sound(dark)
    assert (light.background, dark.background) == (LIGHT, DARK)
    assert light.text_color != dark.text_color


def test_the_page_can_be_printed(page: Path) -> None:
    assert print_page(page).startswith(b"%PDF")


def test_a_run_that_has_just_begun(tmp_path: Path) -> None:
    result = open_page(write(tmp_path))
    assert (result.plots, result.errors, result.requests) == ("0/0", [], [])


def test_a_script_that_slipped_in_would_not_run(page: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    slipped = '<script>window.hacked=1</script><img src="https://example.com/x.png" onerror="window.hacked=1"></main>'
    broken.write_text(page.read_text(encoding="utf-8").replace("</main>", slipped, 1), encoding="utf-8")
    result = open_page(broken)
    assert not result.hacked and result.drawings == result.charts
    assert any("Content Security Policy" in error for error in result.errors)


def test_the_looking_glass_sees_errors_and_requests(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    script = "<script>window.hacked = 1; console.error('said'); throw new Error('thrown')</script>"
    wide = '<p style="width: 3000px">wide</p><img src="http://example.com/x.png">'
    page.write_text(f'<!DOCTYPE html><body data-plots="0/0">{wide}{script}', encoding="utf-8")
    result = open_page(page)
    assert result.hacked and result.page_width > result.window_width
    assert result.requests == ["http://example.com/x.png"]
    assert any("thrown" in error for error in result.errors) and any("said" in error for error in result.errors)
