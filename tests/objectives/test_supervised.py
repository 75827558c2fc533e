"""The supervised objective: the task's summed loss over the targets of the whole update, and a decoder's own loss."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel

from tests import toy
from tunesmith.core import anatomy, registry
from tunesmith.core.errors import RecipeError
from tunesmith.core.part import Task
from tunesmith.core.rows import take
from tunesmith.core.step import Batch, Step, Update
from tunesmith.objectives.supervised import EXAMPLES, Supervised, next_token_loss, scoring
from tunesmith.prepare import Prepared
from tunesmith.recipe import from_values

HALF = {"name": "supervised", "language_model": 0.5}


def decoder(objective: Any = HALF, **values: Any) -> Prepared:
    made = toy.prepared({"model": "builtin:tiny-gpt2", "objective": objective, **values})
    toy.quiet(made.training.model)
    return made


def batch_of(toyed: Prepared, numbers: list[int]) -> Batch:
    task, backbone = toyed.recipe.task, toyed.backbone
    batch = task.collate(
        task.encode(take(toyed.batches.rows, numbers), backbone.tokenizer, backbone.limit), backbone.tokenizer
    )
    return next(iter(toyed.recipe.objective.batches(iter([Update([batch], 1.0)])))).batches[0]


def losses_of(toyed: Prepared, batch: Batch) -> tuple[float, float]:
    """The task's mean, and what the objective adds to it."""
    objective, task = toyed.recipe.objective, toyed.recipe.task
    objective.setup(toyed.training)
    toyed.training.model.train()
    step = Step(toyed.training.model, task, batch, task.targets(batch))
    total = objective.loss(step)
    assert total is not None
    own = (task.loss(step) / step.targets).item()
    return own, total.item() - own


def test_micro_batches_of_unequal_size_are_not_averaged() -> None:
    # Four targets with losses 1, 2, 3 and one of 10: the mean is 4; the mean of the micro-batches' means would be 6.
    task = SimpleNamespace(loss=lambda step: torch.tensor(step.batch).sum())
    parts: list[Any] = [SimpleNamespace(task=task, batch=[1.0, 2.0, 3.0], targets=4.0)]
    parts.append(SimpleNamespace(task=task, batch=[10.0], targets=4.0))
    assert sum(Supervised().loss(step).item() for step in parts) == pytest.approx(4.0)


def test_a_task_without_targets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    task = registry.load("tasks", "classify")
    assert issubclass(task, Task)
    monkeypatch.setattr(task, "gives", frozenset({"prompts"}))
    with pytest.raises(RecipeError, match="'supervised' needs targets in a batch, which the task 'classify' does not"):
        from_values({"data": "rows.csv", "task": "classify"})


def test_next_token_losses_by_hand() -> None:
    # Words 0 and 1 are scored log(3) h and 0: shares 3/4 and 1/4 after the state 1, 1/2 and 1/2 after the state 0.
    weight = torch.tensor([[math.log(3)], [0.0]])
    ids = torch.tensor([[0, 0, 1], [1, 0, 0], [1, 1, 1]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    states = torch.tensor([[1.0, 0.0, 9.0], [1.0, 9.0, 9.0], [9.0, 9.0, 9.0]])[..., None]
    inputs = {"input_ids": ids, "attention_mask": mask}
    # First: -log 3/4 and -log 1/2, their mean; second: -log 3/4, its padding left out; third: one token, nothing next.
    first, second = (math.log(4 / 3) + math.log(2)) / 2, math.log(4 / 3)
    found = next_token_loss(states, Batch(inputs, {}, [0, 1, 2]), weight)
    assert found.item() == pytest.approx(first + second)
    # As parts of two examples, the mean is over all tokens of an example: three of the first.
    parts = Batch(inputs, {"owners": torch.tensor([0, 0, 1])}, [0, 1])
    mean = (2 * math.log(4 / 3) + math.log(2)) / 3
    assert next_token_loss(states, parts, weight).item() == pytest.approx(mean)
    # Virtual tokens stand before the text's own states.
    longer = torch.cat([torch.full((3, 2, 1), 5.0), states], dim=1)
    assert next_token_loss(longer, parts, weight).item() == pytest.approx(mean)
    # A bias of log(3) for word 0: shares 9/10 and 1/10, then 3/4 and 1/4.
    biased = next_token_loss(states, parts, weight, torch.tensor([math.log(3), 0.0]))
    assert biased.item() == pytest.approx((2 * math.log(10 / 9) + math.log(4)) / 3)


def test_it_is_the_loss_of_transformers_own_language_model() -> None:
    toyed = decoder()
    model: Any = toyed.training.model
    reference = GPT2LMHeadModel(model.config)
    reference.transformer = model.transformer
    reference.tie_weights()
    toy.quiet(reference)
    batch = batch_of(toyed, [0, 1, 2, 3])
    _, added = losses_of(toyed, batch)
    singles = []
    for ids, mask in zip(batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True):
        text = ids[mask.bool()][None]
        singles.append(reference(input_ids=text, labels=text).loss.item())
    assert len({round(one, 3) for one in singles}) > 1
    assert added == pytest.approx(0.5 * sum(singles) / 4, rel=1e-4)


def test_a_prompt_stands_before_the_text_and_is_not_predicted() -> None:
    toyed = decoder(method={"name": "prompt", "length": 3})
    model: Any = toyed.training.model
    batch = batch_of(toyed, [0])
    _, added = losses_of(toyed, batch)
    ids = batch.inputs["input_ids"]
    rows = next(module for path, module in anatomy.word_embeddings(model).items())
    states = model.transformer(inputs_embeds=torch.cat([rows.prompt[None], rows.base(ids)], dim=1)).last_hidden_state
    logits = states[:, 3:-1] @ rows.base.weight.T
    expected = torch.nn.functional.cross_entropy(logits[0], ids[0, 1:])
    assert added == pytest.approx(0.5 * expected.item(), rel=1e-4)


@pytest.mark.parametrize("method", ["lora", "prefix", "prompt", "head_only"])
def test_it_trains_with_methods(method: str, tmp_path: Path) -> None:
    toyed = decoder(method=method, train={"steps": 2})
    before = toy.weights(toyed)
    assert toy.train(toyed, tmp_path)
    assert any(not torch.equal(tensor, before[name]) for name, tensor in toy.weights(toyed).items())


@pytest.mark.parametrize("task", ["choose", {"name": "classify", "class_weights": "balanced"}])
@pytest.mark.parametrize("micro", [1, 2])
def test_accumulation_changes_nothing(task: Any, micro: int, tmp_path: Path) -> None:
    train = {"batch_size": 8, "steps": 1, "clip": 1e9}
    whole, parts = decoder(task=task, train=train), decoder(task=task, train={**train, "micro_batch_size": micro})
    for number, toyed in enumerate((whole, parts)):
        toy.train(toyed, tmp_path / str(number))
    pairs = zip(whole.training.model.parameters(), parts.training.model.parameters(), strict=True)
    for one, other in pairs:
        first = whole.training.optimizer.state[one]["exp_avg"]
        assert torch.allclose(first, parts.training.optimizer.state[other]["exp_avg"], rtol=1e-3, atol=1e-6)


def test_with_weight_zero_nothing_is_watched() -> None:
    toyed = decoder({"name": "supervised", "language_model": 0.0})
    objective = toyed.recipe.objective
    stream: Iterator[Update] = iter([])
    assert objective.batches(stream) is stream
    batch = batch_of(toyed, [0, 1])
    assert EXAMPLES not in batch.fields
    assert losses_of(toyed, batch)[1] == 0.0
    assert not anatomy.backbone(toyed.training.model)._forward_hooks


def test_measuring_keeps_no_states() -> None:
    toyed = decoder()
    batch = batch_of(toyed, [0])
    losses_of(toyed, batch)
    toyed.training.model.eval()(**batch.inputs)
    objective = toyed.recipe.objective
    assert isinstance(objective, Supervised) and objective._states is None


def test_a_model_with_an_output_layer_uses_it() -> None:
    model: Any = decoder().training.model
    weight, bias = scoring(model)
    assert weight is model.transformer.wte.weight and bias is None
    whole = GPT2LMHeadModel(model.config)
    whole.lm_head = torch.nn.Linear(32, 5)
    assert scoring(whole) == (whole.lm_head.weight, whole.lm_head.bias)


def test_products_are_in_the_type_that_the_model_runs_in() -> None:
    toyed = decoder()
    batch = batch_of(toyed, [0, 1])
    objective, model = toyed.recipe.objective, toyed.training.model
    assert isinstance(objective, Supervised)
    objective.setup(toyed.training)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.train()(**batch.inputs)
    assert objective._kind == torch.bfloat16
    model(**batch.inputs)
    assert objective._kind is None


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("builtin:tiny-bert", "BertForSequenceClassification is no decoder"),
        ("builtin:tiny-t5", "T5ForSequenceClassification is no decoder"),
        ("builtin:tiny-llama", "LlamaForSequenceClassification scores words by a layer that is not loaded"),
    ],
)
def test_other_models_are_refused_before_anything_is_written(model: str, told: str) -> None:
    with pytest.raises(RecipeError, match=told) as caught:
        toy.prepared({"model": model, "objective": HALF})
    assert "language_model" in caught.value.hint


def test_scores_that_are_changed_afterwards_are_refused() -> None:
    model: Any = decoder("supervised").training.model
    model.config.final_logit_softcapping = 30.0
    with pytest.raises(RecipeError, match=r"after its output layer \(final_logit_softcapping\)"):
        Supervised(language_model=0.5).modify(model, torch.Generator())


def test_a_model_of_images_is_refused() -> None:
    class Pictures(torch.nn.Module):
        config = SimpleNamespace()

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values

    pictures = Pictures()
    pictures.weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(RecipeError, match="Pictures is no decoder"):
        Supervised(language_model=0.5).modify(pictures, torch.Generator())


def test_packed_examples_are_refused_before_the_first_step(tmp_path: Path) -> None:
    packed = {"name": "generate", "pack": True, "answered": 0}
    with pytest.raises(RecipeError, match="language_model does not go with"):
        toy.train(decoder(task=packed, train={"steps": 1}), tmp_path / "packed")
    assert toy.train(decoder("supervised", task=packed, train={"steps": 1}), tmp_path / "without")
    assert toy.train(decoder(task={**packed, "pack": False}, train={"steps": 1}), tmp_path / "apart")


def test_batches_that_are_no_plain_texts_are_refused() -> None:
    toyed = decoder()
    batch = batch_of(toyed, [0])
    toyed.recipe.objective.setup(toyed.training)
    step = Step(toyed.training.model.eval(), toyed.recipe.task, batch)
    with pytest.raises(RecipeError, match="the batches of the task 'classify' are no plain texts"):
        toyed.recipe.objective.loss(step)
