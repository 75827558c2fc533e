"""One vector a text: how it is made, what is learned of it, and how sentence-transformers is told."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Pooling = Literal["mean", "first", "last"]
KINDS = ("mean_tokens", "cls_token", "lasttoken", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens")
THEIRS = {"mean": "mean_tokens", "first": "cls_token", "last": "lasttoken"}
MODULES = "sentence_transformers.models."
"""Where every release of sentence-transformers finds its modules."""


def pool(states: Tensor, mask: Tensor, how: Pooling) -> Tensor:
    """The mean of a text's states, or the first or last of them, in float32.

    states [texts, time, hidden], mask [texts, time] (1 where there is no padding, which stands on the right):
    [texts, hidden].
    """
    states = states.float()
    if how == "first":
        return states[:, 0]
    if how == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(dim=1) - 1]
    weights = mask.to(states.dtype)[:, :, None]
    return (states * weights).sum(dim=1) / weights.sum(dim=1)


def squared_error(cosines: Tensor, targets: Tensor) -> Tensor:
    """Summed squared error: sum over pairs of (cosine - target)^2, both [batch], in float32."""
    return ((cosines.float() - targets.float()) ** 2).sum()


def in_batch_loss(queries: Tensor, candidates: Tensor, temperature: float, banned: Tensor) -> Tensor:
    """Summed cross-entropy of finding candidate i for query i among all candidates, by cosine / temperature.

    queries [batch, hidden], candidates [candidates, hidden] of length 1, the first `batch` of them the right ones;
    banned [batch, candidates]: which are no wrong answers.
    """
    scores = (queries @ candidates.T / temperature).masked_fill(banned, -torch.inf)
    return functional.cross_entropy(scores, torch.arange(len(queries), device=scores.device), reduction="sum")


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The cosine of each row's two vectors, [rows, hidden] each: [rows]; NaN where one is."""
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found: np.ndarray = (first * second).sum(axis=1) / np.maximum(lengths, 1e-12)
    return found


def shown(cosine: float, vector: np.ndarray) -> float | list[float]:
    """What a line of the predictions shows: the cosine; the vector [hidden], where there is no second text."""
    return [float(value) for value in np.round(vector, 6)] if np.isnan(cosine) else round(float(cosine), 6)


def companions(hidden: int, how: Pooling, normalise: bool, length: int) -> dict[str, Any]:
    """The files by which sentence-transformers makes the same vectors of the model beside them."""
    names = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    modules = [
        {"idx": n, "name": str(n), "path": f"{n}_{name}" if n else "", "type": f"{MODULES}{name}"}
        for n, name in enumerate(names)
    ]
    kinds = {f"pooling_mode_{kind}": kind == THEIRS[how] for kind in KINDS}
    return {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": hidden, **kinds, "include_prompt": True},
        "sentence_bert_config.json": {"max_seq_length": length, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine",
        },
    }  # fmt: skip
