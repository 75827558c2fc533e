"""How the tokens of an answer are chosen."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor
from transformers import (
    LogitsProcessor,
    PreTrainedTokenizerBase,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

NOTHING = torch.empty(0, dtype=torch.long)
"""What stands before, for those that don't look at it."""


class Sampling(BaseModel):
    """How answers are written: the likeliest token each time, unless a temperature is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

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


class Choice:
    """The next token of each row, from its scores.

    A drawn answer follows from its prompt alone (and from how many times that one was asked before), whatever is
    written beside it: its random numbers are its own.
    """

    def __init__(self, sampling: Sampling, prompts: Sequence[Sequence[int]], rooms: Sequence[int]) -> None:
        penalty = sampling.repetition_penalty
        self._penalty = None if penalty == 1 else RepetitionPenaltyLogitsProcessor(penalty)
        self._warpers: list[LogitsProcessor] = []
        self._draws: list[Tensor] = []
        if sampling.temperature:
            self._warpers += [TemperatureLogitsWarper(sampling.temperature)]
            self._warpers += [TopKLogitsWarper(sampling.top_k)] if sampling.top_k else []
            self._warpers += [TopPLogitsWarper(sampling.top_p)] if sampling.top_p < 1 else []
            self._draws = list(map(_draws, _seeds(prompts), rooms))

    def __call__(
        self, scores: Tensor, places: Sequence[int], before: Sequence[Sequence[int]], said: Sequence[Sequence[int]]
    ) -> Tensor:
        """Scores [rows, words] -> tokens [rows]. places: the prompt of each row. before, said: what stands in it
        already, given and written.
        """
        scores = scores.float()
        if self._penalty is not None:
            stand = [[*given, *own] for given, own in zip(before, said, strict=True)]
            width = max(map(len, stand))
            # Filled up with what stands there anyway: twice the same token changes nothing.
            ids = torch.tensor([[*one, *[one[0]] * (width - len(one))] for one in stand], device=scores.device)
            scores = self._penalty(ids, scores)
        if not self._draws:
            return scores.argmax(dim=-1)
        draws = torch.stack([self._draw(place, len(own)) for place, own in zip(places, said, strict=True)])
        for warper in self._warpers:
            scores = warper(NOTHING, scores)
        shares = scores.double().softmax(dim=-1).cumsum(dim=-1)  # [rows, words]
        found = torch.searchsorted(shares, draws[:, None].to(scores.device) * shares[:, -1:], right=True)
        return found[:, 0].clamp(max=scores.shape[-1] - 1)

    def _draw(self, place: int, at: int) -> Tensor:
        # A row whose answer has ended may still run along.
        draws = self._draws[place]
        return draws[min(at, len(draws) - 1)]


def _seeds(prompts: Sequence[Sequence[int]]) -> list[int]:
    before: Counter[tuple[int, ...]] = Counter()
    seeds = []
    for prompt in map(tuple, prompts):
        seeds.append(zlib.crc32(np.array([before[prompt], *prompt], dtype=np.int64).tobytes()))
        before[prompt] += 1
    return seeds


def _draws(seed: int, room: int) -> Tensor:
    """As many numbers between 0 and 1 as the answer has tokens at most."""
    return torch.rand(room, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
