"""Verdicts on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tunesmith.report.judged import verdicts
from tunesmith.report.record import read


def test_verdicts_stand_in_order_and_what_was_not_judged_is_said(run_folder: Path) -> None:
    written = verdicts(read(run_folder))
    assert re.findall(r'<strong dir="auto">(.*?)</strong>', written) == [
        "Learned", "Generalises in part", "Forgot much", "Moved little", "Calibrated?",
    ]  # fmt: skip
    assert "Not judged in this run: robust." in written


def test_a_grade_is_told_by_sign_and_word_not_by_colour_alone(run_folder: Path) -> None:
    written = verdicts(read(run_folder))
    signs = re.findall(r'<span class="sign (\w+)" aria-hidden="true">(.)</span>', written)
    assert signs == [("good", "✓"), ("mixed", "~"), ("bad", "✕"), ("good", "✓"), ("unknown", "?")]


def test_a_figure_stands_with_its_interval_and_its_rule(run_folder: Path) -> None:
    written = verdicts(read(run_folder))
    assert "retention score</button> <b>0.400</b>" in written and "(0.300 to 0.500)" in written
    # Without a rule there is nothing to press, without a value nothing to tell.
    assert "<bdi>calibration error</bdi> <b>–</b>" in written


def test_a_grade_that_is_not_known_gets_no_class_of_its_own(run_folder: Path) -> None:
    path = run_folder / "evaluation.json"
    value = json.loads(path.read_text())
    value["suites"]["task"]["verdicts"] = [{**value["suites"]["task"]["verdicts"][0], "grade": 'x" onclick="y'}]
    path.write_text(json.dumps(value))
    assert "onclick" not in verdicts(read(run_folder)) and "sign unknown" in verdicts(read(run_folder))


def test_a_run_without_verdicts_shows_none(tmp_path: Path) -> None:
    assert verdicts(read(tmp_path)) == ""
