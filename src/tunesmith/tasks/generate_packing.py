"""Several examples in one row of a batch, none of which sees another.

Whole examples are put together into bins of at most `limit` tokens, so that little is padded. Inside a bin each
example's positions begin anew, and the mask lets a token see its own example up to itself and nothing else: outputs,
gradients and the number of targets are those of the examples one by one.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from tunesmith.core import anatomy
from tunesmith.core.tokens import filled

CLOSED = torch.finfo(torch.float32).min
ALIKE = 1e-3
"""How far the outputs of a packed row may be from those of its examples, as a share of the largest."""


def bins(sizes: Sequence[int], limit: int) -> list[list[int]]:
    """Numbers of examples, together in bins of at most `limit` tokens, by first-fit decreasing: the largest example
    first, each into the first bin that has room. Every example is in one bin; one larger than `limit` raises
    ValueError.

    At most 11/9 of the fewest possible bins and one more (Johnson, "Near-optimal bin packing algorithms", 1973). Takes
    time n log n: a tree over the bins tells which has room.
    """
    if len(sizes) and max(sizes) > limit:
        raise ValueError(f"An example has {max(sizes)} tokens, more than a bin's {limit}.")
    leaves = 1 << max(len(sizes) - 1, 0).bit_length()
    room = [limit] * (2 * leaves)  # of a leaf, its bin's; of an inner node, the largest below it
    found: list[list[int]] = []
    for number in np.argsort(-np.asarray(sizes, dtype=np.int64), kind="stable").tolist():
        node = 1
        while node < leaves:
            node = 2 * node + (room[2 * node] < sizes[number])
        if node - leaves == len(found):
            found.append([])
        found[node - leaves].append(number)
        room[node] -= sizes[number]
        while node > 1:
            node //= 2
            room[node] = max(room[2 * node], room[2 * node + 1])
    return found


def packed(rows: Sequence[Sequence[Sequence[int]]], padding: int) -> dict[str, Tensor]:
    """Inputs of rows that hold several examples' ids each: input_ids and position_ids [rows, time], and attention_mask
    [rows, 1, time, time], which is 0 where a token sees another and the least float32 elsewhere.

    Padding sees itself alone, so that no row of the mask is closed throughout.
    """
    lengths = [[len(ids) for ids in row] for row in rows]
    width = max(map(sum, lengths))
    owners = filled([[n for n, length in enumerate(row) for _ in range(length)] for row in lengths], width, -1)
    places = filled([[at for length in row for at in range(length)] for row in lengths], width, 0)
    ids = filled([[one for ids in row for one in ids] for row in rows], width, padding)
    same = (owners[:, :, None] == owners[:, None, :]) & (owners >= 0)[:, :, None]  # [rows, time, time]
    before = torch.ones(width, width, dtype=torch.bool).tril()
    opened = (same & before) | torch.eye(width, dtype=torch.bool)
    mask = torch.zeros(opened.shape).masked_fill(~opened, CLOSED)
    return {"input_ids": ids, "position_ids": places, "attention_mask": mask[:, None]}


def ends(rows: Sequence[Sequence[Sequence[int]]], width: int) -> Tensor:
    """Whether a token is the last of its example: [rows, width]. What follows it is none of its business."""
    flags = [[at == len(ids) - 1 for ids in row for at in range(len(ids))] for row in rows]
    return filled(flags, width, 0).bool()


@torch.no_grad()
def keeps_apart(model: PreTrainedModel, longest: int) -> bool:
    """Whether a decoder gives two examples in one row the outputs that it gives them alone: tried on a few tokens.

    Models whose state runs on along the row (recurrent ones), that take no positions or no such mask, or that look
    back fewer than `longest` tokens, do not.
    """
    config = model.config.get_text_config()
    windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    if any(window is not None and window < longest for window in windows):
        return False
    if "position_ids" not in inspect.signature(type(model).forward).parameters:
        return False
    device, training = anatomy.device_of(model), model.training
    examples = [[5, 6, 7, 8], [9, 6, 5]]
    try:
        model.eval()
        inputs = {name: tensor.to(device) for name, tensor in packed([examples], 0).items()}
        together = model(**inputs, use_cache=False).logits[0]
        alone = [model(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0] for ids in examples]
    except (ValueError, RuntimeError, TypeError, IndexError):
        return False
    finally:
        model.train(training)
    expected = torch.cat(alone)  # [time, vocabulary]
    return bool((together - expected).abs().max() <= ALIKE * expected.abs().max())
