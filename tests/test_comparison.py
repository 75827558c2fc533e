"""Runs compared: on the rows that they share, by their seeds, or by figures alone; and refused together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.report.rivals import ROWS, write_rival
from tunesmith import comparison
from tunesmith.core.errors import RunFolderError
from tunesmith.evaluate import duels
from tunesmith.report import compared


def test_runs_on_the_same_rows_are_compared_row_by_row(tmp_path: Path) -> None:
    found = comparison.compare([write_rival(tmp_path / "poor", 0.6), write_rival(tmp_path / "good", 0.9)])
    assert found.rows == ROWS and found.ranked == [1, 0]
    assert [duel.test for duel in found.duels] == [duels.MCNEMAR]
    assert found.sentences[0].startswith("good is better than poor by ")
    assert "good has the best accuracy" in found.lead and "beyond what chance explains" in found.lead
    assert any("the same 200 test rows" in note for note in found.notes)


def test_what_is_no_difference_is_said_with_what_could_have_been_seen(tmp_path: Path) -> None:
    found = comparison.compare([write_rival(tmp_path / str(seed), 0.8, seed) for seed in range(2)])
    assert "no difference that these 200 rows can show" in found.sentences[0]
    assert "the smallest that they could have shown is about" in found.sentences[0]
    assert any("differ in their seed alone" in note for note in found.notes) and "can't be told from" in found.lead


def test_the_page_is_the_same_each_time(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / str(share), share) for share in (0.7, 0.8)]
    for name in "12":
        comparison.write(tmp_path / name, comparison.compare(folders))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    with pytest.raises(RunFolderError, match="is not overwritten"):
        comparison.write(tmp_path / "1", comparison.compare(folders))


def test_other_test_rows_are_compared_by_figures_alone(tmp_path: Path) -> None:
    folders = [
        write_rival(tmp_path / "one", 0.6, rows=range(0, 110)),
        write_rival(tmp_path / "two", 0.9, rows=range(90, 200)),
    ]
    found = comparison.compare(folders)
    assert found.rows is None and [duel.test for duel in found.duels] == [duels.UNPAIRED]
    assert any("splits differ: only 20 of 110 rows" in note for note in found.notes)


def test_rows_of_other_files_are_found_by_what_they_say(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / "one", 0.6), write_rival(tmp_path / "two", 0.9, data="aa" * 32, rows=range(150))]
    found = comparison.compare(folders)
    assert found.rows == 150 and any("150 test rows in common (of up to 200)" in note for note in found.notes)


def test_three_seeds_are_one_group(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / f"lora-s{seed}", 0.8, seed) for seed in range(3)]
    folders += [write_rival(tmp_path / f"full-s{seed}", 0.6, seed, method="full") for seed in (0, 1, 2)]
    found = comparison.compare(folders)
    assert found.names == ["lora-s (3 seeds)", "full-s (3 seeds)"]
    assert [duel.test for duel in found.duels] == ["t-test, paired by seed"]
    assert "lora-s (3 seeds) is better than full-s (3 seeds)" in found.sentences[0]
    folders[-1] = write_rival(tmp_path / "full-s9", 0.6, 9, method="full")
    again = comparison.compare([*folders, write_rival(tmp_path / "alone", 0.7, method="bitfit")])
    assert [duel.test.split(" ")[0] for duel in again.duels] == ["Welch's", "t-test", "t-test"]


def test_a_group_of_other_seeds_is_compared_by_welch(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / f"lora-{seed}", 0.8, seed) for seed in range(3)]
    folders += [write_rival(tmp_path / f"full-{seed}", 0.6, seed, method="full") for seed in (5, 6, 7)]
    assert comparison.compare(folders).duels[0].test == "Welch's t-test over seeds"


def test_all_that_is_in_the_way_comes_in_one_error(tmp_path: Path) -> None:
    good = write_rival(tmp_path / "good", 0.8)
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "recipe.yaml").write_text((good / "recipe.yaml").read_text())
    other, judged = write_rival(tmp_path / "other", 0.8), write_rival(tmp_path / "judged", 0.8)
    (other / "recipe.yaml").write_text((good / "recipe.yaml").read_text().replace("classify", "regress"))
    evaluation = json.loads((judged / "evaluation.json").read_text()) | {"metric": "macro_f1"}
    (judged / "evaluation.json").write_text(json.dumps(evaluation))
    with pytest.raises(RunFolderError) as raised:
        comparison.compare([good, tmp_path / "unfinished", other, judged, tmp_path / "none", good])
    told = str(raised.value)
    for part in ("is not finished", "is regress", "judged by macro_f1", "does not exist", "given 2 times"):
        assert part in told
    with pytest.raises(RunFolderError, match="One run alone"):
        comparison.compare([good])


def test_missing_predictions_leave_the_figures(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / str(share), share) for share in (0.6, 0.9)]
    (folders[0] / "predictions" / "test.jsonl").unlink()
    found = comparison.compare(folders)
    assert found.duels[0].test == duels.UNPAIRED and any("is missing" in note for note in found.notes)


def test_other_machines_are_said(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / str(share), share) for share in (0.6, 0.9)]
    path = folders[0] / "environment.json"
    path.write_text(path.read_text().replace('"one"', '"two"'))
    assert any("different machines" in note for note in comparison.compare(folders).notes)


def test_as_json(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / "a", 0.6, method="full"), write_rival(tmp_path / "b", 0.9, kept=0.5)]
    found = json.loads(json.dumps(compared.as_json(comparison.compare(folders))))
    assert found["differs"] == {"method.name": {"a": "full", "b": "lora"}}
    assert [run["retention"] for run in found["runs"]] == [None, 0.5] and found["rows"] == ROWS
    assert found["pairs"][0]["better_by"] < 0 and found["pairs"][0]["p_after_holm"] == found["pairs"][0]["p"]
