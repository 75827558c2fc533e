"""The Python face."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tests import toy
from tunesmith import api
from tunesmith.core.errors import RecipeError, UserError
from tunesmith.evaluate import stats
from tunesmith.train import loop

TINY: dict[str, Any] = {
    "model": "builtin:tiny-bert",
    "train": {"steps": 2, "device": "cpu", "precision": "float32", "batch_size": 8},
}


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "RESAMPLES", 4)


def test_a_bare_file_is_trained_on(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    run = api.train(rows, out=tmp_path / "run", method={"name": "lora", "rank": 2}, **TINY)
    assert run.finished and run.folder == tmp_path / "run"
    assert run.evaluation["metric"] == "accuracy"
    answers = api.load(run.folder).predict(["amber", {"text": "basil"}])
    assert [answer["prediction"] in toy.CLASSES for answer in answers] == [True, True]
    assert api.resume(run.folder) == run


def test_a_mapping_and_a_file_are_the_same_recipe(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: builtin:tiny-bert\ndata: {rows}\n")
    mapping = {"model": "builtin:tiny-bert", "data": str(rows)}
    found = []
    for number, source in enumerate((path, str(path), mapping)):
        run = api.train(source, out=tmp_path / str(number), train=TINY["train"])  # type: ignore[arg-type]
        found.append((run.folder / "recipe.yaml").read_text())
    assert found[0] == found[1] == found[2]
    assert "steps: 2" in found[0]


def test_errors_are_those_of_the_command_line(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    with pytest.raises(RecipeError, match="Did you mean 'lora'"):
        api.train(rows, method="lorra")
    with pytest.raises(RecipeError, match="optimizer: is unknown"):
        api.train(rows, optimizer="sgd")
    with pytest.raises(UserError, match="does not exist"):
        api.load(tmp_path / "none")


def test_the_words_of_the_package_are_its_functions() -> None:
    # A folder of the package is called `train` too: its import must not take the name.
    assert loop.__name__ == "tunesmith.train.loop"
    assert tunesmith.train is api.train and tunesmith.load is api.load and tunesmith.resume is api.resume
    assert tunesmith.merge is api.merge and tunesmith.Mix is api.Mix
    assert tunesmith.__version__ == "0.1.0"
    with pytest.raises(AttributeError, match="trian"):
        tunesmith.trian  # type: ignore[attr-defined] # noqa: B018


FRESH = """
import sys, types
api = types.ModuleType("tunesmith.api")
api.train = print
sys.modules["tunesmith.api"] = api
import tunesmith.train.settings
import tunesmith
from tunesmith import train
assert train is tunesmith.train is print
assert "torch" not in sys.modules
"""


def test_in_a_fresh_process_too() -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", FRESH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
