"""Tasks of lm-eval, by a stand-in with its interface (EleutherAI/lm-evaluation-harness 0.4.13)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from tunesmith.core.errors import MissingExtraError, RecipeError
from tunesmith.evaluate import harness

RESULTS = {
    "results": {
        "toy": {
            "alias": "toy", "acc,none": 0.5, "acc_stderr,none": 0.1, "f1,strict": 0.25, "f1_stderr,strict": "N/A",
            "word_perplexity,none": 12.0, "word_perplexity_stderr,none": "N/A",
        }
    },
    "higher_is_better": {"toy": {"acc": True, "f1": True, "word_perplexity": False}},
}  # fmt: skip


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What the stand-in was asked."""
    said: list[tuple[str, dict[str, Any]]] = []

    class HFLM:
        def __init__(self, pretrained: Any, tokenizer: Any, backend: str) -> None:
            said.append(("HFLM", {"pretrained": pretrained, "tokenizer": tokenizer, "backend": backend}))

    class TaskManager:
        all_tasks = ("toy", "hellaswag")

    def simple_evaluate(**given: Any) -> dict[str, Any]:
        said.append(("simple_evaluate", given))
        return RESULTS

    for name, values in {
        "lm_eval": {"simple_evaluate": simple_evaluate},
        "lm_eval.models": {},
        "lm_eval.models.huggingface": {"HFLM": HFLM},
        "lm_eval.tasks": {"TaskManager": TaskManager},
    }.items():
        module = ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    return said


def test_every_figure_with_its_error_and_its_direction(calls: list[tuple[str, dict[str, Any]]]) -> None:
    found = harness.scores("model", "tokenizer", ["toy"], 7)  # type: ignore[arg-type]
    assert found == {
        "toy acc": harness.Score(0.5, 0.1, True),
        "toy f1 strict": harness.Score(0.25, None, True),
        "toy word_perplexity": harness.Score(12.0, None, False),
    }
    assert found["toy acc"].interval == (pytest.approx(0.5 - 0.196), pytest.approx(0.5 + 0.196))
    assert found["toy f1 strict"].interval == (None, None)
    (_, made), (_, asked) = calls
    assert made == {"pretrained": "model", "tokenizer": "tokenizer", "backend": "causal"}
    assert asked["tasks"] == ["toy"] and asked["limit"] == 7


def test_a_task_that_is_not_known_is_told_with_its_like(calls: list[tuple[str, dict[str, Any]]]) -> None:
    harness.check(["toy", "hellaswag"])
    with pytest.raises(RecipeError, match=r"'helaswag' \(did you mean hellaswag\?\)"):
        harness.check(["toy", "helaswag"])


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delitem(sys.modules, "lm_eval.tasks", raising=False)
    with pytest.raises(MissingExtraError) as caught:
        harness.check(["hellaswag"])
    assert caught.value.hint == "Install it: pip install 'tunesmith[lm-eval]'"
