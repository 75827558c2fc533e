"""How many operations a training must do, whoever does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairs.case import RANK, Case


def lengths(case: Case) -> list[int]:
    """Tokens of every training example: [examples]."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(case.model)
    content = Path(case.train).read_text(encoding="utf-8")
    if case.task in ("fill", "text"):
        count = sum(map(len, tokenizer([content], add_special_tokens=False, verbose=False)["input_ids"]))
        return [case.length] * max(1, count // case.length)
    rows = [json.loads(line) for line in content.split("\n") if line]
    texts = [row.get("text") or row["prompt"] + row["completion"] for row in rows]
    return [len(ids) for ids in tokenizer(texts, truncation=True, max_length=case.length)["input_ids"]]


def operations(case: Case, tokens: Sequence[int]) -> float:
    """Operations of the blocks' products for an example of mean size, forward and backward, on real tokens.

    Formula: c P n + L 12 h n^2 / (2 if causal), with c = 6 for full training and 4 + 2 P' / P otherwise: 2 P n forward,
    as much for the gradient of the inputs, and 2 P' n for the gradient of the weights that train.
    Symbols: P the weights of the blocks' linears, P' those of them that train (of LoRA, both of its matrices), n the
    tokens of an example, L the blocks, h their hidden size; attention takes 4 h n^2 forward and twice that backward.
    What is not in the blocks (embeddings, heads, the scores of a vocabulary) is left out.
    """
    inside, blocks, hidden, causal = _shape(case.model)
    weights = sum(rows * columns for _, rows, columns in inside)
    trained = {"full": weights, "head": 0, "top": 0}.get(case.method)
    if trained is None:
        chosen = [
            one for one in inside if case.method == "lora_all" or one[0] in ("query", "value", "q_proj", "v_proj")
        ]
        trained = sum(RANK * (rows + columns) for _, rows, columns in chosen)
    each = [(4 * weights + 2 * trained) * n + 12 * blocks * hidden * n**2 / (2 if causal else 1) for n in tokens]
    return sum(each) / len(each)


def _shape(model: str) -> tuple[list[tuple[str, int, int]], int, int, bool]:
    """Name, rows and columns of every linear of the blocks; the number of blocks; their hidden size; causal or not."""
    import torch
    from torch import nn
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(model)
    with torch.device("meta"):
        body = AutoModel.from_config(config)
    stack: Any = max((m for m in body.modules() if isinstance(m, nn.ModuleList)), key=len)
    matrices = [(name, m.weight) for name, m in stack.named_modules() if getattr(m, "weight", torch.ones(0)).dim() == 2]
    named = [(name.rpartition(".")[2], int(weight.shape[0]), int(weight.shape[1])) for name, weight in matrices]
    return named, len(stack), int(config.hidden_size), config.model_type in ("gpt2", "llama")
