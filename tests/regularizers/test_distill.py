"""Distillation: nothing at the start, what it is measured on, and what it costs."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers.models.bert.modeling_bert import BertEmbeddings

from tests import toy
from tests.before import fills, stage
from tunesmith.core import surgery
from tunesmith.core.errors import RecipeError
from tunesmith.core.step import Step
from tunesmith.train.log import lines


def test_it_needs_answers_to_stay_close_to() -> None:
    with pytest.raises(RecipeError, match="distill: the head of this task is new"):
        toy.prepared({"regularizers": ["distill"]})


@pytest.mark.parametrize("method", ["full", "lora", "bitfit"])
def test_nothing_at_the_start_and_something_later(method: str) -> None:
    toyed = stage({"method": method, "regularizers": ["distill"]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    toy.quiet(toyed.training.model)
    batch = next(toyed.batches.stream(0)).batches[0]
    step = Step(toyed.training.model.train(), toyed.recipe.task, batch)
    found = part.loss(step)
    assert found is not None and found.item() == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        for parameter in surgery.trained(toyed.training.model).values():
            parameter += 2 * torch.randn_like(parameter)
    found = part.loss(step)
    assert found is not None and found.item() > 1e-5 and found.requires_grad


def test_without_a_copy_where_the_backbone_stays() -> None:
    toyed = stage({"method": "lora", "regularizers": ["distill"]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    assert part._before.model is toyed.training.model  # type: ignore[attr-defined]
    toyed = stage({"regularizers": ["distill"]})
    (part,) = toyed.recipe.regularizers
    part.setup(toyed.training)
    assert part._before.model is not toyed.training.model  # type: ignore[attr-defined]


def test_a_strong_one_keeps_the_old_answers(tmp_path: Path) -> None:
    found = []
    for strength in (0.0, 100.0):
        values = {
            "regularizers": [{"name": "distill", "strength": strength}],
            "train": {"steps": 15, "learning_rate": 3e-3},
        }
        toyed = stage(values)
        probe = next(toyed.batches.stream(0)).batches[0]
        assert toyed.training.world is not None
        head = toyed.training.world.earlier[0].shell
        assert head is not None
        model = head(toyed.training.model.base_model)

        def answers(model: torch.nn.Module = model) -> torch.Tensor:
            toyed.training.model.eval()  # noqa: B023
            with torch.no_grad():
                told: torch.Tensor = model(**probe.inputs).logits.softmax(-1)  # noqa: B023
            return told

        before = answers()
        toy.train(toyed, tmp_path / str(strength))
        found.append((answers() - before).abs().mean().item())
    assert found[1] < found[0] / 2


def test_a_language_model_stays_close_to_itself(tmp_path: Path) -> None:
    toyed = fills(tmp_path, {"name": "distill"})
    assert toy.train(toyed, tmp_path / "run")
    losses = [line["losses"] for line in lines(tmp_path / "run" / "metrics.jsonl") if line["event"] == "step"]
    assert losses and all(one["distill"] >= 0 for one in losses)


def penalties(folder: Path, speed: Any, **more: Any) -> list[float]:
    """The penalties of three steps, without dropout."""
    values = {"regularizers": [{"name": "distill", "strength": 30.0}], "speed": speed}
    train = {"steps": 3, "learning_rate": 1e-2, "log_every": 1, "batch_size": 8}
    toyed = stage({**values, "train": train}, **more)
    toy.quiet(toyed.training.model)
    toy.train(toyed, folder)
    return [line["losses"]["distill"] for line in lines(folder / "metrics.jsonl") if line["event"] == "step"]


@pytest.mark.parametrize("task", ["classify", "tag"])
@pytest.mark.parametrize("model", ["builtin:tiny-bert", "builtin:tiny-llama"])
def test_shortcuts_change_no_number(model: str, task: str, tmp_path: Path) -> None:
    expected = penalties(tmp_path / "plain", "plain", model=model, task=task)
    found = penalties(tmp_path / "fast", {}, model=model, task=task)
    assert expected[0] == pytest.approx(0, abs=1e-5) and expected[2] > 1e-3
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_the_penalty_is_that_of_two_whole_models(tmp_path: Path) -> None:
    toyed = stage({"regularizers": [{"name": "distill", "strength": 3.0}], "train": {"steps": 1}})
    model, (part,) = toyed.training.model, toyed.recipe.regularizers
    assert toyed.training.world is not None
    shell = toyed.training.world.earlier[0].shell
    assert shell is not None
    before = copy.deepcopy(shell(copy.deepcopy(model.base_model)))
    part.setup(toyed.training)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    now = shell(model.base_model).eval()
    batch = next(toyed.batches.stream(0)).batches[0]
    with torch.no_grad():
        p, q = (one.eval()(**{k: v for k, v in batch.inputs.items() if k != "labels"}).logits for one in (before, now))
        told = (p / 2).log_softmax(-1)
        expected = 3.0 * 4.0 * (told.exp() * (told - (q / 2).log_softmax(-1))).sum() / len(batch.rows)
    found = part.loss(Step(model.eval(), toyed.recipe.task, batch))
    assert found is not None and found.item() == pytest.approx(expected.item(), rel=1e-5) and found.item() > 1e-3


def test_a_step_runs_the_body_once_and_the_start_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[bool] = Counter()
    own = BertEmbeddings.forward

    def counted(self: Any, *given: Any, **named: Any) -> Any:
        calls[torch.is_grad_enabled()] += 1
        return own(self, *given, **named)

    monkeypatch.setattr(BertEmbeddings, "forward", counted)
    found = []
    for steps in (2, 7):
        calls.clear()
        toyed = stage({"regularizers": ["distill"], "train": {"steps": steps}})
        assert toyed.training.world is not None
        toyed.training.world.earlier.append(toyed.training.world.earlier[0])  # type: ignore[attr-defined]
        toy.train(toyed, tmp_path / str(steps))
        found.append(dict(calls))
    # Two old heads beside the new one.
    assert {grad: found[1][grad] - found[0][grad] for grad in (True, False)} == {True: 5, False: 5}


def test_nothing_is_held_when_it_ends(tmp_path: Path) -> None:
    toyed = stage({"regularizers": ["distill"], "train": {"steps": 1}})
    hooks = len(toyed.training.model.base_model._forward_hooks)
    toy.train(toyed, tmp_path)
    (part,) = toyed.recipe.regularizers
    assert part._before is None and not part._heads  # type: ignore[attr-defined]
    assert len(toyed.training.model.base_model._forward_hooks) == hooks
