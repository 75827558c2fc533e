"""Answers by real generation: prompts in batches of bounded size, each answer with the room that its row has."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tunesmith.core import anatomy
from tunesmith.core.step import Step

SEQUENCES = 32
"""Most sequences (beams counted) that are written at once."""


class Sampling(BaseModel):
    """How answers are written: the likeliest token each time, unless a temperature is given."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    max_new_tokens: int = Field(128, ge=1)
    """Most tokens of an answer."""
    temperature: float = Field(0.0, ge=0)
    """0 takes the likeliest token; above 0 tokens are drawn, the more evenly the higher it is."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Tokens are drawn from the likeliest that together have this probability."""
    top_k: int = Field(0, ge=0)
    """Tokens are drawn from so many of the likeliest; 0 for all."""
    beams: int = Field(1, ge=1)
    """How many beginnings a beam search keeps."""
    repetition_penalty: float = Field(1.0, gt=0)
    """Scores of tokens that stand there already are divided by it (Keskar et al., "CTRL", 2019)."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not self.temperature and (self.top_p < 1 or self.top_k):
            raise ValueError("top_p and top_k say from what tokens are drawn: give a temperature above 0, too")
        if self.temperature and self.beams > 1:
            raise ValueError("beams search for the likeliest answer and draw nothing: leave temperature at 0")
        return self


@dataclass(frozen=True)
class Marks:
    """The ids that generation needs: what ends an answer, what fills, and what an encoder-decoder starts with (None
    for a decoder).
    """

    stops: tuple[int, ...]
    padding: int
    start: int | None = None

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int], start: int | None) -> Marks:
        """The marks of a tokenizer; its own end token always ends an answer."""
        own = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        return cls(tuple(dict.fromkeys([*stops, *own])), int(tokenizer.pad_token_id), start)


def texts(step: Step, tokenizer: PreTrainedTokenizerBase, sampling: Sampling, marks: Marks) -> dict[int, str]:
    """The answers of a batch, by the places of those that are to be answered (see `generate_sequences.asked`)."""
    fields = step.batch.fields
    if "prompts" not in fields:
        return {}
    lengths, rooms = fields["lengths"].tolist(), fields["rooms"].tolist()
    prompts = [ids[:length] for ids, length in zip(fields["prompts"].tolist(), lengths, strict=True)]
    found = written(step.model, prompts, rooms, sampling, marks)
    said = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in found]
    return dict(zip(fields["places"].tolist(), said, strict=True))


def written(
    model: Any, prompts: Sequence[Sequence[int]], rooms: Sequence[int], sampling: Sampling, marks: Marks
) -> list[list[int]]:
    """The ids that a model writes behind each prompt, without what ends an answer: at most `rooms` of them.

    Greedy answers do not depend on what stands beside them; drawn ones follow from the prompts written together.
    """
    found: list[list[int]] = [[] for _ in prompts]
    for places in _portions(rooms, max(1, SEQUENCES // sampling.beams)):
        some = [prompts[place] for place in places]
        ids = _generated(model, some, rooms[places[0]], sampling, marks)
        for place, one in zip(places, ids, strict=True):
            found[place] = _ended(one, marks.stops)
    return found


def _portions(rooms: Sequence[int], most: int) -> Iterator[list[int]]:
    # Rows with the same room go together: so none is written longer than it may be.
    for room in sorted(set(rooms), reverse=True):
        alike = [place for place, own in enumerate(rooms) if own == room]
        for at in range(0, len(alike), most):
            yield alike[at : at + most]


def _generated(
    model: Any, prompts: Sequence[Sequence[int]], room: int, sampling: Sampling, marks: Marks
) -> list[list[int]]:
    device = anatomy.device_of(model)
    ids, mask = padded(prompts, marks.padding, left=marks.start is None)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(zlib.crc32(ids.numpy().tobytes()))
        found = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config(sampling, room, marks)
        )
    begun = ids.shape[1] if marks.start is None else 1
    new: list[list[int]] = found[:, begun:].tolist()
    return new


def padded(lists: Sequence[Sequence[int]], padding: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """Lists of ids as one tensor and its mask: [lists, time] each. A decoder writes on at the right end, so that its
    prompts are padded on the left.
    """
    width = max(map(len, lists))
    sides = [([padding] * (width - len(one)), [0] * (width - len(one))) for one in lists]
    ids = [[*fill, *one] if left else [*one, *fill] for one, (fill, _) in zip(lists, sides, strict=True)]
    mask = [
        [*none, *[1] * len(one)] if left else [*[1] * len(one), *none]
        for one, (_, none) in zip(lists, sides, strict=True)
    ]
    return torch.tensor(ids), torch.tensor(mask)


def config(sampling: Sampling, room: int, marks: Marks) -> GenerationConfig:
    """What transformers is told: all that a recipe can say, so that no habit of the backbone's takes its place."""
    drawing = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    return GenerationConfig(
        max_new_tokens=room,
        do_sample=sampling.temperature > 0,
        num_beams=sampling.beams,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(marks.stops) or None,
        pad_token_id=marks.padding,
        decoder_start_token_id=marks.start,
        # Training switches the cache off in the model's own configuration.
        use_cache=True,
        **(drawing if sampling.temperature > 0 else {}),
    )


def _ended(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    end = next((at for at, one in enumerate(ids) if one in stops), len(ids))
    return list(ids[:end])
