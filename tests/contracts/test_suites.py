"""What every suite keeps: a question, and a definition of every figure that it or a task can give."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from tests import toy
from tests.contracts.test_tasks import FIRST
from tests.evaluate import suites
from tunesmith import measure
from tunesmith.core import registry
from tunesmith.core.panel import Result
from tunesmith.core.part import Suite
from tunesmith.prepare import Prepared
from tunesmith.tasks import blocks, classes, embed_ranking, generate_scores, span_scores
from tunesmith.tasks.answer_span import AnswerSpan
from tunesmith.tasks.classify import Classify
from tunesmith.tasks.embed import Embed
from tunesmith.tasks.generate import Generate

SUITES = registry.names("evaluate")
QUICK: dict[str, dict[str, Any]] = {"robustness": {"strengths": [0.5]}, "cost": {"answers": 1}}


def explained(toyed: Prepared, spec: dict[str, Any], folder: Path | None = None) -> Result:
    """What a suite finds on a toy; every figure of it is defined."""
    suite = cast(Suite, registry.build("evaluate", spec))
    result = measure._measured(suite, suites.finished(toyed, folder=folder))
    unknown = {
        one.name for one in result.figures if not measure.definition(one.name, suite.defines, toyed.recipe.task.defines)
    }
    assert not unknown
    return result


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_asks_a_question(name: str) -> None:
    asks = cast(Suite, registry.build("evaluate", name)).asks
    assert asks.endswith("?") and len(asks) < 100


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_says_what_its_figures_are(name: str) -> None:
    # A decoder with its old head has all that retention measures; classes have what calibration needs.
    values = {"task": "generate", "model": "builtin:tiny-gpt2"} if name == "retention" else {"task": "classify"}
    toyed = toy.prepared(values, count=12)
    explained(toyed, {"name": name, **QUICK.get(name, {})})


@pytest.mark.parametrize(("task", "backbone"), FIRST)
def test_a_task_says_what_its_metrics_are(task: str, backbone: str) -> None:
    toyed = toy.prepared({"task": task, "model": backbone}, count=12)
    assert explained(toyed, {"name": "task"}).figures


def test_figures_that_settings_add(tmp_path: Path) -> None:
    toyed = toy.prepared({}, count=12)
    rows = toy.write_csv(tmp_path / "rows.csv", 12)
    files = {"data": {"other": str(rows)}, "groups": "label", "outside": str(rows)}
    found = explained(toyed, {"name": "ood", **files})
    assert {"auroc", "fpr_at_95"} <= {one.name for one in found.figures} and found.verdicts
    found = explained(toyed, {"name": "robustness", "strengths": [0.5], "contrast": str(rows), "attack": True})
    assert "both right" in {one.name for one in found.figures}
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    lines = ['{"event": "step", "step": 1, "seconds": 1.0, "examples": 8}', '{"event": "end", "aside": {"saves": 1.0}}']
    (run / "metrics.jsonl").write_text("\n".join(lines))
    names = {one.name for one in explained(toyed, {"name": "cost", "answers": 1}, run).figures}
    assert {"seconds_of_updates", "seconds_of_saves", "tokens_per_second", "bytes_on_disk"} <= names


def test_metrics_that_settings_add() -> None:
    ones, split = np.ones((3, 4)), np.array([["a", ("a",), 1.0], ["", (), 0.0]], dtype=object)
    found = {
        Generate: {**blocks.perplexities(ones), **generate_scores.scores(np.zeros((0, 1)))},
        Embed: {**embed_ranking.metrics(np.ones(3)), "spearman": 1.0, "pearson": 1.0},
        AnswerSpan: span_scores.metrics(split, split, split=True),
        Classify: {**classes.metrics(np.zeros(3, int), np.zeros(3, int), 2), "micro_f1": 1.0},
    }
    for task, metrics in found.items():
        assert set(metrics) == set(task.defines)


def test_the_first_that_knows_a_name_defines_it() -> None:
    known = {"mean *": "A mean.", "f1": "Of the suite."}, {"f1": "Of the task.", "mean f1": "Never."}
    assert measure.definition("mean f1", *known) == "A mean."
    assert measure.definition("f1", *known) == "Of the suite." and measure.definition("other", *known) == ""
