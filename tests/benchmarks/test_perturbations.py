"""The page of changed sentences is what the program writes, and holds what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.evaluate.robustness_changes import CHANGES

ROOT = Path(__file__).parents[2]


def test_the_page_is_fresh_and_every_sentence_is_changed(program: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "page.md"
    program("perturbations", "--out", str(out))
    page = out.read_text(encoding="utf-8")
    assert page == (ROOT / "docs" / "benchmarks" / "perturbations.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    samples = [row for row in rows if len(row) == 4 and row[0] in CHANGES]
    assert len(samples) == 50 and {row[0] for row in samples} == set(CHANGES)
    assert all(row[2] != row[3] for row in samples) and len({row[2] for row in samples}) == 50
