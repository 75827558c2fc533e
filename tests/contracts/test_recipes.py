"""Every recipe in recipes/ runs: a few steps on a tiny model, from its file to its report."""

import json
from pathlib import Path

import pytest
import yaml

import tunesmith
from tunesmith import stages
from tunesmith.evaluate import stats
from tunesmith.joint import Joint
from tunesmith.serve.session import Session

ROOT = Path(__file__).parent.parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
QUICK = [
    "train.steps=3",
    "train.batch_size=8",
    "train.device=cpu",
    "train.precision=float32",
]


def test_there_are_recipes() -> None:
    assert RECIPES
    assert [path for path in (ROOT / "recipes").iterdir() if path not in RECIPES] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_says_what_it_is_for(path: Path) -> None:
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ") and first.endswith(".") and len(first) > 40
    assert any(line and not line.startswith("#") for line in rest)


def quick(path: Path) -> list[str]:
    """Settings that make a recipe short: few updates, and a tiny encoder in the place of MiniLM."""
    told = path.read_text(encoding="utf-8")
    return [*QUICK, "model.name=builtin:tiny-bert"] if "builtin:minilm" in told and "like:" not in told else QUICK


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_trains_opens_and_predicts(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the paths of its data are those of the repository
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stats, "RESAMPLES", 4)
    done = stages.start(stages.read(path, quick(path)), tmp_path / "run")
    assert done.finished
    assert "<html" in (done.folder / "report.html").read_text(encoding="utf-8")[:200]
    assert {figure["split"] for figure in done.evaluation["suites"]["task"]["figures"]} >= {"validation", "test"}
    folders = [path.parent for path in done.folder.glob("*/recipe.yaml")] or [done.folder]  # a folder a task
    for folder in folders:
        session = tunesmith.load(folder)
        with (folder / "predictions" / "test.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for _, line in zip(range(2), lines, strict=False)]
        answers = session.predict([{key: row[key] for key in _inputs(session, row)} for row in rows])
        assert len(answers) == len(rows) and all("prediction" in answer for answer in answers)


def _inputs(session: Session, row: dict[str, object]) -> list[str]:
    return [column.role for column in session.recipe.task.columns() if not column.target and column.role in row]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_what_a_run_keeps_of_it_says_the_same(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = stages.read(path)
    for first in [found] if isinstance(found, Joint) else found:
        (tmp_path / "recipe.yaml").write_text(first.text(), encoding="utf-8")
        again = stages.read(tmp_path / "recipe.yaml")
        assert (again if isinstance(again, Joint) else next(iter(again))).values() == first.values()
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(written) - {"stages"} <= set(first.values())
