"""Llama's block as one function, against transformers' own on the padded batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer
from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

from tunesmith.core import attention, registry, surgery
from tunesmith.core.dropout import fast_dropout, scale_of
from tunesmith.core.layout import Layout
from tunesmith.core.notes import listening
from tunesmith.core.unpadded import unpadded
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.models.builtin import tiny_configs
from tunesmith.train.fused import llama
from tunesmith.train.fused.blocks import fused
from tunesmith.train.fused.llama import LINEARS, Llama
from tunesmith.train.fused.matrix import Plain
from tunesmith.train.fused.tape import Tape, run

WIDTH = 32
SIZES: dict[str, Any] = {
    "hidden_size": WIDTH, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 48,
    "num_hidden_layers": 2, "vocab_size": 200, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
FAMILIES: dict[str, Any] = {
    "llama": (LlamaConfig, LlamaDecoderLayer, {}),
    "every head its own keys": (LlamaConfig, LlamaDecoderLayer, {"num_key_value_heads": 4}),
    "biases everywhere": (LlamaConfig, LlamaDecoderLayer, {"attention_bias": True, "mlp_bias": True}),
    "qwen2": (Qwen2Config, Qwen2DecoderLayer, {}),  # biases of queries, keys and values
    "qwen3": (Qwen3Config, Qwen3DecoderLayer, {"head_dim": 16}),  # norms of queries and keys, wider heads
}
LENGTHS = {"one": [5], "equal": [4, 4, 4], "mixed": [3, 7, 1, 6], "one very long": [2, 61, 3]}


def block_of(family: str = "llama", **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    kind, layer, own = FAMILIES[family]
    config = kind(**{**SIZES, **own, **settings})
    config._attn_implementation = "sdpa"
    block: nn.Module = layer(config, 0)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return block


def layout_of(lengths: list[int]) -> tuple[Layout, Tensor]:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return Layout.of(mask, causal=True), mask


def last_of(layout: Layout) -> Layout:
    """The layout where the last token of each sequence is read."""
    last = layout.starts + torch.tensor(layout.lengths) - 1
    return replace(layout, read=last[torch.argsort(layout.order)])


def positions_of(block: nn.Module, padded: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines, [sequences, time, size] each."""
    config = block.self_attn.config
    places = torch.arange(padded.shape[1]).expand(padded.shape[:2])
    cos, sin = LlamaRotaryEmbedding(config)(padded, places)
    return cos, sin


def fused_block(block: nn.Module, padded: Tensor, layout: Layout) -> Tensor:
    """The block as one function, on the padded batch's tokens: padded again, or the tokens that are read."""
    family = Llama.of(block)
    assert isinstance(family, Llama)
    given = (padded, *positions_of(block, padded))
    row, *positions = (x.flatten(0, 1).index_select(0, layout.taken)[None] for x in given)
    work = family.work(row, layout, layout.read is not None, positions)
    assert not isinstance(work, str)
    out = run(work, row)[0]
    if layout.read is not None:
        return out
    flat = out.new_zeros(padded.shape[0] * padded.shape[1], out.shape[1])
    return flat.index_copy(0, layout.places, out[: layout.tokens]).view(padded.shape)


def own(block: nn.Module, padded: Tensor, mask: Tensor) -> Tensor:
    time = mask.shape[1]
    closed = torch.full((time, time), -torch.inf).triu(1).to(padded.dtype)[None, None]  # padding stands on the right
    closed = closed.expand(len(mask), -1, -1, -1)
    out: Tensor = block(padded, attention_mask=closed, position_embeddings=positions_of(block, padded))
    return out * mask[..., None]


def gradients(block: nn.Module, out: Tensor, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    wanted = {"x": x, **dict(block.named_parameters())}
    wanted = {name: tensor for name, tensor in wanted.items() if tensor.requires_grad}
    return dict(zip(wanted, torch.autograd.grad(out, list(wanted.values()), grad), strict=True))


def compare(block: nn.Module, lengths: list[int], wanted: bool = True) -> None:
    """Output and all gradients agree, for all tokens and for the last of each sequence."""
    layout, mask = layout_of(lengths)
    torch.manual_seed(1)
    x = torch.randn(*mask.shape, WIDTH, requires_grad=wanted)
    grad = torch.randn(*mask.shape, WIDTH) * mask[..., None]
    last = (torch.arange(len(lengths)), torch.tensor(lengths) - 1)
    for read in (False, True):
        seen, weight = own(block, x, mask), grad
        if read:
            seen, weight = seen[last], grad[last]
        out = fused_block(block, x, last_of(layout) if read else layout)
        assert torch.allclose(out, seen, atol=1e-5)
        theirs = gradients(block, seen, x, weight)
        for name, mine in gradients(block, out, x, weight).items():
            assert torch.allclose(mine, theirs[name], atol=1e-5, rtol=1e-4), name


def wrap(block: nn.Module, name: str, dropout: float = 0.0) -> LoraLinear:
    """Put a low-rank product beside one of the block's linears."""
    home, _, last = LINEARS[name].rpartition(".")
    wrapper = LoraLinear(block.get_submodule(LINEARS[name]), 2, 1.5, dropout, torch.Generator().manual_seed(0))
    nn.init.normal_(wrapper.lora_B, std=0.2)
    block.get_submodule(home)._modules[last] = wrapper
    return wrapper


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
def test_values_and_gradients_are_those_of_transformers(family: str, lengths: list[int]) -> None:
    compare(block_of(family), lengths)


@pytest.mark.parametrize("places", [["query", "value"], ["key"], ["back"], ["gate"], list(LINEARS)], ids=str)
@pytest.mark.parametrize("wanted", [True, False])
def test_low_rank_products_beside_frozen_linears(places: list[str], wanted: bool) -> None:
    block = block_of("qwen2")
    surgery.freeze(block)
    for name in places:
        surgery.thaw(wrap(block, name))
        for tensor in (block.get_submodule(LINEARS[name]).weight, block.get_submodule(LINEARS[name]).bias):
            if tensor is not None:
                tensor.requires_grad_(False)
    compare(block, [3, 7, 1, 6], wanted)


FROZEN: dict[str, Callable[[str], bool]] = {
    "attention": lambda name: "self_attn" in name or "input" in name,
    "all but queries": lambda name: "q_proj" not in name,
    "all but values": lambda name: "v_proj" not in name,
    "all but the first norm": lambda name: "input_layernorm" not in name,
    "all but norms": lambda name: "norm" not in name,
    "norms": lambda name: "norm" in name,
    "all but the end": lambda name: "down_proj" not in name,
    "biases": lambda name: "bias" in name,
}


@pytest.mark.parametrize("which", FROZEN)
@pytest.mark.parametrize("wanted", [True, False])
def test_frozen_parameters_and_an_input_that_wants_no_gradient(which: str, wanted: bool) -> None:
    for family in ("qwen2", "qwen3"):
        block = block_of(family)
        for name, parameter in block.named_parameters():
            parameter.requires_grad_(not FROZEN[which](name))
        compare(block, [3, 7, 1, 6], wanted)


@pytest.mark.parametrize("trains", [True, False])
def test_what_is_frozen_keeps_nothing(trains: bool) -> None:
    block, (layout, _) = block_of(), layout_of([3, 7])
    block.requires_grad_(trains)
    family = Llama.of(block)
    assert isinstance(family, Llama)
    row, cos, sin = torch.randn(1, layout.total, WIDTH), *torch.randn(2, 1, layout.total, 8)
    work, tape = family.work(row, layout, False, (cos, sin)), Tape()
    assert not isinstance(work, str)
    work.forward(row, tape)
    # Of the products' inputs (attention's, its result, twice the second half's) none is kept if frozen. What is gated
    # never is, and 1 for what is dropped: nothing.
    assert sum(tensor is None for tensor in tape.tensors) == (2 if trains else 6)
    inner = SIZES["intermediate_size"]
    assert sum(tensor is not None and tensor.shape[-1] == inner for tensor in tape.tensors) == 2  # gate and up


class TestDropout:
    """No reference draws our masks, so that the mean over draws, and small changes with one draw, are the measure."""

    def test_the_mean_over_many_draws_is_near_what_nothing_dropped_gives(self) -> None:
        block, (layout, _) = block_of(attention_dropout=0.05), layout_of([4, 6])
        x = torch.randn(2, 6, WIDTH)
        with torch.no_grad():
            draws = torch.stack([fused_block(block, x, layout) for _ in range(100)])
            exact = fused_block(block.eval(), x, layout)
        assert torch.allclose(draws.mean(0), exact, atol=0.1) and not torch.allclose(draws[0], exact, atol=0.02)

    @pytest.mark.parametrize("read", [False, True])
    def test_gradients_are_those_of_small_changes(self, read: bool) -> None:
        block, (layout, _) = block_of("qwen3", attention_dropout=0.3), layout_of([3, 6])
        wrap(block, "query", dropout=0.25)
        wrap(block, "down", dropout=0.4)
        layout = last_of(layout) if read else layout
        x = torch.randn(2, 6, WIDTH)
        weights = torch.randn(2, WIDTH) if read else torch.randn(2, 6, WIDTH)

        def value() -> Tensor:
            torch.manual_seed(4)  # the same masks every time
            return (fused_block(block, x, layout) * weights).double().sum()

        value().backward()
        for name, parameter in block.named_parameters():
            assert parameter.grad is not None
            step, found = torch.randn_like(parameter) * 1e-3, []
            with torch.no_grad():
                for sign in (1, -2, 1):
                    parameter.add_(step, alpha=sign)
                    found.append(value().item())
            change = (parameter.grad * step).sum().item()
            assert change == pytest.approx((found[0] - found[1]) / 2, rel=0.05, abs=1e-3), name


class TestBfloat16:
    @pytest.mark.parametrize("family", ["llama", "qwen3"])
    def test_it_is_as_near_to_float32_as_transformers_is(self, family: str) -> None:
        block, (layout, mask) = block_of(family), layout_of([3, 17, 1, 16])
        wrap(block, "query")
        x = torch.randn(*mask.shape, WIDTH, requires_grad=True)
        grad = torch.randn(*mask.shape, WIDTH) * mask[..., None]
        exact = gradients(block, own(block, x, mask), x, grad)
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = fused_block(block, x, layout), own(block, x, mask)
        assert ours.dtype == theirs.dtype == torch.float32
        mine, other = gradients(block, ours, x, grad), gradients(block, theirs, x, grad)

        def error(found: dict[str, Tensor]) -> float:
            return sum(float((found[name] - exact[name]).square().sum()) for name in exact)

        assert 0 < error(mine) < 1.5 * error(other)

    def test_a_model_in_bfloat16_stays_in_it(self) -> None:
        block, (layout, mask) = block_of("qwen3").bfloat16(), layout_of([3, 17, 1, 16])
        x = torch.randn(*mask.shape, WIDTH).bfloat16().requires_grad_()
        out = fused_block(block, x, layout)
        assert out.dtype == torch.bfloat16 and torch.allclose(out, own(block, x, mask), atol=0.1)
        out.sum().backward()
        assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in (x, *block.parameters()))


class TestRecognising:
    def test_something_else_is_none_of_the_family(self) -> None:
        assert Llama.of(nn.Linear(2, 2)) is None
        assert Llama.of(nn.TransformerEncoderLayer(8, 2)) is None

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            (lambda b: setattr(b, "more", nn.Linear(2, 2)), "weights beside"),
            (lambda b: setattr(b.mlp, "dropout", nn.Dropout(0.1)), "modules beside"),
            (lambda b: setattr(b, "input_layernorm", nn.LayerNorm(WIDTH)), "no plain norms"),
            (lambda b: setattr(b.self_attn, "q_norm", nn.RMSNorm(WIDTH, eps=1e-6)), "no plain norms"),
            (lambda b: setattr(b.mlp, "act_fn", nn.GELU()), "GELU is not SiLU"),
        ],
    )
    def test_what_differs_is_said(self, change: Callable[[nn.Module], None], why: str) -> None:
        block = block_of()
        change(block)
        found = Llama.of(block)
        assert isinstance(found, str) and why in found

    def work(self, block: nn.Module, kind: torch.dtype = torch.float32, turned: int = 8, length: int = 5) -> object:
        layout, _ = layout_of([3, length])
        family = Llama.of(block)
        assert isinstance(family, Llama)
        positions = torch.zeros(2, 1, layout.total, turned)
        return family.work(torch.zeros(1, layout.total, WIDTH, dtype=kind), layout, False, tuple(positions))

    def test_a_call_that_can_not_be_served_says_why(self) -> None:
        block = block_of(attention_dropout=1.0)
        assert "another type" in str(self.work(block, torch.bfloat16))
        assert "a cosine and a sine for each number" in str(self.work(block, turned=4))
        assert "drops everything" in str(self.work(block.train()))
        assert "more than 512 tokens" in str(self.work(block.eval(), length=attention.LONG + 1))
        wrap(block, "query").start_from(torch.ones(2, WIDTH), torch.ones(WIDTH, 2))
        assert "more than a low-rank product" in str(self.work(block))


def model_of(config: PreTrainedConfig, kind: type = AutoModelForCausalLM, **settings: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    config = copy.deepcopy(config)
    for key, value in settings.items():
        setattr(config, key, value)
    made: PreTrainedModel = kind.from_config(config)  # type: ignore[attr-defined]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.train()


def batch(model: nn.Module, lengths: tuple[int, ...] = (5, 9, 2, 9)) -> dict[str, Tensor]:
    torch.manual_seed(1)
    mask = (torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(3, 200, mask.shape) * mask
    words = hasattr(model, "lm_head")
    labels = ids.masked_fill(mask == 0, -100) if words else torch.arange(len(lengths)) % 2
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def trained(model: nn.Module, *batches: dict[str, Tensor]) -> list[Tensor]:
    """The loss, and the gradient of everything that trains."""
    model.zero_grad()
    losses = [model(**given).loss for given in batches or (batch(model),)]
    for loss in losses:
        loss.backward()
    return [sum(losses).detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def same(one: list[Tensor], other: list[Tensor], atol: float = 1e-5) -> bool:
    return len(one) == len(other) and all(torch.allclose(a, b, atol=atol) for a, b in zip(one, other, strict=True))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Every forward pass as one function, and whether it gave the tokens that are read alone."""
    calls: list[bool] = []
    original = llama._Work.forward

    def forward(self: llama._Work, x: Tensor, tape: Tape) -> Tensor:
        calls.append(self.one)
        return original(self, x, tape)

    monkeypatch.setattr(llama._Work, "forward", forward)
    yield calls


CONFIGS: dict[str, PreTrainedConfig] = {
    "tiny-llama": tiny_configs()["tiny-llama"],
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=16),
    "mistral": MistralConfig(**SIZES, sliding_window=None),
}
KINDS = {"words": AutoModelForCausalLM, "classes": AutoModelForSequenceClassification}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CONFIGS)
def test_losses_and_gradients_are_those_of_padded_batches(name: str, kind: str, counted: list[bool]) -> None:
    model = model_of(CONFIGS[name], KINDS[kind])
    parts = (batch(model), batch(model, (2, 61, 3)))
    expected = trained(model, *parts)
    with unpadded(model) as why, fused(model) as report:
        assert why == "" and str(report) == "2 of 2 blocks run as one function"
        counted.clear()
        found = trained(model, *parts)  # two micro-batches add up
    # For classes the last block gives the last token of each sequence alone.
    assert counted == [False, kind == "classes"] * 2
    assert same(found, expected)


def test_checkpointed_blocks_are_computed_again(counted: list[bool]) -> None:
    model = model_of(CONFIGS["tiny-llama"], attention_dropout=0.2)
    with unpadded(model), fast_dropout(model), fused(model):
        torch.manual_seed(5)
        plain = trained(model)
        enable: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
        counted.clear()
        torch.manual_seed(5)
        again = trained(model)
    assert len(counted) == 4  # each of two blocks twice
    assert same(again, plain, atol=1e-7)  # the same numbers are dropped


@pytest.mark.parametrize("targets", ["attention", "all-linear"])
def test_low_rank_products_of_a_whole_model(targets: str, counted: list[bool]) -> None:
    model = model_of(CONFIGS["qwen2"])
    method: Any = registry.build("methods", {"name": "lora", "rank": 2, "targets": targets})
    method.modify(model, torch.Generator().manual_seed(0))
    for wrapper in surgery.wrappers(model).values():
        nn.init.normal_(wrapper.lora_B, std=0.1)
    expected = trained(model)
    with unpadded(model), fused(model) as report:
        counted.clear()
        assert report.fused == 2 and same(trained(model), expected) and len(counted) == 2


def test_predictions_and_then_training(counted: list[bool]) -> None:
    model = model_of(CONFIGS["tiny-llama"], attention_dropout=0.3).eval()
    expected = model(**batch(model)).logits.detach()
    there = batch(model)["attention_mask"].bool()
    model.train().config.attention_dropout = 0.0
    for block in model.model.layers:
        block.self_attn.attention_dropout = 0.0
    losses = trained(model)
    with unpadded(model), fused(model):
        with torch.inference_mode():
            found = model.eval()(**batch(model)).logits
        assert torch.allclose(found[there], expected[there], atol=1e-5)
        assert same(trained(model.train()), losses)


def test_generation_is_that_of_the_model(counted: list[bool]) -> None:
    model, given = model_of(CONFIGS["tiny-llama"]).eval(), {"max_new_tokens": 4, "do_sample": False}
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]])
    expected = model.generate(ids, attention_mask=torch.ones_like(ids), **given)
    with unpadded(model), fused(model):
        assert torch.equal(model.generate(ids, attention_mask=torch.ones_like(ids), **given), expected)


class TestStepsAside:
    def test_for_a_window_and_says_so(self, counted: list[bool]) -> None:
        model = model_of(MistralConfig(**SIZES, sliding_window=4))
        short = batch(model, (2, 4, 3))
        for given, calls in ((batch(model), 0), (short, 2)):
            expected = trained(model, given)
            with listening() as notes, unpadded(model), fused(model):
                counted.clear()
                assert same(trained(model, given), expected) and len(counted) == calls
            assert any("a window of those before them" in text for text in notes) == (calls == 0)

    def test_for_blocks_that_turn_nothing(self, counted: list[bool]) -> None:
        # Every fourth block of SmolLM3 leaves positions out; its modules are those of the others.
        model = model_of(SmolLM3Config(**{**SIZES, "num_hidden_layers": 4}, bos_token_id=1, eos_token_id=2))
        expected = trained(model)
        with unpadded(model), fused(model) as report:
            assert report.fused == 3 and "gives another output" in str(report)
            counted.clear()
            assert same(trained(model), expected) and len(counted) == 3


def test_a_deep_copy_is_independent() -> None:
    block, (layout, _) = block_of(), layout_of([3, 7])
    family = Llama.of(block)
    assert isinstance(family, Llama)
    other = copy.deepcopy(family)
    with torch.no_grad():
        for parameter in other.block.parameters():
            parameter.zero_()
    row, positions = torch.randn(1, layout.total, WIDTH), torch.randn(2, 1, layout.total, 8)
    works = [one.work(row, layout, False, tuple(positions)) for one in (family, other)]
    outs = [run(work, row) for work in works if not isinstance(work, str)]
    assert not torch.equal(outs[0], row) and torch.equal(outs[1], row)  # without weights nothing is added


def test_scales_are_in_the_copies_of_weights() -> None:
    block, (layout, _) = block_of(attention_dropout=0.5), layout_of([3, 5])
    family = Llama.of(block)
    assert isinstance(family, Llama)
    work = family.work(torch.zeros(1, layout.total, WIDTH), layout, False, tuple(torch.zeros(2, 1, layout.total, 8)))
    assert not isinstance(work, str)
    matrix = work.products["query key value"].matrix
    assert isinstance(matrix, Plain)
    query, key, value = matrix.weight.split([32, 16, 16])
    assert torch.allclose(query, block.self_attn.q_proj.weight * 8**-0.5)  # heads of 8 numbers
    assert torch.equal(key, block.self_attn.k_proj.weight)
    assert torch.allclose(value, block.self_attn.v_proj.weight * scale_of(0.5))
