"""The page of a comparison."""

from __future__ import annotations

from pathlib import Path

from tests.report.rivals import write_rival
from tunesmith import comparison
from tunesmith.report import compared_page


def shown(*folders: Path) -> str:
    return compared_page.body(comparison.compare(folders))


def test_sections_marks_and_pictures(tmp_path: Path) -> None:
    text = shown(
        write_rival(tmp_path / "poor", 0.6, method="full", kept=0.9), write_rival(tmp_path / "good", 0.9, kept=0.7)
    )
    for part in ("Which is better", "What differs", "method.name", "McNemar", "Not dominated: poor and good."):
        assert part in text
    # The best of two accuracies and of two retention scores; the rivals of the task's suite are left out.
    assert text.count("★</strong>") == 2 and "most frequent class" not in text
    assert text.count('class="plot"') == 5


def test_recipes_that_do_not_differ_and_figures_that_are_equal(tmp_path: Path) -> None:
    text = shown(write_rival(tmp_path / "a", 0.8), write_rival(tmp_path / "b", 0.8))
    assert "The recipes are the same." in text and "★</strong>" not in text
    assert "a and b do equally well on 200 rows." in text and "have the same recipe and seed" in text


def test_texts_are_escaped(tmp_path: Path) -> None:
    name = "<script>alert(1)</script>".replace("/", "∕")
    folder = write_rival(tmp_path / name, 0.8)
    path = folder / "recipe.yaml"
    path.write_text(path.read_text().replace("rows.csv", "'<img src=x>'"))
    text = shown(folder, write_rival(tmp_path / "b", 0.6))
    assert "<script>alert" not in text and "<img" not in text and "&lt;img src=x&gt;" in text


def test_the_file_is_whole(tmp_path: Path) -> None:
    found = comparison.compare([write_rival(tmp_path / "a", 0.8), write_rival(tmp_path / "b", 0.6)])
    compared_page.write(tmp_path / "page.html", found)
    text = (tmp_path / "page.html").read_text()
    assert text.startswith("<!DOCTYPE html>") and "2 runs of classify compared" in text
    assert "Content-Security-Policy" in text
