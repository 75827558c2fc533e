"""The recipe of a run, trained again with other settings, in a folder inside the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import toy
from tunesmith import further
from tunesmith import run as runs
from tunesmith.core.errors import RunFolderError
from tunesmith.core.finished import Finished
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import listening
from tunesmith.core.panel import Result
from tunesmith.core.rows import Joined, take
from tunesmith.data.load import load as load_data
from tunesmith.evaluate.task import Task
from tunesmith.further import FromRun
from tunesmith.interrupt import Interrupt, Interrupted
from tunesmith.serve.session import read_recipe
from tunesmith.train import loop

WEIGHTS = "model/model.safetensors"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> FromRun:
    folder = toy.run(tmp_path_factory.mktemp("further"), evaluate=[], train={"epochs": 1})
    return from_run(folder)


@pytest.fixture
def again(trained: FromRun, tmp_path: Path) -> FromRun:
    return replace(trained, folder=tmp_path)


def from_run(folder: Path) -> FromRun:
    recipe = read_recipe(folder)
    return FromRun(folder, recipe, load_data(recipe.data, recipe.task.columns()))


def weights(folder: Path, name: str) -> bytes:
    return (folder / "also" / name / WEIGHTS).read_bytes()


def test_without_a_change_it_is_the_same_model(trained: FromRun, again: FromRun) -> None:
    found = again("same", {})
    assert weights(again.folder, "same") == (trained.folder / WEIGHTS).read_bytes()
    assert found.now is not None and found.failed == "" and found.seconds > 0
    assert found.trained == sum(one.numel() for one in found.now.model.parameters())
    assert not (again.folder / "also" / "same" / "checkpoints").exists()


def test_a_value_is_changed_and_what_is_there_is_not_repeated(
    again: FromRun, trained: FromRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = again("seed", {"train": {"seed": 3}})
    assert weights(again.folder, "seed") != (trained.folder / WEIGHTS).read_bytes()
    assert first.now is not None and trained.splits.test is not None
    told = first.now.predict(trained.splits.test)
    with monkeypatch.context() as patch, listening() as notes:
        patch.setattr(loop, "train", None)
        second = again("seed", {"train": {"seed": 3}})
    assert second.now is not None and (second.seconds, second.trained) == (first.seconds, first.trained)
    assert np.array_equal(second.now.predict(trained.splits.test).answers, told.answers)
    assert notes == ["also/seed is trained already."]
    with listening() as notes:
        again("seed", {"train": {"seed": 4}})
    assert "also/seed was trained with other settings: it is trained anew." in notes


def test_another_method_has_its_own_rate_unless_one_was_given(again: FromRun) -> None:
    given = further.changed(again.recipe, {"method": "head_only"})
    assert given.train.learning_rate == again.recipe.train.learning_rate == 3e-3
    usual = again.recipe.train.model_copy(update={"learning_rate": again.recipe.method.learning_rate})
    found = further.changed(replace(again.recipe, train=usual), {"method": "head_only"})
    assert found.train.learning_rate == found.method.learning_rate != usual.learning_rate
    assert found.suites == [] and Path(found.data.train).is_absolute()
    assert again("head", {"method": "head_only"}).trained == 99  # 32 by 3 and 3


def test_random_weights_keep_the_tokenizer(again: FromRun, trained: FromRun) -> None:
    found = again("random", {"model": {"weights": "random"}})
    assert found.now is not None
    recipe = read_recipe(again.folder / "also" / "random")
    assert (recipe.model.like, recipe.model.weights, recipe.model.name) == ("builtin:tiny-bert", "random", None)
    known = read_recipe(trained.folder / "model" / "..").model.name
    assert known == "builtin:tiny-bert"
    assert found.now.tokenizer("amber basil")["input_ids"] == toy_tokenizer()("amber basil")["input_ids"]
    assert again("twice", {"model": {"weights": "random"}, "method": "lora"}).failed.startswith("model: method 'lora'")


def toy_tokenizer() -> Any:
    return toy.prepared({}).backbone.tokenizer


def test_what_can_not_be_and_what_diverges_is_told(again: FromRun) -> None:
    found = again("odd", {"method": {"reinit": 9}})
    assert found.now is None and "method.reinit" in found.failed and not found.diverged
    assert not (again.folder / "also" / "odd").exists()
    assert "unknown" in again("odd", {"train": {"sede": 1}}).failed
    found = again("wild", {"train": {"learning_rate": 1e30}})
    assert found.now is None and found.diverged and "not a finite number" in found.failed
    (again.folder / "also" / "mine").mkdir()
    with pytest.raises(RunFolderError, match="nothing in it is touched"):
        again("mine", {})


def test_an_interrupted_one_goes_on_to_the_same_end(
    again: FromRun, trained: FromRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        asked = iter([False, True])
        patch.setattr(Interrupt, "asked", lambda self: next(asked))
        with pytest.raises(Interrupted):
            again("same", {})
    with listening() as notes:
        again("same", {})
    assert "also/same goes on where it stopped." in notes
    assert weights(again.folder, "same") == (trained.folder / WEIGHTS).read_bytes()


def test_shares_of_the_rows_hold_each_other(again: FromRun) -> None:
    rows = again.splits.train
    assert isinstance(rows, Mapped)
    small, large = (further.part_of(rows, share, 0) for share in (0.2, 0.7))
    lines = [{row["line"] for row in take(part, slice(None))} for part in (small, large)]
    assert lines[0] < lines[1] and len(lines[0]) == -(-len(rows) // 5)
    two = further.part_of(Joined([rows, rows.select([1, 2])], ["a", "b"]), 0.5, 0)
    assert isinstance(two, Joined) and [len(part) for part in two.parts] == [-(-len(rows) // 2), 1]
    # Three classes, of which the share has not all rows.
    found = again("share", {}, share=0.1)
    assert found.now is not None and found.now.model.config.num_labels == 3
    assert again.splits.train is rows


def test_a_run_whose_suite_trains_is_interrupted_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(self: Task, finished: Finished) -> Result:
        assert finished.again is not None and finished.recipe["train"]["seed"] == 0
        return Result(failed=f"{finished.again('seed', {'train': {'seed': 5}}).trained}")

    monkeypatch.setattr(Task, "measure", measure)
    end = loop.train
    with monkeypatch.context() as patch:
        # The first training ends; the one of the suite is interrupted.
        calls = iter([end, lambda *given: False])
        patch.setattr(loop, "train", lambda *given: next(calls)(*given))
        folder = toy.run(tmp_path, train={"epochs": 1})
    assert (folder / "model").is_dir() and not (folder / "evaluation.json").exists()
    done = runs.resume(folder)
    assert done.finished and int(done.evaluation["suites"]["task"]["failed"]) > 1000
