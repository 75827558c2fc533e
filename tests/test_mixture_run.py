"""A run on several files: it goes on exactly, notices a changed file, and reports what was really seen of each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith import check
from tunesmith import run as runs
from tunesmith.core.errors import RecipeError, RunFolderError
from tunesmith.core.files import read_json
from tunesmith.core.step import Update
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt
from tunesmith.recipe import Recipe, from_values
from tunesmith.train.batches import Batches
from tunesmith.train.log import lines

TITLE = "Files of the training"


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 4)


def files(folder: Path) -> list[Path]:
    """48 rows, and 20 others in other columns."""
    words = [" ".join(toy.WORDS[(number * 5 + i) % 16] for i in range(number % 6 + 2)) for number in range(20)]
    rows = [f"{toy.CLASSES[number % 3]},other {text} {number}" for number, text in enumerate(words)]
    (folder / "more.csv").write_text("\n".join(["intent,sentence", *rows, ""]), encoding="utf-8")
    return [toy.write_csv(folder / "rows.csv"), folder / "more.csv"]


def recipe_on(first: Path, second: Path, **values: Any) -> Recipe:
    train = {"epochs": 2, "batch_size": 8, "learning_rate": 3e-3, "device": "cpu", "precision": "float32"}
    data = {"train": str(first), "mix": [{"file": str(second), "weight": 2.0}], "validation": 0.2, "test": 0.2}
    return from_values({"model": "builtin:tiny-bert", "task": "classify", "data": data, "train": train | values})


def table(folder: Path) -> dict[str, Any]:
    found: list[dict[str, Any]] = read_json(folder / "data.json")["panels"]
    return next(panel for panel in found if panel["title"] == TITLE)


def test_the_report_tells_what_was_seen_of_each_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = files(tmp_path)
    trained: list[Update] = []
    stream = Batches.stream

    def watched(self: Batches, start: int) -> Any:
        for update in stream(self, start):
            trained.append(update)
            yield update

    monkeypatch.setattr(Batches, "stream", watched)
    # Ten updates of eight: more than an epoch, and no whole number of them.
    folder = runs.start(recipe_on(first, second, steps=10), tmp_path / "run").folder
    own = read_json(folder / "environment.json")["data"]["train"]["rows"]
    rows = [row for update in trained for batch in update.batches for row in batch.rows]
    seen = Counter("first" if row < own else "second" for row in rows)
    shown = table(folder)
    assert [row[0] for row in shown["rows"]] == [str(first), str(second)]
    assert [row[1:4] for row in shown["rows"]] == [[own, 1.0, seen["first"]], [20, 2.0, seen["second"]]]
    shares = [row[4] for row in shown["rows"]]
    assert shares == pytest.approx([seen["first"] / len(rows), seen["second"] / len(rows)], abs=1e-4)
    assert shares[1] == pytest.approx(2 / 3, abs=0.08)
    assert shown["rows"][1][5] == pytest.approx(seen["second"] / 20)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert TITLE in page and "Counted while it trained." in page
    assert any(
        line["event"] == "note" and "Mixture: 32.6 %" in line["text"] for line in lines(folder / "metrics.jsonl")
    )


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = recipe_on(*files(tmp_path), log_every=1)
    whole = runs.start(recipe, tmp_path / "whole").folder
    asked = iter([False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "asked", lambda self: next(asked))
        halted = runs.start(recipe, tmp_path / "halted")
    assert not halted.finished
    assert runs.resume(halted.folder).finished
    name = Path("model") / "model.safetensors"
    assert (whole / name).read_bytes() == (halted.folder / name).read_bytes()
    losses = [
        [line["loss"] for line in lines(folder / "metrics.jsonl") if line["event"] == "step"]
        for folder in (whole, halted.folder)
    ]
    assert losses[0] == losses[1]
    assert table(whole) == table(halted.folder)


def test_what_was_seen_outlives_a_kill_after_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs.measure, "suites", fail)
        with pytest.raises(KeyboardInterrupt):
            runs.start(recipe_on(*files(tmp_path)), tmp_path / "run")
    before = table(tmp_path / "run")
    assert runs.resume(tmp_path / "run").finished
    assert table(tmp_path / "run") == before and sum(row[3] for row in before["rows"]) > 0


def test_a_file_that_changed_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "asked", lambda self: True)
        assert not runs.start(recipe_on(first, second), tmp_path / "run").finished
    second.write_text(second.read_text(encoding="utf-8") + "yes,one more\n", encoding="utf-8")
    with pytest.raises(RunFolderError, match=rf"The data changed since the run .* began: {second}"):
        runs.resume(tmp_path / "run")


def test_check_tells_what_an_epoch_would_see(tmp_path: Path) -> None:
    first, second = files(tmp_path)
    found = check.check(recipe_on(first, second))
    (shown,) = [panel for panel in found.panels if panel.title == TITLE]
    count = found.facts["examples"]
    third = round(count / 3)
    assert [row[3] for row in shown.rows] == [third, count - third]  # type: ignore[union-attr]
    assert [row[1] for row in shown.rows] == [count - 20, 20]  # type: ignore[union-attr]
    assert found.facts["updates"] == 2 * -(-count // 8)


def test_faults_of_a_mixture_are_told_with_the_others() -> None:
    mix = [{"file": "b.csv", "weight": 0}, {"file": "c.csv", "wait": 1.0}]
    with pytest.raises(RecipeError) as found:
        from_values({"task": "classify", "data": {"train": "a.csv", "mix": mix}, "train": {"epochs": -1}})
    message = found.value.message
    assert "data.mix.0.weight: 0 is out of range: must be more than 0" in message
    assert "data.mix.1: 'wait' is unknown. Did you mean 'weight'?" in message
    assert "train.epochs" in message
