"""What a backbone makes of a batch: one vector an example, of its last states or of every layer's."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tunesmith.core import anatomy, tokens
from tunesmith.core.errors import ModelError
from tunesmith.core.finished import Asked
from tunesmith.core.step import Batch

TEXTS = 64
"""Texts that go through a model at once."""


def of_batch(model: nn.Module, batch: Batch, *, layers: bool = False) -> Tensor:
    """The mean over an example's tokens (of all its sequences) of the backbone's last states, [batch, hidden]; with
    `layers` of the states of the embeddings and of every block, [batch, 1 + blocks, hidden]. Of an encoder-decoder the
    encoder's. A backbone that gives no states raises ModelError.
    """
    body = _body(model)
    accepted = inspect.signature(type(body).forward).parameters
    inputs: dict[str, Any] = {name: value for name, value in batch.inputs.items() if name in accepted}
    output = body(**inputs, output_hidden_states=True) if layers else body(**inputs)
    states = output.hidden_states if layers else (output.last_hidden_state,)
    if states is None:
        raise ModelError(f"{type(body).__name__} does not give the states of its layers.")
    mask = batch.inputs.get("attention_mask") if "input_ids" in inputs else None
    found = torch.stack([mean(one.float(), mask) for one in states], dim=1)  # [sequences, layers, hidden]
    owners = batch.fields.get("owners")
    if owners is not None:
        found = _joined(found, owners, len(batch.rows))
    return found if layers else found[:, 0]


@torch.inference_mode()
def of_texts(asked: Asked, texts: Sequence[str]) -> np.ndarray:
    """The same of plain texts, whatever rows the model's task reads: [texts, hidden], float32. Longer ones are cut."""
    model, device = asked.model.eval(), anatomy.device_of(asked.model)
    examples = tokens.encode_texts([{"text": text} for text in texts], asked.tokenizer, asked.limit)
    found = []
    for start in range(0, len(examples), TEXTS):
        batch = tokens.batch_of(examples[start : start + TEXTS], asked.tokenizer, {}).to(device)
        found.append(of_batch(model, batch).float().cpu().numpy())
    return np.concatenate(found)


def mean(states: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over real tokens of states [sequences, time, hidden], whose last positions are the mask's; of maps
    [sequences, channels, height, width] the mean over places. Gives [sequences, hidden].
    """
    if states.dim() == 4:
        return states.mean(dim=(2, 3))
    if mask is None:
        return states.mean(dim=1)
    # Positions of virtual tokens stand before the text's.
    states = states[:, states.shape[1] - mask.shape[1] :]
    weights = mask[:, :, None].to(states.dtype)
    return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _joined(found: Tensor, owners: Tensor, examples: int) -> Tensor:
    """The mean over the sequences of each example: [sequences, layers, hidden] to [examples, layers, hidden]."""
    sums = found.new_zeros(examples, *found.shape[1:]).index_add_(0, owners, found)
    return sums / owners.bincount(minlength=examples).clamp(min=1)[:, None, None]


def _body(model: nn.Module) -> nn.Module:
    body = anatomy.backbone(model)
    config: Any = getattr(body, "config", None)
    encoder = getattr(body, "get_encoder", None)
    if getattr(config, "is_encoder_decoder", False) and callable(encoder):
        found = encoder()
        assert isinstance(found, nn.Module)
        return found
    return body
