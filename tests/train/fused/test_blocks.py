"""Blocks that run as one function inside a whole model, against the same model on padded batches."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from tunesmith.core import registry, surgery
from tunesmith.core.dropout import fast_dropout
from tunesmith.core.notes import listening
from tunesmith.core.unpadded import unpadded
from tunesmith.models.builtin import tiny_configs
from tunesmith.train.fused import bert, check
from tunesmith.train.fused.bert import Bert
from tunesmith.train.fused.blocks import Fused, families, fused
from tunesmith.train.fused.tape import Tape


def model_of(name: str = "tiny-bert", **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = copy.deepcopy(tiny_configs()[name])
    for key, value in {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, **settings}.items():
        setattr(config, key, value)
    made = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.train()


def batch(lengths: tuple[int, ...] = (5, 9, 2, 9)) -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 200, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(len(lengths)) % 2}


def trained(model: nn.Module, *batches: dict[str, Tensor]) -> list[Tensor]:
    """The loss, and the gradient of everything that trains."""
    model.zero_grad()
    losses = [model(**given).loss for given in batches or (batch(),)]
    for loss in losses:
        loss.backward()
    return [sum(losses).detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def same(one: list[Tensor], other: list[Tensor], atol: float = 1e-5) -> bool:
    return len(one) == len(other) and all(torch.allclose(a, b, atol=atol) for a, b in zip(one, other, strict=True))


def runs(model: nn.Module) -> list[Fused]:
    return [vars(module)["forward"] for module in model.modules() if isinstance(vars(module).get("forward"), Fused)]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Every forward pass as one function, and whether it gave the tokens that are read alone."""
    calls: list[bool] = []
    original = bert._Work.forward

    def forward(self: bert._Work, x: Tensor, tape: Tape) -> Tensor:
        calls.append(self.one)
        return original(self, x, tape)

    monkeypatch.setattr(bert._Work, "forward", forward)
    yield calls


def test_every_file_with_the_class_of_its_own_name_is_a_family() -> None:
    assert Bert in families() and all(hasattr(family, "of") for family in families())


@pytest.mark.parametrize("lengths", [(5, 9, 2, 9), (7,), (4, 4, 4), (2, 61, 3)], ids=str)
@pytest.mark.parametrize("unread", [True, False])
def test_losses_and_gradients_are_those_of_padded_batches(
    lengths: tuple[int, ...], unread: bool, counted: list[bool]
) -> None:
    model, given = model_of(), batch(lengths)
    expected = trained(model, given)
    with unpadded(model, unread=unread) as why, fused(model) as report:
        assert why == "" and str(report) == "2 of 2 blocks run as one function"
        counted.clear()
        found = trained(model, given)
    # With unread tokens left out, the last block gives the first token of each sequence alone.
    assert counted == [False, unread]
    assert same(found, expected)


def test_micro_batches_add_up(counted: list[bool]) -> None:
    model, parts = model_of(), (batch((5, 9)), batch((2, 30, 4)))
    expected = trained(model, *parts)
    with unpadded(model), fused(model):
        counted.clear()
        assert same(trained(model, *parts), expected) and len(counted) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predictions_are_those_of_padded_batches(dtype: torch.dtype, counted: list[bool]) -> None:
    model, given = model_of(hidden_dropout_prob=0.3).eval(), batch()

    @torch.inference_mode()
    def predict() -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            found: Tensor = model(**given).logits
            return found

    expected = predict()
    with unpadded(model), fused(model):
        counted.clear()
        found = predict()
    assert len(counted) == 2
    assert torch.allclose(found, expected, atol=1e-5 if dtype == torch.float32 else 0.05)


def test_training_goes_on_after_a_prediction(counted: list[bool]) -> None:
    model = model_of()
    expected = trained(model)
    with unpadded(model), fused(model):
        with torch.inference_mode():
            model.eval()(**batch())
        assert same(trained(model.train()), expected)


def test_steps_of_an_optimizer_reach_the_blocks(counted: list[bool]) -> None:
    # Fused AdamW changes weights without counting it as a new version.
    ends = []
    for inside in (contextlib.nullcontext(), contextlib.ExitStack()):
        model = model_of()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True)
        with inside as stack:
            if stack is not None:
                stack.enter_context(unpadded(model))
                stack.enter_context(fused(model))
            for _ in range(5):
                loss = trained(model)[0]
                optimizer.step()
        ends.append(float(loss))
    assert ends[0] == pytest.approx(ends[1], abs=1e-3) and len(counted) > 10


@pytest.mark.parametrize("embeddings", [True, False])
def test_checkpointed_blocks_are_computed_again(embeddings: bool, counted: list[bool]) -> None:
    model = model_of(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.1)
    model.bert.embeddings.requires_grad_(embeddings)
    with unpadded(model, unread=False), fast_dropout(model), fused(model):
        torch.manual_seed(5)
        plain = trained(model)
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        counted.clear()
        torch.manual_seed(5)
        again = trained(model)
    assert len(counted) == 4  # each of two blocks twice
    assert same(again, plain, atol=1e-7)  # the same numbers are dropped


@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_low_rank_products(targets: str, counted: list[bool]) -> None:
    model = model_of()
    method: Any = registry.build("methods", {"name": "lora", "rank": 2, "targets": targets})
    method.modify(model, torch.Generator().manual_seed(0))
    for wrapper in surgery.wrappers(model).values():
        nn.init.normal_(wrapper.lora_B, std=0.1)
    expected = trained(model)
    with unpadded(model), fused(model) as report:
        counted.clear()
        assert report.fused == 2 and same(trained(model), expected) and len(counted) == 2
        with surgery.switched_off(model):
            inside = model(**batch()).logits
    with surgery.switched_off(model):
        assert torch.allclose(inside, model(**batch()).logits, atol=1e-5)


def test_freezing_and_thawing_inside(counted: list[bool]) -> None:
    model = model_of()
    with unpadded(model), fused(model):
        for open_blocks in (0, 1, 2):
            surgery.freeze(model.bert)
            for block in list(model.bert.encoder.layer)[2 - open_blocks :]:
                surgery.thaw(block)
            found = trained(model)
            reference = copy.deepcopy(model)
            for one in runs(reference):
                del one.block.forward
            assert same(found, trained(reference))


def test_it_may_be_entered_while_predicting() -> None:
    with torch.inference_mode(), fused(model_of()) as report:
        assert report.fused == 2


class TestStepsAside:
    def test_for_a_padded_call(self, counted: list[bool]) -> None:
        model = model_of()
        expected = trained(model)
        with fused(model) as report:
            counted.clear()
            assert report.fused == 2 and same(trained(model), expected) and not counted

    def test_for_a_hook_inside_a_block(self, counted: list[bool]) -> None:
        model, seen = model_of(), []
        model.bert.encoder.layer[1].attention.self.query.register_forward_hook(lambda *_: seen.append(1))
        expected = trained(model)
        with unpadded(model), fused(model) as report:
            assert (report.fused, report.blocks) == (1, 2) and "hook inside BertLayer" in str(report)
            seen.clear()
            counted.clear()
            assert same(trained(model), expected) and seen == [1] and len(counted) == 1

    def test_for_a_hook_that_comes_later_and_says_so_once(self, counted: list[bool]) -> None:
        model, seen = model_of(), []
        with listening() as notes, unpadded(model), fused(model):
            handle = model.bert.encoder.layer[0].output.dense.register_forward_hook(lambda *_: seen.append(1))
            counted.clear()
            trained(model)
            trained(model)
            assert len(counted) == 2 and len(seen) == 2
            handle.remove()
            trained(model)
            assert len(counted) == 4
        assert [text for text in notes if "one function" in text] == [
            "A block of BertLayer runs as it is, not as one function: a hook inside it."
        ]

    def test_for_a_wrapper_that_it_does_not_know(self) -> None:
        model = model_of()
        method: Any = registry.build("methods", "dora")
        method.modify(model, torch.Generator().manual_seed(0))
        expected = trained(model)
        with listening() as notes, unpadded(model), fused(model) as report:
            assert same(trained(model), expected)
        assert report.fused == 0 and "could not be compared" in str(report) and notes == []

    @pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-t5"])
    def test_for_other_families(self, name: str) -> None:
        with fused(model_of(name)) as report:
            assert report.fused == 0 and "No family of blocks is like" in str(report)

    def test_for_a_forward_that_is_replaced_already(self) -> None:
        model = model_of()
        with fused(model), fused(model) as report:
            assert report.fused == 0 and "replaced already" in str(report)
        assert not runs(model)

    def test_on_a_device_that_has_its_own_kernels(self) -> None:
        with fused(model_of().to("meta")) as report:
            assert report.fused == 0 and "On 'meta'" in str(report)

    def test_when_the_numbers_differ(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []

        def differs(block: nn.Module, _: Any) -> str:
            asked.append(block)
            return "It gives another output."

        monkeypatch.setattr(check, "differs", differs)
        model = model_of()
        with fused(model) as report:
            assert str(report) == "0 of 2 blocks run as one function (2 not: It gives another output.)"
            assert not runs(model) and len(asked) == 1  # both are of one kind


class TestUndone:
    def test_names_and_files_are_the_same_inside_and_all_is_as_before_outside(self, tmp_path: Path) -> None:
        model = model_of()
        names = list(model.state_dict())
        model.save_pretrained(tmp_path / "before")
        with fused(model):
            assert list(model.state_dict()) == names and len(runs(model)) == 2
            model.save_pretrained(tmp_path / "inside")
        before, inside = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("before", "inside"))
        assert before == inside and not runs(model)

    def test_also_after_an_error(self) -> None:
        model = model_of()
        with pytest.raises(ValueError, match="stop"), fused(model):
            raise ValueError("stop")
        assert not runs(model)

    def test_a_copy_made_inside_computes_with_its_own_weights(self, counted: list[bool]) -> None:
        model = model_of()
        with unpadded(model), fused(model):
            trained(model)
            other = copy.deepcopy(model)
            assert all(one.block is not two.block for one, two in zip(runs(model), runs(other), strict=True))
            expected = trained(model)
            assert same(trained(other), expected)
            with torch.no_grad():
                for parameter in model.bert.encoder.parameters():
                    parameter.add_(0.1)
            assert same(trained(other), expected) and not same(trained(model), expected)
