"""Untouched embedding rows: what is left out changes nothing, but for rounding."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests import toy
from tunesmith.core import anatomy
from tunesmith.core.part import Part
from tunesmith.core.step import Step, Training
from tunesmith.prepare import Prepared
from tunesmith.train import checkpoint, clip
from tunesmith.train.adamw import AdamW
from tunesmith.train.touched import touched

WORDS, HIDDEN, STEPS = 50, 8, 24


class Model(nn.Module):
    """Mean of word rows, then a linear; `tied` scores the vocabulary with the rows themselves."""

    def __init__(self, padding: int | None = 0, tied: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, HIDDEN, padding_idx=padding)
        self.out = nn.Linear(HIDDEN, WORDS if tied else 3, bias=False)
        if tied:
            self.out.weight = self.words.weight

    def get_input_embeddings(self) -> nn.Module:
        """What transformers calls the table of words."""
        return self.words

    def forward(self, ids: Tensor) -> Tensor:
        """[batch, 3]."""
        scores: Tensor = self.out(torch.tanh(self.words(ids)).mean(1))
        return scores


def pair(**settings: Any) -> tuple[Model, Model]:
    torch.manual_seed(0)
    model = Model(**settings)
    return model, copy.deepcopy(model)


def groups(model: nn.Module) -> list[dict[str, Any]]:
    return [
        {"params": [model.words.weight], "names": ["words.weight"], "weight_decay": 0.1, "lr": 0.01, "peak": 0.01},
        {"params": [model.out.weight], "names": ["out.weight"], "weight_decay": 0.0, "lr": 0.02, "peak": 0.02},
    ]


def ours(model: nn.Module) -> AdamW:
    return AdamW(groups(model), lr=0.01, eps=1e-8, fused=True)


def theirs(model: nn.Module) -> torch.optim.AdamW:
    """The reference: torch's AdamW over whole tables."""
    return torch.optim.AdamW(groups(model), lr=0.01, eps=1e-8, fused=True)


def batch(number: int) -> tuple[Tensor, Tensor]:
    """Random words; early steps draw from few of them, so that rows are touched late, with decay pending."""
    draw = torch.Generator().manual_seed(number)
    ids = torch.randint(0, min(WORDS, 8 + 2 * number), (4, 5), generator=draw)
    return ids, torch.randint(0, 3, (4,), generator=draw)


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, start: int, stop: int, micro: int = 4) -> None:
    for number in range(start, stop):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * (1 - number / 40)
        ids, targets = batch(number)
        for few, wanted in zip(ids.split(micro), targets.split(micro), strict=True):
            (functional.cross_entropy(model(few), wanted) * len(few) / len(ids)).backward()
        clip.step(optimizer, float(clip.norm(optimizer)), 0.05)
        optimizer.zero_grad()


@contextmanager
def entered(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[None]:
    with touched(model, optimizer, [], "float32") as reason:
        assert reason == ""
        yield


def close(one: nn.Module, other: nn.Module) -> None:
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(one.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("padding", [None, 0, 3])
@pytest.mark.parametrize("micro", [4, 1])
def test_weights_are_those_of_adamw_over_the_whole_table(padding: int | None, micro: int) -> None:
    mine, reference = pair(padding=padding)
    optimizer = ours(mine)
    with entered(mine, optimizer):
        learn(mine, optimizer, 0, STEPS, micro)
        assert mine.words.weight.grad is None
        assert len(optimizer.tables[mine.words.weight].first) < WORDS or len(batch(STEPS - 1)[0].unique()) < WORDS
    learn(reference, theirs(reference), 0, STEPS, 4)
    close(mine, reference)
    assert (mine.words.weight - pair(padding=padding)[0].words.weight).abs().max() > 0.05


def test_only_touched_rows_have_moments() -> None:
    mine, _ = pair()
    optimizer = ours(mine)
    with entered(mine, optimizer):
        learn(mine, optimizer, 0, 3)
        state = optimizer.state_dict()["state"][0]
    # The padding is a row too.
    seen = torch.cat([batch(number)[0].reshape(-1) for number in range(3)] + [torch.tensor([0])]).unique()
    assert state["rows"].sort().values.tolist() == seen.tolist()
    assert state["exp_avg"].shape == state["exp_avg_sq"].shape == (len(seen), HIDDEN)


def test_what_is_read_meanwhile_is_whole() -> None:
    mine, reference = pair()
    optimizer, plain = ours(mine), theirs(reference)
    every = torch.arange(WORDS).view(1, -1)
    with entered(mine, optimizer):
        learn(mine, optimizer, 0, 6)
        learn(reference, plain, 0, 6)
        optimizer.release()
        pending = mine.words.weight.detach().clone()
        assert not torch.allclose(pending, reference.words.weight, rtol=1e-6, atol=1e-7)
        close(mine, reference)
        close(copy.deepcopy(mine), reference)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                torch.testing.assert_close(mine(every), reference(every), rtol=1e-5, atol=1e-6)
        # Reading leaves the training as it is, to the bit.
        assert torch.equal(mine.words.weight, pending)
        learn(mine, optimizer, 6, STEPS)
    learn(reference, plain, 6, STEPS)
    close(mine, reference)
    assert list(mine.words.__dict__) == list(reference.words.__dict__)
    assert not mine.words._state_dict_hooks and not mine.words._load_state_dict_pre_hooks


def test_a_copy_trains_by_itself() -> None:
    mine, _ = pair()
    optimizer = ours(mine)
    with entered(mine, optimizer):
        learn(mine, optimizer, 0, 3)
        copied = copy.deepcopy(mine)
        copied(batch(0)[0]).sum().backward()
        assert copied.words.weight.grad is not None and mine.words.weight.grad is None
        assert not optimizer.tables[mine.words.weight].received


def test_another_weight_may_be_loaded_meanwhile() -> None:
    mine, other = pair()
    optimizer = ours(mine)
    with entered(mine, optimizer):
        learn(mine, optimizer, 0, 3)
        mine.load_state_dict(other.state_dict())
        close(mine, other)
    close(mine, other)


def test_a_resume_is_the_same_to_the_bit() -> None:
    whole, halves = pair()
    optimizer = ours(whole)
    with entered(whole, optimizer):
        learn(whole, optimizer, 0, STEPS)
    optimizer = ours(halves)
    with entered(halves, optimizer):
        learn(halves, optimizer, 0, 9)
        optimizer.release()
        kept = {name: p.detach().clone() for name, p in halves.named_parameters()}
        state = copy.deepcopy(optimizer.state_dict())
    again = Model()
    optimizer = ours(again)
    with entered(again, optimizer):
        learn(again, optimizer, 0, 2)
        with torch.no_grad():
            for name, parameter in again.named_parameters():
                parameter.copy_(kept[name])
        optimizer.load_state_dict(state)
        learn(again, optimizer, 9, STEPS)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize("there", [True, False])
def test_a_state_goes_on_with_and_without_a_table(there: bool) -> None:
    mine, reference = pair()
    first, second = ours(mine), ours(mine)
    if there:
        learn(mine, first, 0, 9)
        with entered(mine, second):
            second.load_state_dict(first.state_dict())
            learn(mine, second, 9, STEPS)
    else:
        with entered(mine, first):
            learn(mine, first, 0, 9)
            state, raw = copy.deepcopy(first.state_dict()), mine.words.weight.detach().clone()
        mine.words.weight.data.copy_(raw)
        second.load_state_dict(state)
        second.zero_grad()
        learn(mine, second, 9, STEPS)
    learn(reference, theirs(reference), 0, STEPS)
    close(mine, reference)


def test_a_gradient_of_the_whole_table_ends_it() -> None:
    # A penalty on the weight: a gradient that no lookup gives.
    mine, reference = pair()
    for model, optimizer in ((mine, ours(mine)), (reference, theirs(reference))):
        with touched(model, optimizer, [], "float32"):
            for number in range(STEPS):
                (0.1 * (model.words.weight**2).sum()).backward()
                learn(model, optimizer, number, number + 1)
            if model is mine:
                assert not optimizer.tables[mine.words.weight].live  # type: ignore[attr-defined]
    close(mine, reference)


def test_training_goes_on_after_the_block() -> None:
    mine, reference = pair()
    optimizer = ours(mine)
    with entered(mine, optimizer):
        learn(mine, optimizer, 0, 9)
    learn(mine, optimizer, 9, STEPS)
    learn(reference, theirs(reference), 0, STEPS)
    close(mine, reference)
    with touched(mine, optimizer, [], "float32") as reason:
        assert reason == "every row has moments already"


def test_a_block_may_be_entered_again() -> None:
    mine, reference = pair()
    optimizer = ours(mine)
    for start in (0, 9):
        with entered(mine, optimizer):
            learn(mine, optimizer, start, start + 9)
    learn(reference, theirs(reference), 0, 18)
    close(mine, reference)


def test_a_frozen_table_gets_what_is_pending_and_stays() -> None:
    mine, reference = pair()
    optimizer, plain = ours(mine), theirs(reference)
    for model, one in ((mine, optimizer), (reference, plain)):
        with touched(model, one, [], "float32"):
            learn(model, one, 0, 5)
            pending = model.words.weight.detach().clone()
            Training(model, None, one, STEPS, 0).freeze(["words.weight"])  # type: ignore[arg-type]
            frozen = model.words.weight.detach().clone()
            learn(model, one, 5, STEPS)
            if model is mine:
                assert 0 in one.state_dict()["state"] and len(one.state_dict()["state"]) == 1
                assert not torch.equal(pending, frozen) and torch.equal(mine.words.weight, frozen)
    close(mine, reference)


class Looks(Part):
    """A part that acts after every step."""

    def after_step(self, training: Training) -> None:
        """Nothing."""


class Adds(Part):
    """A part that adds a loss."""

    def loss(self, step: Step) -> Tensor | None:
        """None."""


def test_it_steps_aside_with_a_reason() -> None:
    for change, reason in (
        ({"tied": True}, "the output layer shares its weight"),
        ({"parts": [Looks()]}, "looks may look at weights and gradients"),
        ({"parts": [Adds()]}, "adds may look at weights and gradients"),
        ({"precision": "float16"}, "float16 scales whole gradients"),
        ({"optimizer": torch.optim.SGD}, "the optimizer SGD takes whole gradients"),
        ({"max_norm": 1.0}, "of a kind of their own"),
        ({"frozen": True}, "no word embeddings train"),
    ):
        model = Model(tied=bool(change.get("tied")))
        model.words.max_norm = change.get("max_norm")  # type: ignore[assignment]
        model.words.weight.requires_grad_(not change.get("frozen"))
        kind = change.get("optimizer", AdamW)
        made = kind(model.parameters(), lr=0.01)  # type: ignore[operator]
        before = dict(vars(model.words))
        with touched(model, made, change.get("parts", []), str(change.get("precision", "float32"))) as said:  # type: ignore[arg-type]
            assert reason in said
            assert vars(model.words) == before


def trained(name: str, folder: Path, rows: bool, **train: Any) -> Prepared:
    made = toy.prepared(
        {"model": name, "speed": "plain", "train": {"steps": 8, "learning_rate": 1e-3, "weight_decay": 0.1, **train}}
    )
    optimizer = made.training.optimizer
    with touched(made.training.model, optimizer, made.recipe.parts, "float32" if rows else "float16") as reason:
        assert (reason == "") is rows
        toy.train(made, folder)
        if rows:
            assert len(optimizer.state_dict()["state"]) > 0
    return made


@pytest.mark.parametrize("name", toy.BACKBONES)
def test_the_loop_trains_backbones_alike(name: str, tmp_path: Path) -> None:
    mine = trained(name, tmp_path / "rows", True, micro_batch_size=2)
    reference = trained(name, tmp_path / "whole", False, micro_batch_size=2)
    weight = next(iter(anatomy.word_embeddings(mine.training.model).values())).weight
    table = mine.training.optimizer.tables[weight]  # type: ignore[attr-defined]
    assert 0 < table.count < len(weight)
    # Dropout draws the same numbers in both; a gradient near zero may take the other sign in Adam's first steps.
    for key, tensor in toy.weights(reference).items():
        torch.testing.assert_close(toy.weights(mine)[key], tensor, rtol=1e-4, atol=2e-5)


def test_an_interrupted_run_resumes_to_the_bit(tmp_path: Path) -> None:
    whole = trained("builtin:tiny-bert", tmp_path / "whole", True)
    made = toy.prepared({"speed": "plain", "train": {"steps": 8, "learning_rate": 1e-3, "weight_decay": 0.1}})
    asked = iter([False] * 3 + [True])
    with entered(made.training.model, made.training.optimizer):
        assert not toy.train(made, tmp_path / "half", interrupted=lambda: next(asked))
    again = trained("builtin:tiny-bert", tmp_path / "half", True)
    assert all(torch.equal(toy.weights(again)[name], one) for name, one in toy.weights(whole).items())


def test_the_best_weights_have_nothing_pending(tmp_path: Path) -> None:
    made = toy.prepared({"speed": "plain", "train": {"steps": 4, "weight_decay": 0.1, "learning_rate": 0.01}})
    with entered(made.training.model, made.training.optimizer):
        toy.train(made, tmp_path)
        table = next(iter(made.training.optimizer.tables.values()))  # type: ignore[attr-defined]
        assert table.pending < 1.0
        expected = table.whole()
        name = checkpoint.save_best(tmp_path, made.training)
        assert torch.equal(table.weight, expected)
        checkpoint.restore_best(tmp_path, name, made.training)
    assert torch.equal(table.weight, expected)


def test_a_resumed_recipe_enters_again_to_the_bit(tmp_path: Path) -> None:
    # The shortcut alone, by its setting: it is entered after the state is put back.
    values = {
        "speed": {"shortcuts": "plain", "touched_rows": True},
        "train": {"steps": 8, "learning_rate": 1e-3, "weight_decay": 0.1},
    }
    whole = toy.prepared(values)
    toy.train(whole, tmp_path / "whole")
    asked = iter([False] * 3 + [True])
    assert not toy.train(toy.prepared(values), tmp_path / "half", interrupted=lambda: next(asked))
    again = toy.prepared(values)
    toy.train(again, tmp_path / "half")
    (table,) = again.training.optimizer.tables.values()  # type: ignore[attr-defined]
    assert table.live and 0 < table.count < len(table.weight)
    assert all(torch.equal(toy.weights(again)[name], one) for name, one in toy.weights(whole).items())


FREEZING: list[dict[str, Any]] = [
    {"name": "freeze", "first": 0.25, "cubed": False},
    {"name": "freeze", "rule": "gradients", "intervals": 8, "percentile": 100.0},
    {"name": "unfreeze", "steps": 2},
]


def scheduled(schedule: dict[str, Any], rows: bool, folder: Path, **outside: Any) -> Prepared:
    """A training made and run at once, so that every one draws the same dropout."""
    made = toy.prepared(
        {
            "speed": {"shortcuts": "plain", "touched_rows": rows},
            "schedules": [schedule, "constant"],
            "train": {"steps": 8, "learning_rate": 1e-3, "weight_decay": 0.1},
        },
    )
    toy.train(made, folder, **outside)
    return made


@pytest.mark.parametrize("schedule", FREEZING)
def test_embeddings_may_freeze_and_open(schedule: dict[str, Any], tmp_path: Path) -> None:
    mine, reference = (scheduled(schedule, rows, tmp_path / str(rows)) for rows in (True, False))
    (table,) = mine.training.optimizer.tables.values()  # type: ignore[attr-defined]
    assert table.live and table.weight.grad is None
    assert mine.recipe.schedules[0].state().get("frozen") == reference.recipe.schedules[0].state().get("frozen")
    trains = table.weight.requires_grad
    assert trains is (schedule["name"] == "unfreeze") and (table.count > 1) is trains
    for key, tensor in toy.weights(reference).items():
        torch.testing.assert_close(toy.weights(mine)[key], tensor, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("schedule", FREEZING)
@pytest.mark.parametrize("after", [2, 7])
def test_a_resume_knows_whether_embeddings_train(schedule: dict[str, Any], after: int, tmp_path: Path) -> None:
    whole = scheduled(schedule, True, tmp_path / "whole")
    asked = iter([False] * (after - 1) + [True])
    scheduled(schedule, True, tmp_path / "half", interrupted=lambda: next(asked))
    again = scheduled(schedule, True, tmp_path / "half")
    assert all(torch.equal(toy.weights(again)[name], one) for name, one in toy.weights(whole).items())
