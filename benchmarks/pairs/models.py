"""The models of the cases: folders of weights and tokenizer, of which both sides read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VOCABULARY = 32_000
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "distilbert": ("distilbert", {"dim": 384, "n_layers": 6, "n_heads": 6, "hidden_dim": 1536}),
    "gpt2": ("gpt2", {"n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": 512}),
    "llama": ("llama", {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
                        "intermediate_size": 704, "max_position_embeddings": 512}),
}  # fmt: skip
LARGE: dict[str, tuple[str, dict[str, Any]]] = {
    "encoder of 110 million weights": ("bert", {}),
    "llama of 1 billion weights": ("llama", {"hidden_size": 2048, "num_hidden_layers": 20, "num_attention_heads": 32,
                                             "num_key_value_heads": 8, "intermediate_size": 5632,
                                             "max_position_embeddings": 2048}),
}  # fmt: skip
TINY: dict[str, dict[str, Any]] = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4},
    "llama": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
              "num_key_value_heads": 2},
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64},
}  # fmt: skip
"""Each family's sizes where a program is only tried out."""


def builtin(name: str, folder: Path) -> tuple[str, str]:
    """The folder of a built-in model, and what a recipe calls it: the real one as it is, a tiny one saved here."""
    from transformers import PreTrainedConfig

    from tunesmith.models import builtin

    found = builtin.find(name.removeprefix(builtin.PREFIX))
    if not isinstance(found, PreTrainedConfig):
        return str(found), name
    return (saved(found, builtin.tiny_tokenizer(), folder),) * 2


def random(name: str, folder: Path, tokenizer: Any, tiny: bool = False) -> tuple[str, str]:
    """A model with random weights, one of SMALL or LARGE, with a tokenizer; `tiny`, of its family's smallest shape."""
    from transformers import CONFIG_MAPPING

    family, sizes = {**SMALL, **LARGE}[name]
    words = len(tokenizer) if tiny or family != "llama" else max(VOCABULARY, len(tokenizer))
    special = {key: getattr(tokenizer, key) for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = CONFIG_MAPPING[family](vocab_size=words, **(TINY[family] if tiny else sizes), **special)
    return (saved(config, tokenizer, folder),) * 2


def without_dropout(model: str, folder: Path) -> tuple[str, str]:
    """A copy of a BERT's folder whose configuration drops nothing out."""
    shutil.copytree(model, folder)
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"), 0.0)
    path.write_text(json.dumps({**config, **rates}), encoding="utf-8")
    return (str(folder),) * 2


def saved(config: Any, tokenizer: Any, folder: Path) -> str:
    """A model of this configuration with random weights, and a tokenizer, written to a folder."""
    import torch
    from transformers import AutoModel, AutoModelForCausalLM, logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    auto = AutoModelForCausalLM if config.model_type in ("gpt2", "llama") else AutoModel
    auto.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def reader(model: str) -> Any:
    """The tokenizer of a folder, for models that know no kinds of segment."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model, model_input_names=["input_ids", "attention_mask"])


def trained_reader(texts: Iterable[str], size: int = VOCABULARY) -> Any:
    """A byte-level tokenizer of at most `size` tokens for a causal model, trained on some texts."""
    from transformers import LlamaConfig

    from tunesmith.models import scratch

    config = LlamaConfig(max_position_embeddings=LARGE["llama of 1 billion weights"][1]["max_position_embeddings"])
    return scratch.reader(scratch.train_tokenizer(texts, size, config), config)
