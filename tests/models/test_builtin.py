"""Built-in backbones: the real one is what was published, the tiny ones are of each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from tunesmith.core.errors import MissingExtraError, ModelError
from tunesmith.models import builtin
from tunesmith.models.load import load_tokenizer


@pytest.fixture
def minilm() -> str:
    return str(builtin.find(builtin.MINILM))


def test_minilm_is_a_model_of_22_7_million_float32_weights(minilm: str) -> None:
    model = AutoModel.from_pretrained(minilm)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(22.7e6, rel=0.01)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (6, 384)


def test_minilm_knows_which_sentences_are_alike(minilm: str) -> None:
    # Mean pooling and cosines, as its model card has it (sentence-transformers/all-MiniLM-L6-v2).
    texts = [
        "Where is my parcel?", "My package has not arrived yet.",
        "How do I bake bread?", "What is a good recipe for a loaf?",
        "The cat sleeps on the sofa.", "A kitten naps on the couch.",
    ]  # fmt: skip
    inputs = load_tokenizer(minilm)(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(minilm).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None]
    pooled = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)
    cosines = pooled @ pooled.T
    for first in (0, 2, 4):
        partner = cosines[first, first + 1]
        others = torch.cat([cosines[first, :first], cosines[first, first + 2 :]])
        assert partner > 0.4 and others.max() < 0.3


def test_a_tampered_copy_is_refused(minilm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = bytearray((Path(minilm) / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    package = tmp_path / "tampered_minilm"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(weights)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(builtin, "MINILM_PACKAGE", "tampered_minilm")
    builtin._minilm.cache_clear()
    try:
        with pytest.raises(ModelError, match=f"not the ones that were published.*expected {builtin.MINILM_SHA256}"):
            builtin.find(builtin.MINILM)
        (package / "model" / "model.safetensors").unlink()
        with pytest.raises(ModelError, match="has SHA-256 no file"):
            builtin.find(builtin.MINILM)
    finally:
        builtin._minilm.cache_clear()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "MINILM_PACKAGE", "no_such_package")
    builtin._minilm.cache_clear()
    try:
        with pytest.raises(MissingExtraError, match=r"pip install 'tunesmith\[minilm\]'"):
            builtin.find(builtin.MINILM)
    finally:
        builtin._minilm.cache_clear()


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"'tiny-brt'\. Did you mean 'tiny-bert'\? Known: minilm, tiny-bert, "):
        builtin.find("tiny-brt")


@pytest.mark.parametrize("text", ["hello", "Grüße, 世界 🚀", "\ttwo\nlines ", "a\u0000b"])
def test_the_tiny_tokenizer_keeps_every_byte(text: str) -> None:
    tokenizer = builtin.tiny_tokenizer()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode()) + 2
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids[1:-1]) == text
    assert max(ids) < builtin.VOCABULARY == len(tokenizer)


@pytest.mark.parametrize(("name", "config"), builtin.tiny_configs().items())
def test_tiny_configurations_fit_the_tiny_tokenizer(name: str, config: Any) -> None:
    tokenizer = builtin.tiny_tokenizer()
    assert config.vocab_size == len(tokenizer)
    special = (config.pad_token_id, config.bos_token_id, config.eos_token_id)
    assert special == (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert f"tiny-{config.model_type}" == name
