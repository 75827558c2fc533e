"""Retention: a model that did not train kept everything, one that was damaged did not."""

from __future__ import annotations

import math
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests import toy
from tests.evaluate import suites
from tunesmith.core import anatomy, column
from tunesmith.core.column import Column
from tunesmith.core.errors import MissingExtraError, RecipeError
from tunesmith.core.panel import Result
from tunesmith.data.read import read
from tunesmith.evaluate import harness, retention
from tunesmith.evaluate.retention import BEFORE, GENERAL, Retention


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "general.txt"
    path.write_text("\n".join((GENERAL / "sentences.txt").read_text(encoding="utf-8").splitlines()[:8]))
    return str(path)


def values(result: Result, subject: str = "model") -> dict[str, float]:
    return {one.name: one.value for one in result.figures if one.subject == subject}


def rows(result: Result) -> dict[str, Any]:
    return {str(row[1]): row for row in result.panels[0].rows}  # type: ignore[union-attr]


@pytest.mark.parametrize(("backbone", "language"), [("tiny-bert", "pseudo_perplexity"), ("tiny-gpt2", "perplexity")])
def test_a_model_that_did_not_train_kept_everything(backbone: str, language: str, text: str) -> None:
    finished = suites.finished(toy.prepared({"model": f"builtin:{backbone}"}))
    result = Retention(text=text).measure(finished)
    found, before = values(result), values(result, BEFORE)
    assert found["retention"] == pytest.approx(1)
    assert found[language] == pytest.approx(before[language]) and found[language] > 100  # of 259 tokens
    assert found["similarity"] == pytest.approx(1) and "similarity" not in before
    assert {name: found[f"probe_{name}"] for name in retention.BUILT_IN} == {
        name: before[f"probe_{name}"] for name in retention.BUILT_IN
    }
    interval = next(one for one in result.figures if one.name == language and one.subject == "model")
    assert interval.low is not None and interval.high is not None and interval.low < interval.value < interval.high
    if backbone == "tiny-gpt2":
        assert found["changed_continuations"] == 0
        assert found["perplexity_of_continuations"] == before["perplexity_of_continuations"]


def test_a_damaged_model_lost_some_of_it(text: str, tmp_path: Path) -> None:
    toyed = toy.prepared({"model": "builtin:tiny-gpt2"})
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in anatomy.backbone(toyed.backbone.model).parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    pairs, mood = tmp_path / "pairs.csv", tmp_path / "mood.csv"
    pairs.write_text("text,pair,score\na b c,a b c,5\na b c,a b d,4\na b c,x y z,0\nq,w,1\n")
    mood.write_text("text,label\n" + "".join(f"{'x' * n} ha,{'good' if n % 2 else 'bad'}\n" for n in range(1, 13)))
    suite = Retention(text=text, pairs=str(pairs), probes={"mood": str(mood)})
    result = suite.measure(suites.finished(toyed))
    found, before = values(result), values(result, BEFORE)
    assert 0 < found["retention"] < 0.95
    assert found["perplexity"] > before["perplexity"] and found["similarity"] < 0.95
    assert found["changed_continuations"] > 0
    assert found["perplexity_of_continuations"] > before["perplexity_of_continuations"]
    table = rows(result)
    assert table["perplexity"][4] == pytest.approx(before["perplexity"] / found["perplexity"])
    assert -1 <= found["spearman_of_pairs"] <= 1 and "probe_mood" in found
    # The score is the mean over parts of what the table shows of each.
    parts: dict[str, list[float]] = {}
    for row in result.panels[0].rows:  # type: ignore[union-attr]
        if row[4] is not None:
            parts.setdefault(str(row[0]), []).append(float(row[4]))
    assert found["retention"] == pytest.approx(np.mean([np.mean(shares) for shares in parts.values()]))


def test_what_does_not_apply_is_told() -> None:
    seen: Any = SimpleNamespace(task=SimpleNamespace(reads="images"))
    result = Retention().measure(seen)
    assert not result.figures and "reads images" in str(result.panels[0].rows)  # type: ignore[union-attr]
    table = rows(Retention(texts=6).measure(suites.finished(toy.prepared({"model": "builtin:tiny-t5"}))))
    assert table["perplexity"][2:5] == [None, None, None] and "t5" in table["perplexity"][5]


def test_correlations() -> None:
    assert retention._spearman(np.array([1.0, 2, 3]), np.array([1.0, 4, 9])) == pytest.approx(1)
    assert math.isnan(retention._spearman(np.ones(3), np.arange(3.0)))
    cosines = retention._cosines(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]]))
    np.testing.assert_allclose(cosines, [[1, 1, 0], [1, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("name", retention.BUILT_IN)
def test_built_in_sets_are_balanced_and_say_nothing_twice(name: str) -> None:
    columns = [Column("text", None, column.TEXT_NAMES, column.text), Column("label", None, ("label",), column.label)]
    table = read(GENERAL / f"{name}.csv", columns).rows[:]
    counts = Counter(table["label"])
    assert len(set(table["text"])) == len(table["text"]) >= 60
    assert len(set(counts.values())) == 1 and len(counts) >= 2


def test_the_general_text() -> None:
    lines = (GENERAL / "sentences.txt").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(set(lines)) == 60


def test_tasks_of_lm_eval_are_asked_before_and_after(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    finished = suites.finished(toy.prepared({"model": "builtin:tiny-gpt2"}))
    given = iter([{"toy acc": harness.Score(0.8, 0.1, True), "toy ppl": harness.Score(10.0, None, False)},
                  {"toy acc": harness.Score(0.6, 0.1, True), "toy ppl": harness.Score(40.0, None, False)}])  # fmt: skip
    asked: list[Any] = []
    monkeypatch.setattr(harness, "scores", lambda *told: asked.append(told[2:]) or next(given))
    found = rows(Retention(text=text, lm_eval=["toy"], limit=5).measure(finished))
    assert asked == [(["toy"], 5)] * 2
    assert found["toy acc"][:5] == ["lm-eval", "toy acc", 0.8, 0.6, pytest.approx(0.75)]
    assert found["toy ppl"][:5] == ["lm-eval", "toy ppl", 10.0, 40.0, pytest.approx(0.25)]


def test_lm_eval_is_refused_before_training_where_it_can_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    suite = Retention(lm_eval=["toy"])
    with pytest.raises(RecipeError, match="a bert model does not"):
        suite.check(toy.prepared({"model": "builtin:tiny-bert"}).training.model, None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(MissingExtraError, match="lm-eval is not installed"):
        suite.check(toy.prepared({"model": "builtin:tiny-gpt2"}).training.model, None)  # type: ignore[arg-type]
