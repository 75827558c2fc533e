"""What a whole run takes, told from a miniature: exact where every act takes the time that it is said to take."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from datasets import Dataset

from tests import toy
from tunesmith import check, estimate, growth, measure, prepare, run, trained, trial
from tunesmith.data.load import Splits
from tunesmith.evaluate.predict import Predictor
from tunesmith.recipe import Recipe, from_values
from tunesmith.report import page
from tunesmith.train import checkpoint, clip, loop
from tunesmith.train.log import Log
from tunesmith.trial import Trial

ROWS = 160


class World:
    """Time passes by what is done, and by nothing else."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.patch = monkeypatch
        for module in (check, estimate, growth, trial):
            monkeypatch.setattr(module, "time", self)

    def perf_counter(self) -> float:
        return self.now

    time = perf_counter

    def takes(self, place: ModuleType | type, name: str, seconds: Callable[..., float]) -> None:
        act = getattr(place, name)

        def timed(*given: Any, **named: Any) -> Any:
            found = act(*given, **named)
            self.now += seconds(*given)
            return found

        self.patch.setattr(place, name, timed)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World(monkeypatch)
    found.takes(prepare, "prepare", lambda *_: 11.0)
    found.takes(clip, "step", lambda *_: 1.0)
    found.takes(Predictor, "predict", lambda _, rows: 0.0625 + len(rows) / 128)
    found.takes(checkpoint, "save", lambda *_: 5.0)
    found.takes(trained, "save", lambda *_: 7.0)
    found.takes(measure, "suites", lambda *_: 0.5)
    found.takes(page, "write", lambda *_: 3.0)
    return found


def recipe(folder: Path, **values: Any) -> Recipe:
    rows = toy.write_csv(folder / "rows.csv", ROWS)
    data = {"train": str(rows), "validation": 0.25, "test": 0.25, **values.pop("data", {})}
    train = {"device": "cpu", "precision": "float32", "batch_size": 8, "epochs": 3, **values.pop("train", {})}
    return from_values({"model": "builtin:tiny-bert", "data": data, "train": train, "evaluate": [], **values})


@pytest.mark.parametrize(
    "values",
    [
        {"evaluate": ["task"]},
        {"method": "head_only", "train": {"epochs": 4}},
        {"train": {"epochs": 1, "evaluate_every": 4, "checkpoint_every": 3}},
        {"train": {"steps": 1}, "data": {"test": None}},
        {"train": {"steps": 20}, "data": {"validation": None}},
        {"train": {"steps": 3}, "data": {"validation": None, "test": None}},
    ],
)
def test_a_whole_run_takes_what_was_estimated(values: dict[str, Any], world: World, tmp_path: Path) -> None:
    found = check.check(recipe(tmp_path, **values)).facts
    world.now = 0.0
    run.start(recipe(tmp_path, **values), tmp_path / "run")
    assert found["estimated_seconds"] == pytest.approx(world.now)
    assert found["seconds_a_step"] == pytest.approx(1.0)
    assert found["seconds_starting"] == 11.0 and found["seconds_training"] == found["updates"]


@pytest.mark.parametrize(
    "suites, times, count",
    [
        (["task", "calibration"], 0, 0),
        ([{"name": "stability", "seeds": 3, "help": ["longer"]}], 2 + 3 * 3, 5),
        ([{"name": "task", "learning_curve": [0.25, 0.5, 1]}], 0.75, 2),
    ],
)
def test_trainings_that_suites_ask_for_are_counted(
    suites: list[Any], times: float, count: int, world: World, tmp_path: Path
) -> None:
    found = check.check(recipe(tmp_path, evaluate=suites)).facts
    # A checkpoint after each of three epochs; of what is saved, only the model's 7 seconds don't grow with the length.
    assert found["seconds_saving"] == 7.0 + 3 * 5.0
    once = found["seconds_training"] + found["seconds_evaluating"] + 3 * 5.0
    assert found["seconds_further"] == pytest.approx(times * once + count * (11.0 + 7.0))


def test_a_run_trains_as_often_as_was_estimated(world: World, tmp_path: Path) -> None:
    values = {"evaluate": [{"name": "stability", "seeds": 3}], "train": {"epochs": 1}}
    found = check.check(recipe(tmp_path, **values)).facts
    world.now = 0.0
    run.start(recipe(tmp_path, **values), tmp_path / "run")
    # What the other models answer is left out.
    assert found["estimated_seconds"] == pytest.approx(world.now, rel=0.05)
    assert found["seconds_further"] > 0.5 * found["estimated_seconds"]


def test_the_task_that_settles_answers_once_more(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = recipe(tmp_path, train={"epochs": 2})
    before = check.check(parts).facts["seconds_evaluating"]
    monkeypatch.setattr(type(parts.task), "settle", lambda *_: None)
    again = check.check(parts).facts["seconds_evaluating"]
    # Twice at the ends of epochs, and once at the end of all.
    assert again == pytest.approx(before * 3 / 2)


def test_the_command_is_where_time_begins(world: World, tmp_path: Path) -> None:
    world.now = 100.0
    assert check.check(recipe(tmp_path), began=60.0).facts["seconds_starting"] == 51.0
    world.now = 100.0
    assert check.check(recipe(tmp_path)).facts["seconds_starting"] == 11.0


@pytest.mark.parametrize("seconds, saved", [(0.5, 0.0), (30.0, 30.0)])
def test_what_a_first_reading_costs_is_left_out(
    seconds: float, saved: float, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([seconds, 0.25])
    world.takes(check, "load_data", lambda *_: next(times))
    found = check.check(recipe(tmp_path, train={"steps": 1})).facts
    # The run reads as fast as the second time, where there was one.
    assert found["seconds_starting"] == 11.0 + (0.25 if saved else seconds)


def test_answers_are_written_in_proportion() -> None:
    prepared = toy.prepared({"task": {"name": "generate", "answered": 64}, "model": "builtin:tiny-gpt2"})

    def answered(share: float, rows: int) -> int:
        return estimate._answering(prepared, share, rows).recipe.task.answered  # type: ignore[attr-defined,no-any-return]

    # Of 100 rows a tenth: a tenth of 64, rounded up. Of 20,480 (ten blocks) 1,024 rows are half of a block.
    assert [answered(1.0, 100), answered(0.1, 100), answered(0.05, 20_480), answered(0.5, 20_480)] == [64, 7, 32, 64]
    other = toy.prepared({})
    assert estimate._answering(other, 0.1, 100) is other


def test_what_frozen_blocks_gave_grows_with_the_rows(tmp_path: Path) -> None:
    prepared = toy.prepared({"speed": {"frozen_megabytes": 1}})
    Log(tmp_path / "metrics.jsonl").write("frozen", step=1, kept=10, bytes=40_000)
    splits = Splits(prepared.batches.rows, Dataset.from_dict({"text": ["a"] * 92}), None, {}, {})
    # 8 training rows and 92 others, of 4,000 bytes each, of which 40,000 are there already.
    none = Trial(1, 1)
    assert estimate._growing(tmp_path, prepared, splits, none) == 360_000
    many = Splits(prepared.batches.rows, Dataset.from_dict({"text": ["a"] * 10_000}), None, {}, {})
    assert estimate._growing(tmp_path, prepared, many, none) == 2**20 - 40_000
    # And 2 more of the other shapes: 4 updates of 6, see `Trial.unseen`.
    shapes = Trial(4, 4, held=[9, 10, 11, 12])
    assert prepared.training.total_steps == 6
    assert estimate._growing(tmp_path, prepared, splits, shapes) == 360_000 + int(shapes.unseen(6))


def test_a_run_tells_what_frozen_blocks_gave(tmp_path: Path) -> None:
    prepared = toy.prepared({"method": "head_only", "train": {"epochs": 2}})
    prepared.train(loop.Outside(tmp_path / "checkpoints", Log(tmp_path / "metrics.jsonl"), dict, lambda: False))
    (line,) = [line for line in run.account.lines(tmp_path / "metrics.jsonl") if line["event"] == "frozen"]
    assert line["kept"] == 8 and line["read"] == 8 and line["bytes"] > 0
    assert estimate._growing(tmp_path, prepared, Splits(prepared.batches.rows, None, None, {}, {}), Trial(1, 1)) == 0


@pytest.mark.parametrize(
    "model, task",
    [
        ("builtin:tiny-bert", "fill"),
        ("builtin:tiny-gpt2", {"name": "generate", "format": "text", "sampling": {"max_new_tokens": 4}}),
    ],
)
def test_texts_can_be_tried_out(model: str, task: str | dict[str, Any], tmp_path: Path) -> None:
    text = tmp_path / "rows.txt"
    text.write_text("".join(f"{' '.join(toy.WORDS[: 2 + number % 9])} {number}\n" for number in range(60)))
    data = {"train": str(text), "validation": 0.2, "test": None}
    train = {"device": "cpu", "precision": "float32", "steps": 4}
    values = {"model": model, "task": task, "data": data, "train": train, "evaluate": []}
    found = check.check(from_values(values)).facts
    assert found["estimated_seconds"] > found["seconds_training"] > 0
