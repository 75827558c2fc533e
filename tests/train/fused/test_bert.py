"""BERT's block as one function, against transformers' own on the padded batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, RobertaConfig
from transformers.models.bert.modeling_bert import BertLayer
from transformers.models.roberta.modeling_roberta import RobertaLayer

from tunesmith.core import surgery
from tunesmith.core.dropout import scale_of
from tunesmith.core.layout import Layout
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.train.fused.bert import LINEARS, Bert
from tunesmith.train.fused.matrix import Plain
from tunesmith.train.fused.tape import run

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48, "num_hidden_layers": 1}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LENGTHS = {"one": [5], "equal": [4, 4, 4], "mixed": [3, 7, 1, 6], "one very long": [2, 61, 3]}


def block_of(family: str = "bert", **settings: object) -> nn.Module:
    torch.manual_seed(0)
    kinds = {"bert": (BertConfig, BertLayer), "roberta": (RobertaConfig, RobertaLayer)}
    config, layer = kinds[family]
    given = config(**{**SIZES, **settings})
    given._attn_implementation = "sdpa"
    block: nn.Module = layer(given)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return block


def layout_of(lengths: list[int]) -> tuple[Layout, Tensor]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return Layout.of(mask, causal=False), mask


def fused(block: nn.Module, padded: Tensor, layout: Layout) -> Tensor:
    """The block as one function, on the padded batch's tokens: padded again, or the tokens that are read."""
    family = Bert.of(block)
    assert isinstance(family, Bert)
    row = padded.flatten(0, 1).index_select(0, layout.taken)[None]
    work = family.work(row, layout, layout.read is not None)
    assert not isinstance(work, str)
    out = run(work, row)[0]
    if layout.read is not None:
        return out
    flat = out.new_zeros(padded.shape[0] * padded.shape[1], out.shape[1])
    return flat.index_copy(0, layout.places, out[: layout.tokens]).view(padded.shape)


def own(block: nn.Module, padded: Tensor, mask: Tensor) -> Tensor:
    closed = torch.zeros(mask.shape[0], 1, *mask.shape[1:]).masked_fill(~mask[:, None], -torch.inf)[:, :, None]
    out: Tensor = block(padded, closed.expand(-1, -1, mask.shape[1], -1))
    return out * mask[..., None]


def gradients(block: nn.Module, out: Tensor, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    wanted = {"x": x, **{name: p for name, p in block.named_parameters() if p.requires_grad}}
    wanted = {name: tensor for name, tensor in wanted.items() if tensor.requires_grad}
    return dict(zip(wanted, torch.autograd.grad(out, list(wanted.values()), grad), strict=True))


def compare(block: nn.Module, lengths: list[int], atol: float = 1e-5) -> None:
    """Output and all gradients agree, for all tokens and for the first of each sequence."""
    layout, mask = layout_of(lengths)
    first = replace(layout, read=layout.starts[torch.argsort(layout.order)])
    torch.manual_seed(1)
    x = torch.randn(*mask.shape, 32, requires_grad=True)
    grad = torch.randn(*mask.shape, 32) * mask[..., None]
    expected = own(block, x, mask)
    for given, seen, weight in ((layout, expected, grad), (first, expected[:, 0], grad[:, 0])):
        out = fused(block, x, given)
        assert torch.allclose(out, seen, atol=atol)
        theirs = gradients(block, own(block, x, mask) if given is layout else own(block, x, mask)[:, 0], x, weight)
        for name, mine in gradients(block, out, x, weight).items():
            assert torch.allclose(mine, theirs[name], atol=atol, rtol=1e-4), name


def wrap(block: nn.Module, name: str, dropout: float = 0.0) -> LoraLinear:
    """Put a low-rank product beside one of the block's linears."""
    path = LINEARS[name]
    wrapper = LoraLinear(block.get_submodule(path), 2, 1.5, dropout, torch.Generator().manual_seed(0))
    nn.init.normal_(wrapper.lora_B, std=0.2)
    block.get_submodule(path.rpartition(".")[0])._modules[path.rpartition(".")[2]] = wrapper
    return wrapper


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_values_and_gradients_are_those_of_transformers(family: str, lengths: list[int]) -> None:
    compare(block_of(family, **NO_DROPOUT), lengths)


def test_evaluation_drops_nothing() -> None:
    compare(block_of().eval(), [3, 7, 1, 6])


@pytest.mark.parametrize("places", [["query", "value"], ["key"], ["back"], list(LINEARS)], ids=str)
def test_low_rank_products_beside_frozen_linears(places: list[str]) -> None:
    block = block_of(**NO_DROPOUT)
    surgery.freeze(block)
    for name in places:
        wrap(block, name)
    compare(block, [3, 7, 1, 6])


FROZEN: dict[str, Callable[[str], bool]] = {
    "all but biases": lambda name: not name.endswith("bias"),
    "all but norms": lambda name: "LayerNorm" not in name,
    "attention": lambda name: name.startswith("attention"),
    "all but queries": lambda name: "query" not in name,
    "everything": lambda name: True,
}


@pytest.mark.parametrize("which", FROZEN)
def test_frozen_parameters(which: str) -> None:
    block = block_of(**NO_DROPOUT)
    for name, parameter in block.named_parameters():
        parameter.requires_grad_(not FROZEN[which](name))
    compare(block, [3, 7, 1, 6])


@pytest.mark.parametrize("which", ["attention", "all but queries", "all but norms"])
def test_an_input_that_wants_no_gradient(which: str) -> None:
    block = block_of(**NO_DROPOUT)
    for name, parameter in block.named_parameters():
        parameter.requires_grad_(not FROZEN[which](name))
    layout, mask = layout_of([3, 7, 1, 6])
    x, grad = torch.randn(*mask.shape, 32), torch.randn(*mask.shape, 32) * mask[..., None]
    theirs = gradients(block, own(block, x, mask), x, grad)
    for name, mine in gradients(block, fused(block, x, layout), x, grad).items():
        assert torch.allclose(mine, theirs[name], atol=1e-5), name


class TestDropout:
    """No reference draws our masks, so that the mean over draws, and small changes with one draw, are the measure."""

    @pytest.mark.parametrize("read", [False, True])
    def test_mean_and_spread_over_many_draws_are_those_of_transformers_own_dropout(self, read: bool) -> None:
        block = block_of(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
        x = torch.randn(1, 6, 32).expand(4000, -1, -1)  # every sequence draws by itself
        layout, mask = layout_of([6] * len(x))
        with torch.no_grad():
            theirs = own(block, x, mask)[:, 0] if read else own(block, x, mask)
            mine = fused(block, x, replace(layout, read=layout.starts) if read else layout)
        # Four standard errors of each difference.
        assert torch.allclose(mine.mean(0), theirs.mean(0), atol=float(4 * theirs.std(0).max() * (2 / 4000) ** 0.5))
        assert torch.allclose(mine.std(0), theirs.std(0), rtol=4 * 4000**-0.5)

    def test_something_is_dropped_at_each_of_the_three_places(self) -> None:
        layout, _ = layout_of([4, 6])
        x = torch.randn(2, 6, 32)
        for path in ("attention.self.dropout", "attention.output.dropout", "output.dropout"):
            block = block_of(**NO_DROPOUT)
            with torch.no_grad():
                before = fused(block, x, layout)
                block.get_submodule(path).p = 0.5
                assert not torch.allclose(fused(block, x, layout), before, atol=1e-3)

    @pytest.mark.parametrize("low", [False, True])
    @pytest.mark.parametrize("read", [False, True])
    def test_gradients_are_those_of_small_changes(self, read: bool, low: bool) -> None:
        block = block_of(hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.2)
        if low:
            wrap(block, "query", dropout=0.25)
            wrap(block, "narrow", dropout=0.4)
        layout, _ = layout_of([3, 6])
        if read:
            layout = replace(layout, read=layout.starts[torch.argsort(layout.order)])
        x = torch.randn(2, 6, 32)
        weights = torch.randn(2, 32) if read else torch.randn(2, 6, 32)

        def value() -> Tensor:
            torch.manual_seed(4)  # the same masks every time
            return (fused(block, x, layout) * weights).double().sum()

        value().backward()
        for name, parameter in block.named_parameters():
            assert parameter.grad is not None
            step = torch.randn_like(parameter) * 1e-3
            found = []
            with torch.no_grad():
                for sign in (1, -2, 1):
                    parameter.add_(step, alpha=sign)
                    found.append(value().item())
            change = (parameter.grad * step).sum().item()
            assert change == pytest.approx((found[0] - found[1]) / 2, rel=0.05, abs=1e-3), name


class TestBfloat16:
    @contextmanager
    def mixed(self) -> Iterator[None]:
        with torch.autocast("cpu", torch.bfloat16):
            yield

    @pytest.mark.parametrize("low", [False, True])
    def test_it_is_as_near_to_float32_as_transformers_is(self, low: bool) -> None:
        block = block_of(**NO_DROPOUT)
        if low:
            wrap(block, "query")
        layout, mask = layout_of([3, 17, 1, 16])
        x = torch.randn(*mask.shape, 32, requires_grad=True)
        grad = torch.randn(*mask.shape, 32) * mask[..., None]
        exact = gradients(block, own(block, x, mask), x, grad)
        with self.mixed():
            ours, theirs = fused(block, x, layout), own(block, x, mask)
        assert ours.dtype == theirs.dtype == torch.float32
        mine, other = gradients(block, ours, x, grad), gradients(block, theirs, x, grad)

        def error(found: dict[str, Tensor]) -> float:
            return sum(float((found[name] - exact[name]).square().sum()) for name in exact)

        assert 0 < error(mine) < 1.5 * error(other)

    def test_a_model_in_bfloat16_stays_in_it(self) -> None:
        block = block_of(**NO_DROPOUT).bfloat16()
        layout, mask = layout_of([3, 17, 1, 16])
        x = torch.randn(*mask.shape, 32).bfloat16()
        out = fused(block, x, layout)
        assert out.dtype == torch.bfloat16
        out.sum().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in block.parameters())
        closed = torch.zeros(4, 1, 17, 17).masked_fill(~mask[:, None, None], -torch.inf).bfloat16()
        assert torch.allclose(out, block(x, closed) * mask[..., None], atol=0.1)


class TestRecognising:
    def test_something_else_is_none_of_the_family(self) -> None:
        assert Bert.of(nn.Linear(2, 2)) is None
        assert Bert.of(nn.TransformerEncoderLayer(8, 2)) is None

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda b: setattr(b, "more", nn.Linear(2, 2)), "weights beside"),
            (lambda b: setattr(b.output, "LayerNorm", nn.RMSNorm(32)), "no plain layer norms"),
            (lambda b: setattr(b.output, "dropout", nn.AlphaDropout(0.1)), "no plain ones"),
            (lambda b: setattr(b.intermediate, "intermediate_act_fn", nn.ReLU()), "ReLU is not the exact GELU"),
        ],
    )
    def test_what_differs_is_said(self, change: Callable[[nn.Module], None], why: str) -> None:
        block = block_of()
        change(block)
        found = Bert.of(block)
        assert isinstance(found, str) and why in found

    def work(self, block: nn.Module, kind: torch.dtype = torch.float32) -> object:
        layout, _ = layout_of([3, 5])
        family = Bert.of(block)
        assert isinstance(family, Bert)
        return family.work(torch.zeros(1, layout.total, 32, dtype=kind), layout, False)

    def test_a_call_that_can_not_be_served_says_why(self) -> None:
        block = block_of()
        assert "another type" in str(self.work(block, torch.bfloat16))
        block.output.dropout.p = 1.0
        assert "drops everything" in str(self.work(block.train()))
        wrapper = wrap(block, "query")
        wrapper.start_from(torch.ones(2, 32), torch.ones(32, 2))
        assert "more than a low-rank product" in str(self.work(block))


def test_a_deep_copy_is_independent() -> None:
    block, (layout, _) = block_of(**NO_DROPOUT), layout_of([3, 7])
    family = Bert.of(block)
    assert isinstance(family, Bert)
    other = copy.deepcopy(family)
    with torch.no_grad():
        for parameter in other.block.parameters():
            parameter.zero_()
    row = torch.randn(1, layout.total, 32)
    outs = [run(work, row) for f in (family, other) if not isinstance(work := f.work(row, layout, False), str)]
    assert outs[0].abs().sum() > 0 and outs[1].abs().sum() == 0


def test_the_scale_of_dropout_is_that_of_its_rate() -> None:
    block = block_of(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.0)
    layout, _ = layout_of([3, 5])
    family = Bert.of(block)
    assert isinstance(family, Bert)
    work = family.work(torch.zeros(1, layout.total, 32), layout, False)
    assert not isinstance(work, str)
    matrix = work.products["narrow"].matrix
    assert isinstance(matrix, Plain)
    dense = block.output.dense.weight
    assert torch.allclose(matrix.weight, dense * scale_of(0.5))
