"""What every task keeps, on every tiny backbone that suits it."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import transformers

from tests import toy
from tunesmith.core import registry
from tunesmith.core.errors import UserError
from tunesmith.core.part import Task
from tunesmith.core.rows import take
from tunesmith.core.step import Step
from tunesmith.evaluate.predict import Predictor
from tunesmith.models import artifact, builtin
from tunesmith.prepare import Prepared

TASKS = registry.names("tasks")


def backbones(task: str) -> list[str]:
    """The tiny backbones that a task suits: transformers has a model with its head, and the task does not refuse it."""
    part = cast(type[Task], registry.load("tasks", task))
    known = builtin.tiny_vision() if part.reads == "images" else builtin.tiny_configs()
    return [
        f"builtin:{name}"
        for name, config in known.items()
        if any(type(config) in getattr(transformers, one)._model_mapping for one in part.auto_classes)
        and not (name == "tiny-bert" and part.auto_classes[-1] == "AutoModelForCausalLM")
    ]


EVERY = [(task, backbone) for task in TASKS for backbone in backbones(task)]
FIRST = [(task, backbones(task)[0]) for task in TASKS]


def test_every_task_suits_a_backbone() -> None:
    assert {task for task, _ in EVERY} == set(TASKS)


def built(task: str, backbone: str, **train: object) -> Prepared:
    toyed = toy.prepared({"task": task, "model": backbone, "train": {"batch_size": 8, **train}})
    toy.quiet(toyed.training.model)
    return toyed


def loss_of(toyed: Prepared, numbers: list[int]) -> tuple[torch.Tensor, float]:
    task = toyed.recipe.task
    examples = task.encode(take(toyed.batches.rows, numbers), toyed.backbone.tokenizer, toyed.backbone.limit)
    batch = task.collate(examples, toyed.backbone.tokenizer)
    return task.loss(Step(toyed.training.model, task, batch)), task.targets(batch)


@pytest.mark.parametrize(("task", "backbone"), EVERY)
def test_a_padded_batch_and_its_single_examples_give_the_same_loss(task: str, backbone: str) -> None:
    toyed = built(task, backbone)
    toyed.training.model.eval()
    numbers = list(range(len(toyed.batches.rows)))
    whole, targets = loss_of(toyed, numbers)
    single = [loss_of(toyed, [number]) for number in numbers]
    assert targets > 0 and targets == pytest.approx(sum(count for _, count in single))
    if not toyed.recipe.task.couples:
        assert whole.item() == pytest.approx(sum(loss.item() for loss, _ in single), rel=1e-4)


@pytest.mark.parametrize(("task", "backbone"), EVERY)
@pytest.mark.parametrize("micro", [1, 4])
def test_micro_batches_give_the_gradients_of_the_whole_batch(
    task: str, backbone: str, micro: int, tmp_path: Path
) -> None:
    whole = built(task, backbone, steps=1, clip=1e9)
    parts = built(task, backbone, steps=1, clip=1e9, micro_batch_size=micro)
    if whole.recipe.task.couples:
        return
    for number, toyed in enumerate((whole, parts)):
        toy.train(toyed, tmp_path / str(number))
    for (name, expected), found in zip(
        whole.training.model.named_parameters(), parts.training.model.parameters(), strict=True
    ):
        if expected in whole.training.optimizer.state:
            a, b = _first_moment(whole, expected), _first_moment(parts, found)
            assert torch.allclose(a, b, rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize(("task", "backbone"), FIRST)
def test_perfect_answers_give_the_best_metric(task: str, backbone: str) -> None:
    part = built(task, backbone).recipe.task
    rows = toy.rows_for(part)
    truths = part.truths(take(rows, list(range(len(rows)))))
    best = part.metrics(truths, truths)[part.metric]
    worse = part.metrics(truths, np.roll(truths, 1, axis=0))[part.metric]
    # A loss has no wrong answers to give: the best one is that of certainty.
    if (part.metric, best) != ("perplexity", 1.0):
        assert best > worse if part.higher_is_better else best < worse


@pytest.mark.parametrize(("task", "backbone"), FIRST)
def test_its_state_brings_back_the_same_answers(task: str, backbone: str) -> None:
    part = built(task, backbone).recipe.task
    again = cast(Task, registry.build("tasks", registry.spec(part)))
    again.restore(json.loads(json.dumps(part.state())))
    rows = take(toy.rows_for(part), list(range(4)))
    assert np.array_equal(again.truths(rows), part.truths(rows))
    assert again.head() == part.head()
    first, second = part.constant(), again.constant()
    assert (first is None) == (second is None) and (first is None or second is None or first[0] == second[0])


@pytest.mark.parametrize(("task", "backbone"), FIRST)
def test_eight_examples_are_learned_by_heart(task: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(task, backbone, steps=150, learning_rate=3e-3, weight_decay=0.0)
    part = toyed.recipe.task
    before, _ = loss_of(toyed, list(range(len(toyed.batches.rows))))
    toy.train(toyed, tmp_path)
    rows = toy.rows_for(part)
    predictor = Predictor(toyed.backbone.model, toyed.backbone.tokenizer, part, toyed.backbone.limit)
    answers = predictor.predict(rows).answers
    truths = part.truths(take(rows, list(range(len(rows)))))
    if part.metric == "perplexity":
        # Masked and random words can't be learned by heart wholly: the loss must fall far.
        toyed.training.model.eval()
        after, _ = loss_of(toyed, list(range(len(toyed.batches.rows))))
        assert after.item() < 0.5 * before.item()
    else:
        best = part.metrics(truths, truths)[part.metric]
        assert part.metrics(truths, answers)[part.metric] == pytest.approx(best, abs=0.05)


@pytest.mark.parametrize(("task", "backbone"), EVERY)
def test_answers_without_targets_are_those_with_them(task: str, backbone: str) -> None:
    toyed = built(task, backbone)
    part = toyed.recipe.task
    predictor = Predictor(toyed.backbone.model, toyed.backbone.tokenizer, part, toyed.backbone.limit)
    inputs = [column.role for column in part.columns() if not column.target]
    known = toy.rows_for(part)
    bare = known.select_columns([name for name in known.column_names if name in inputs])
    lines: dict[str, list[object]] = {"known": [], "bare": []}
    predictor.predict(known, each=lambda line: lines["known"].append(line["prediction"]))
    predictor.predict(bare, each=lambda line: lines["bare"].append(line["prediction"]))
    assert lines["known"] == lines["bare"] and len(lines["bare"]) == len(known)


@pytest.mark.parametrize(("task", "backbone"), EVERY)
def test_what_is_seen_is_what_carries_loss(task: str, backbone: str) -> None:
    toyed = built(task, backbone)
    part, tokenizer = toyed.recipe.task, toyed.backbone.tokenizer
    for example in part.encode(take(toyed.batches.rows, [0, 1]), tokenizer, toyed.backbone.limit):
        shown = part.seen(example, tokenizer)
        assert all(len(seen.tokens) == len(seen.loss) for seen in shown)
        # A task marks every position with a loss of its own (of a span its start and its end), or none where the loss
        # is that of the whole example.
        marked, targets = sum(sum(seen.loss) for seen in shown), part.targets(part.collate([example], tokenizer))
        assert marked in (0, targets, 2 * targets), part.word()


@pytest.mark.parametrize("method", registry.names("methods"))
@pytest.mark.parametrize(("task", "backbone"), FIRST)
def test_it_goes_with_every_method(task: str, backbone: str, method: str, tmp_path: Path) -> None:
    settings = {"peft": {"name": "peft", "type": "lora", "settings": {"target_modules": "all-linear"}}}
    values = {"task": task, "model": backbone, "method": settings.get(method, method)}
    try:
        toyed = toy.prepared({**values, "train": {"batch_size": 8, "steps": 1}})
    except UserError as error:
        assert error.message.count(".") <= 3 and error.hint
        return
    try:
        toy.train(toyed, tmp_path / "run")
    except UserError as error:
        assert error.message.count(".") <= 3 and error.hint
        return
    folder = toy.save(toyed, tmp_path / "model")
    recipe = toyed.recipe
    again = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    batches = [
        recipe.task.collate(
            recipe.task.encode(take(toyed.batches.rows, [0, 1]), one.tokenizer, one.limit), one.tokenizer
        )
        for one in (toyed.backbone, again)
    ]
    artifact.prove(
        artifact.outputs(toyed.backbone.model, batches[:1]), artifact.outputs(again.model, batches[1:]), "The model"
    )


def _first_moment(toyed: Prepared, parameter: torch.nn.Parameter) -> torch.Tensor:
    # After one step from zero, AdamW's first moment is a tenth of the gradient.
    return cast(torch.Tensor, toyed.training.optimizer.state[parameter]["exp_avg"])


@pytest.mark.parametrize(("task", "backbone"), FIRST)
def test_lines_tell_the_answers_again(task: str, backbone: str, tmp_path: Path) -> None:
    toyed = built(task, backbone)
    part, rows = toyed.recipe.task, toy.rows_for(toyed.recipe.task)
    predictor = Predictor(toyed.training.model, toyed.backbone.tokenizer, part, toyed.backbone.limit)
    found = predictor.predict(rows, out=tmp_path / "lines.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    again = part.reread(lines)
    if again is None:
        return
    expected = part.metrics(part.truths(take(rows, list(range(len(rows))))), found.answers)
    told = part.metrics(part.truths(lines), again)
    # Lines are rounded to six digits, and the answers of an untrained model hardly differ.
    assert told[part.metric] == pytest.approx(expected[part.metric], rel=0.02)
