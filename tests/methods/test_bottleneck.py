"""Bottleneck adapters: each form by hand, where its networks stand, and that the backbone is left as it was."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from tests import toy
from tunesmith.core import anatomy, surgery
from tunesmith.core.errors import ModelError
from tunesmith.methods.bottleneck import PHI, Adapter, After, AroundNorm, Beside, Bottleneck, Tap, TrainedNorm
from tunesmith.models import artifact
from tunesmith.prepare import Prepared, load_backbone

FORMS = ["houlsby", "pfeiffer", "parallel"]
SIZES: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
IDS = torch.tensor([[3, 1, 4, 1, 5]])


def built(backbone: str = "tiny-bert", **method: Any) -> Prepared:
    return toy.prepared({"model": f"builtin:{backbone}", "method": {"name": "bottleneck", **method}})


def changed(model: nn.Module, **method: Any) -> nn.Module:
    Bottleneck(size=3, **method).modify(model, torch.Generator().manual_seed(0))
    return shaken(model)


def shaken(model: nn.Module) -> nn.Module:
    """Move everything that trains, as if it were trained."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in surgery.trained(model).values():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model.eval()


def adapter(down: list[float], up: list[float], bias: list[float]) -> Adapter:
    """relu of one inner number: f(y) = up * relu(down . y + 1) + bias."""
    made = Adapter(2, 1, PHI["relu"], torch.Generator())
    made.down_weight.data[:] = torch.tensor([down])
    made.down_bias.data.fill_(1.0)
    made.up_weight.data[:] = torch.tensor(up)[:, None]
    made.up_bias.data[:] = torch.tensor(bias)
    return made


def linear(rows: list[list[float]]) -> nn.Linear:
    made = nn.Linear(len(rows[0]), len(rows), bias=False)
    made.weight.data[:] = torch.tensor(rows)
    return made


def test_the_forms_by_hand() -> None:
    f = adapter([1.0, -1.0], [2.0, 0.5], [0.0, 1.0])
    base = linear([[1.0, 1.0], [0.0, 2.0]])
    # y = (3 + 1, 2) = (4, 2); the inner number 4 - 2 + 1 = 3; f(y) = (6, 1.5 + 1).
    assert After(base, f)(torch.tensor([3.0, 1.0])).tolist() == [10.0, 4.5]
    # Below zero nothing passes but the last bias: y = (-3, 2), 1 - 5 < 0.
    assert After(base, f)(torch.tensor([-4.0, 1.0])).tolist() == [-3.0, 3.0]
    # Parallel: x = (3, 1) goes through the way in as (3, 4), and back: y = (7, 8). f(x) = (2 * 3, 1.5 + 1).
    tap = Tap(linear([[1.0, 0.0], [1.0, 1.0]]))
    beside = Beside(linear([[1.0, 1.0], [0.0, 2.0]]), f, 4.0, tap.seen)
    assert beside(tap(torch.tensor([3.0, 1.0]))).tolist() == [7.0 + 4 * 6.0, 8.0 + 4 * 2.5]
    assert tap.seen == []


def test_the_norm_around_by_hand() -> None:
    # A norm without its epsilon makes (a, b) with a > b to (1, -1): u = (1, -1), f(u) = (2 * 3, 1.5 + 1) = (6, 2.5).
    # s + f(u) = (5 + 6, 1 + 20) after the second bias is raised to 18.5: then b > a, and the norm gives (-1, 1).
    norm = nn.LayerNorm(2, eps=0.0)
    s = torch.tensor([5.0, 1.0])
    assert AroundNorm(norm, adapter([1.0, -1.0], [2.0, 0.5], [0.0, 1.0]))(s).tolist() == pytest.approx([1.0, -1.0])
    assert AroundNorm(norm, adapter([1.0, -1.0], [2.0, 0.5], [0.0, 18.5]))(s).tolist() == pytest.approx([-1.0, 1.0])


@pytest.mark.parametrize(
    ("backbone", "form", "endings", "count"),
    [
        ("tiny-bert", "houlsby", ("attention.output.dense", "output.dense"), 4),
        ("tiny-bert", "pfeiffer", ("0.output.LayerNorm", "1.output.LayerNorm"), 2),
        ("tiny-bert", "parallel", ("0.output.dense", "1.output.dense"), 2),
        ("tiny-gpt2", "houlsby", ("attn.c_proj", "mlp.c_proj"), 4),
        ("tiny-gpt2", "pfeiffer", ("mlp.c_proj",), 2),
        ("tiny-llama", "pfeiffer", ("mlp.down_proj",), 2),
        ("tiny-llama", "parallel", ("mlp.down_proj",), 2),
        ("tiny-t5", "houlsby", ("Attention.o", "DenseReluDense.wo"), 4 + 6),  # the decoder has two attentions a block
        ("tiny-t5", "parallel", ("DenseReluDense.wo",), 4),
    ],
)
def test_where_the_networks_stand(backbone: str, form: str, endings: tuple[str, ...], count: int) -> None:
    model = built(backbone, form=form).training.model
    places = [path for path, module in model.named_modules() if hasattr(module, "adapter")]
    assert len(places) == count and all(path.endswith(endings) for path in places)


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        # 2 L (2 h m + m + h), and with the norms 2 * 2 h L more; L (2 h m + m + h). h = 768, L = 12.
        ({"size": 64, "train_norms": False}, 2_379_264),
        ({"size": 64}, 2_379_264 + 36_864),
        ({"form": "pfeiffer", "size": 48}, 894_528),
        ({"form": "parallel", "size": 48}, 894_528),
    ],
)
def test_parameters_of_bert_base(settings: dict[str, Any], published: int) -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    method = Bottleneck(**settings)
    method.modify(model, torch.Generator())
    head = 768 * 2 + 2
    assert method.expected(model) == published + head
    assert surgery.count(model)[0] == published + head


def test_houlsby_in_berts_block() -> None:
    model = changed(BertForMaskedLM(BertConfig(vocab_size=9, **SIZES)))
    block = cast(Any, model).bert.encoder.layer[0]
    x = torch.randn(1, 5, 8)
    attention, feed_forward = block.attention.output, block.output
    z = attention.dense.base(block.attention.self(x)[0])
    middle = attention.LayerNorm.trained(z + attention.dense.adapter(z) + x)
    z = feed_forward.dense.base(block.intermediate(middle))
    expected = feed_forward.LayerNorm.trained(z + feed_forward.dense.adapter(z) + middle)
    assert torch.allclose(block(x), expected, atol=1e-6)


def test_pfeiffer_uses_berts_norm_twice() -> None:
    # The steps of the authors' library: residual = z; u = LN(z + input); a = f(u) + residual; out = LN(a + input).
    model = changed(BertForMaskedLM(BertConfig(vocab_size=9, **SIZES)), form="pfeiffer")
    block = cast(Any, model).bert.encoder.layer[0]
    x = torch.randn(1, 5, 8)
    middle = block.attention(x)[0]
    z = block.output.dense(block.intermediate(middle))
    norm, f = block.output.LayerNorm.base, block.output.LayerNorm.adapter
    u = norm(z + middle)
    a = f(u) + z
    assert torch.allclose(block(x), norm(a + middle), atol=1e-6)
    assert not torch.allclose(block(x), norm(f(z) + z + middle), atol=1e-3)


@pytest.mark.parametrize("form", ["pfeiffer", "parallel"])
def test_a_block_with_the_norm_before(form: str) -> None:
    model = changed(LlamaForCausalLM(LlamaConfig(vocab_size=9, **SIZES)), form=form)
    mlp = cast(Any, model).model.layers[0].mlp
    x = torch.randn(1, 5, 8)
    found, last = mlp(x), mlp.down_proj
    with surgery.switched_off(model):
        y = mlp(x)
    expected = y + last.adapter(y) if form == "pfeiffer" else y + 4.0 * last.adapter(x)
    assert torch.allclose(found, expected, atol=1e-6) and not torch.allclose(found, y, atol=1e-3)


MODELS = {
    "bert": lambda: BertForMaskedLM(BertConfig(vocab_size=9, **SIZES)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=9, n_embd=8, n_layer=2, n_head=2, n_positions=16)),
    "llama": lambda: LlamaForCausalLM(LlamaConfig(vocab_size=9, **SIZES)),
    "t5": lambda: T5ForConditionalGeneration(
        T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=12, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu")
    ),
}


def logits(model: nn.Module) -> Tensor:
    more = {"decoder_input_ids": IDS} if isinstance(model, T5ForConditionalGeneration) else {}
    return cast(Tensor, model(input_ids=IDS, **more).logits)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_language_models_start_as_they_were_and_can_be_switched_off_and_copied(name: str, form: str) -> None:
    model = cast(Any, MODELS[name])().eval()
    surgery.freeze(model)
    expected = logits(model)
    Bottleneck(form=cast(Any, form), size=3).modify(model, torch.Generator())
    assert torch.equal(logits(model), expected)
    other = shaken(copy.deepcopy(model))
    moved = logits(other)
    assert (moved - expected).abs().max() > 1e-3
    assert torch.equal(logits(model), expected)
    with surgery.switched_off(other):
        assert torch.equal(logits(other), expected)
    assert torch.equal(logits(other), moved)
    assert torch.allclose(logits(other.double()).float(), moved, atol=1e-4)
    assert not any(module.seen for module in [*other.modules(), *model.modules()] if isinstance(module, Tap))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", MODELS)
def test_activation_checkpointing_changes_no_gradient(name: str, form: str) -> None:
    model = cast(Any, changed(cast(Any, MODELS[name])(), form=form, train_norms=True).train())
    toy.quiet(model)
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            # Later versions of transformers call it by another name.
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)(
                {"use_reentrant": False}
            )
        model.zero_grad()
        logits(model).square().sum().backward()
        gradients.append([parameter.grad for parameter in surgery.trained(model).values()])
        assert not any(module.seen for module in model.modules() if isinstance(module, Tap))
    for first, second in zip(*gradients, strict=True):
        assert first is not None and first.abs().sum() > 0
        assert torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_backbone_in_bfloat16_gets_networks_in_float32(form: str) -> None:
    model = changed(cast(Any, MODELS["bert"])().to(torch.bfloat16), form=form, train_norms=True)
    assert {parameter.dtype for parameter in surgery.trained(model).values()} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert logits(model).isfinite().all()


@pytest.mark.parametrize("form", FORMS)
def test_copies_of_the_blocks_norms_train_and_the_backbone_keeps_its_own(form: str, tmp_path: Path) -> None:
    toyed = built(form=form, train_norms=True)
    model = toyed.training.model
    copies = [path for path, module in model.named_modules() if isinstance(module, TrainedNorm)]
    assert len(copies) == 4 and all(".layer." in path for path in copies)
    assert all(f"{path}.trained.weight" in anatomy.undecayed(model) for path in copies)
    shaken(model)
    plain = load_backbone(toyed.recipe).model
    own = {id(parameter) for parameter in surgery.trained(model).values()}
    kept = [p for p in model.parameters() if id(p) not in own]
    body = list(plain.base_model.parameters())
    assert len(kept) == len(body)
    assert all(any(p.shape == q.shape and torch.equal(p, q) for q in body) for p in kept)
    folder, recipe = toy.save(toyed, tmp_path / "delta"), toyed.recipe
    loaded = artifact.load(folder, recipe.model, recipe.task, recipe.method, recipe.train.seed)
    tokenizer = loaded.tokenizer
    assert torch.equal(toy.logits(loaded.model, tokenizer), toy.logits(model, tokenizer))


def test_what_the_authors_take_is_the_default() -> None:
    for form, activation, norms in (("houlsby", "gelu", 4), ("pfeiffer", "relu", 0), ("parallel", "relu", 0)):
        modules = list(built(form=form).training.model.modules())
        assert sum(isinstance(module, TrainedNorm) for module in modules) == norms
        assert all(module.phi is PHI[activation] for module in modules if isinstance(module, Adapter))
    (first, *_) = [m for m in built(form="parallel").training.model.modules() if isinstance(m, Beside)]
    assert first.scale == 4.0
    (first, *_) = [m for m in built(form="parallel", scale=0.5).training.model.modules() if isinstance(m, Beside)]
    assert first.scale == 0.5
    (tanh, *_) = [m for m in built(activation="tanh").training.model.modules() if isinstance(m, Adapter)]
    assert tanh.phi is torch.tanh


def test_the_start_follows_the_generator_alone() -> None:
    starts = []
    for seed in (0, 0, 1):
        model = cast(Any, MODELS["gpt2"])()
        before = torch.get_rng_state()
        Bottleneck(form="pfeiffer").modify(model, torch.Generator().manual_seed(seed))
        assert torch.equal(torch.get_rng_state(), before)
        starts.append(model.transformer.h[0].mlp.c_proj.adapter.down_weight)
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    assert cast(Tensor, starts[0]).abs().max() <= 1 / 8**0.5


def test_a_scale_belongs_to_the_parallel_form() -> None:
    with pytest.raises(ValueError, match="scale belongs to form 'parallel'; 'houlsby' has none"):
        Bottleneck(scale=2.0)


@pytest.mark.parametrize("form", FORMS)
def test_a_mixture_of_experts_is_refused(form: str) -> None:
    config = MixtralConfig(vocab_size=9, num_key_value_heads=1, num_local_experts=2, **SIZES)
    with pytest.raises(ModelError, match=r"MixtralForCausalLM has others: model\.layers\.0 has 0"):
        Bottleneck(form=cast(Any, form)).modify(MixtralForCausalLM(config), torch.Generator())
