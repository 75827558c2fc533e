"""Generation under every method: the cache, the padding and the company of other prompts change no word."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tunesmith.core import registry, surgery
from tunesmith.core.errors import UserError
from tunesmith.core.part import Method
from tunesmith.core.seeding import generator
from tunesmith.models import load as models
from tunesmith.models.settings import ModelSettings

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260k"
TINY = ["builtin:tiny-gpt2", "builtin:tiny-llama"]
REAL = pytest.param(str(STORIES), marks=pytest.mark.skipif(not STORIES.is_dir(), reason=f"no {STORIES}"))
METHODS = registry.names("methods")
TEXTS = ["Once upon a time there was", "Lily"]
NEW = 6
CLOSELY = ["lora", "prefix", "prompt"]

# Some methods of peft's look at a property that transformers has since renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def trained(backbone: str, name: str, kind: str = "AutoModelForCausalLM") -> tuple[Any, Any]:
    """A model that generates, its trained parameters moved as if it were trained, and its tokenizer."""
    loaded = models.load(ModelSettings(name=backbone), (kind,), {}, seed=0)
    model = loaded.model
    try:
        method = cast(Method, registry.build("methods", name))
        method.modify(model, generator(0, name))
    except UserError as refusal:
        pytest.skip(f"refused: {refusal.message}")
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in surgery.trained(model).values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
    # In double precision, so that no tie between two words is decided by rounding.
    return model.double().eval(), loaded.tokenizer


def generated(model: Any, encoded: Any, **settings: Any) -> Tensor:
    """The ids of the new tokens: [batch, NEW]."""
    fixed = {"do_sample": False, "min_new_tokens": NEW, "max_new_tokens": NEW}
    ids = model.generate(**encoded, **fixed, **settings)
    return cast(Tensor, ids[:, -NEW:])


@pytest.mark.parametrize("backbone", [*TINY, REAL])
@pytest.mark.parametrize("name", METHODS)
def test_the_words_do_not_depend_on_cache_padding_or_company(name: str, backbone: str) -> None:
    if name not in CLOSELY and backbone not in TINY:
        pytest.skip("the methods that put nothing before a text are tried on tiny backbones")
    model, tokenizer = trained(backbone, name)
    tokenizer.padding_side = "left"
    padded = tokenizer(TEXTS, padding=True, add_special_tokens=False, return_tensors="pt")
    padded.pop("token_type_ids", None)
    together = generated(model, padded, use_cache=True)
    assert torch.equal(together, generated(model, padded, use_cache=False))
    for text, expected in zip(TEXTS, together, strict=True):
        alone = tokenizer(text, add_special_tokens=False, return_tensors="pt")
        alone.pop("token_type_ids", None)
        for use_cache in (True, False) if name in CLOSELY else (True,):
            assert torch.equal(generated(model, alone, use_cache=use_cache)[0], expected)


@pytest.mark.parametrize("name", CLOSELY)
def test_beams_and_several_answers_agree_with_and_without_a_cache(name: str) -> None:
    model, tokenizer = trained("builtin:tiny-llama", name)
    encoded = tokenizer(TEXTS[0], add_special_tokens=False, return_tensors="pt")
    first, second = (
        generated(model, encoded, use_cache=on, num_beams=3, num_return_sequences=2) for on in (False, True)
    )
    assert first.shape == (2, NEW)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", CLOSELY)
def test_an_encoder_decoder_generates_the_same_with_and_without_a_cache(name: str) -> None:
    model, tokenizer = trained("builtin:tiny-t5", name, "AutoModelForSeq2SeqLM")
    padded = tokenizer(TEXTS, padding=True, return_tensors="pt")
    padded.pop("token_type_ids", None)
    together = generated(model, padded, use_cache=True)
    assert torch.equal(together, generated(model, padded, use_cache=False))
    for text, expected in zip(TEXTS, together, strict=True):
        alone = tokenizer(text, return_tensors="pt")
        alone.pop("token_type_ids", None)
        assert torch.equal(generated(model, alone)[0], expected)


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_virtual_tokens_change_the_words(name: str) -> None:
    model, tokenizer = trained("builtin:tiny-llama", name)
    encoded = tokenizer(TEXTS[0], add_special_tokens=False, return_tensors="pt")
    logits = model(**encoded).logits
    with surgery.switched_off(model):
        assert (model(**encoded).logits - logits).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["prefix", "prompt"])
def test_a_cache_of_fixed_size_is_refused(name: str) -> None:
    model, tokenizer = trained("builtin:tiny-llama", name)
    encoded = tokenizer(TEXTS[0], add_special_tokens=False, return_tensors="pt")
    with pytest.raises(UserError, match="one of fixed size"):
        generated(model, encoded, cache_implementation="static")
