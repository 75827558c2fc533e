"""What every task keeps."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from tests import toy
from tunesmith.core import registry
from tunesmith.core.part import Task
from tunesmith.core.rows import take
from tunesmith.core.step import Step
from tunesmith.evaluate.predict import Predictor
from tunesmith.prepare import Prepared

TASKS = registry.names("tasks")


def built(task: str, **train: object) -> Prepared:
    toyed = toy.prepared({"task": task, "train": {"batch_size": 8, **train}})
    toy.quiet(toyed.training.model)
    return toyed


def loss_of(toyed: Prepared, numbers: list[int]) -> tuple[torch.Tensor, float]:
    task = toyed.recipe.task
    examples = task.encode(take(toyed.batches.rows, numbers), toyed.backbone.tokenizer, toyed.backbone.limit)
    batch = task.collate(examples, toyed.backbone.tokenizer)
    return task.loss(Step(toyed.training.model, task, batch)), task.targets(batch)


@pytest.mark.parametrize("task", TASKS)
def test_a_padded_batch_and_its_single_examples_give_the_same_loss(task: str) -> None:
    toyed = built(task)
    toyed.training.model.eval()
    whole, targets = loss_of(toyed, list(range(8)))
    single = [loss_of(toyed, [number]) for number in range(8)]
    assert targets == pytest.approx(sum(count for _, count in single))
    assert whole.item() == pytest.approx(sum(loss.item() for loss, _ in single), rel=1e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("micro", [1, 2, 4])
def test_micro_batches_give_the_gradients_of_the_whole_batch(task: str, micro: int, tmp_path: Path) -> None:
    whole, parts = built(task, steps=1, clip=1e9), built(task, steps=1, clip=1e9, micro_batch_size=micro)
    for number, toyed in enumerate((whole, parts)):
        toy.train(toyed, tmp_path / str(number))
    for (name, expected), found in zip(
        whole.training.model.named_parameters(), parts.training.model.parameters(), strict=True
    ):
        a, b = _first_moment(whole, expected), _first_moment(parts, found)
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-7), name


@pytest.mark.parametrize("task", TASKS)
def test_perfect_answers_give_the_best_metric(task: str) -> None:
    part = cast(Task, built(task).recipe.task)
    truths = part.truths(take(toy.rows_for(part), list(range(8))))
    best = part.metrics(truths, truths)[part.metric]
    worse = part.metrics(truths, np.roll(truths, 1, axis=0))[part.metric]
    assert best > worse if part.higher_is_better else best < worse


@pytest.mark.parametrize("task", TASKS)
def test_its_state_brings_back_the_same_answers(task: str) -> None:
    part = cast(Task, built(task).recipe.task)
    again = cast(Task, registry.build("tasks", registry.spec(part)))
    again.restore(part.state())
    rows = take(toy.rows_for(part), list(range(8)))
    assert np.array_equal(again.truths(rows), part.truths(rows))
    assert again.head() == part.head()
    assert again.constant()[0] == part.constant()[0]


@pytest.mark.parametrize("task", TASKS)
def test_eight_examples_are_learned_by_heart(task: str, tmp_path: Path) -> None:
    toyed = built(task, steps=120, learning_rate=3e-3, weight_decay=0.0)
    toy.train(toyed, tmp_path)
    part = toyed.recipe.task
    predictor = Predictor(toyed.backbone.model, toyed.backbone.tokenizer, part, toyed.backbone.limit)
    answers = predictor.predict(toyed.batches.rows).answers
    truths = part.truths(take(toyed.batches.rows, list(range(8))))
    assert part.metrics(truths, answers)[part.metric] == pytest.approx(
        part.metrics(truths, truths)[part.metric], abs=0.02
    )


def _first_moment(toyed: Prepared, parameter: torch.nn.Parameter) -> torch.Tensor:
    # After one step from zero, AdamW's first moment is a tenth of the gradient.
    return cast(torch.Tensor, toyed.training.optimizer.state[parameter]["exp_avg"])
