"""One file, whole, that trusts no text."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tunesmith.core.errors import RunFolderError
from tunesmith.report.page import SECTIONS, render, write


class Reader(HTMLParser):
    """Collects elements and their attributes, and the texts of scripts that run."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1] == ("script", {}) and data.strip():
            self.scripts.append(data)


@pytest.fixture
def page(run_folder: Path) -> str:
    return render(run_folder)


@pytest.fixture
def reader(page: str) -> Reader:
    found = Reader()
    found.feed(page)
    return found


def test_write_makes_one_file(run_folder: Path) -> None:
    path = write(run_folder)
    assert path == run_folder / "report.html" and path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_sections_stand_in_order(page: str) -> None:
    names = ["Task", "Calibration", "Drift", *SECTIONS]
    places = [page.index(f'<h2 dir="auto">{name}</h2>') for name in names]
    assert places == sorted(places) and len(SECTIONS) == 7
    assert page.index('class="verdicts"') < page.index('class="scores"') < places[0]


def test_only_our_two_scripts_run_and_nothing_is_loaded(reader: Reader) -> None:
    runs = [attributes for name, attributes in reader.elements if name == "script" and not attributes]
    assert len(runs) == 2
    names = {name for name, _ in reader.elements}
    assert not names & {"img", "link", "iframe", "object", "base", "form"}
    for _, attributes in reader.elements:
        assert "src" not in attributes and (attributes.get("href") or "#").startswith("#")
        assert not [key for key in attributes if key.startswith("on")]


def test_the_policy_allows_our_scripts_by_their_hashes(page: str, reader: Reader) -> None:
    policies = [found["content"] for name, found in reader.elements if found.get("http-equiv")]
    allowed = set(re.findall(r"'sha256-([^']+)'", policies[0] or ""))
    scripts = re.findall(r"<script>(.*?)</script>", page[page.rindex("</main>") :], flags=re.DOTALL)
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts} == allowed
    assert "default-src 'none'" in (policies[0] or "") and "unsafe-eval" not in (policies[0] or "")


def test_plotly_is_there_once(page: str) -> None:
    assert page.count("* plotly.js v") == 1


def test_links_lead_to_sections(reader: Reader) -> None:
    anchors = {attributes["id"] for name, attributes in reader.elements if name == "section" and "id" in attributes}
    links = {(attributes["href"] or "")[1:] for name, attributes in reader.elements if name == "a"}
    assert links == anchors and len(links) == len(SECTIONS) + 4


def test_every_term_has_its_definition(reader: Reader) -> None:
    asked = {attributes["popovertarget"] for name, attributes in reader.elements if name == "button"}
    places = [attributes["id"] for _, attributes in reader.elements if "popover" in attributes]
    assert asked == set(places) and len(places) == len(asked) == 4


def test_half_a_character_can_be_written(page: str) -> None:
    assert "half a character ?" in page


def test_a_run_that_has_just_begun_has_a_page(tmp_path: Path) -> None:
    page = render(tmp_path)
    assert page.count("Not there yet") == 7 and tmp_path.name in page


def test_a_damaged_run_has_none(run_folder: Path) -> None:
    (run_folder / "evaluation.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"evaluation\.json is damaged"):
        write(run_folder)
    assert not (run_folder / "report.html").exists()
