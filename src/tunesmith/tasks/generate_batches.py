"""Many answers written side by side: as some end, the next prompts take their places."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tunesmith.core.notes import note
from tunesmith.tasks.generate_rows import Decoder, Pairs, Refused, Running, refusal
from tunesmith.tasks.generate_sampling import Choice, Marks, Sampling

SLOTS, POSITIONS = 64, 64 * 512
"""Most answers that are written at once, and most positions that they may come to in the cache."""
FREE = 8
"""Places are given away when one in so many is free: rows that ended are carried along until then, since each change
of the rows moves the whole cache.
"""


def together(
    model: Any, prompts: Sequence[Sequence[int]], rooms: Sequence[int], sampling: Sampling, marks: Marks
) -> list[list[int]] | None:
    """The ids that a model writes behind each prompt, with what ends an answer: at most `rooms` of them.

    Each answer is that of its prompt alone. None where the model can't write so, or a beam search is asked for; why is
    said.
    """
    if sampling.beams > 1:
        return None
    why = refusal(model)
    try:
        if not why:
            return _Writing(model, prompts, rooms, sampling, marks).run()
    except Refused as refused:
        why = str(refused)
    note(f"Answers are written in batches that end together: {type(model).__name__} can't change one, as {why}.")
    return None


class _Writing:
    """Answers under way: whose rows run, which prompts wait, what is written so far."""

    def __init__(
        self, model: Any, prompts: Sequence[Sequence[int]], rooms: Sequence[int], sampling: Sampling, marks: Marks
    ) -> None:
        self._prompts, self._rooms, self._stops = prompts, rooms, set(marks.stops)
        self._start = marks.start
        longest = max(map(len, prompts), default=0) + max(rooms, default=0)
        self._slots = max(1, min(SLOTS, POSITIONS // max(1, longest)))
        self._choice = Choice(sampling, prompts, rooms)
        # Neighbours are of like length, so that little is padded.
        self._waiting = deque(sorted(range(len(prompts)), key=lambda place: -len(prompts[place])))
        self._running: Running = (
            Decoder(model, marks.padding) if marks.start is None else Pairs(model, marks.padding, marks.start)
        )
        self._places: list[int] = []
        self._last = torch.empty(0, dtype=torch.long)
        self._said: list[list[int]] = [[] for _ in prompts]

    @torch.no_grad()
    def run(self) -> list[list[int]]:
        """Write all answers."""
        while True:
            going = [not self._ended(place) for place in self._places]
            if not any(going) and not self._waiting:
                return self._said
            if self._is_due(sum(going)):
                self._change([row for row, goes in enumerate(going) if goes])
            else:
                self._last = self._chosen(self._running.go_on(self._last, going), self._places)

    def _is_due(self, left: int) -> bool:
        """Whether enough rows have ended for a change to pay."""
        if self._waiting and (self._running.joins or not left):
            return left <= self._slots - max(1, self._slots // FREE)
        return left <= len(self._places) - max(1, len(self._places) // FREE)

    def _change(self, left: Sequence[int]) -> None:
        """Rows that ended leave, and prompts that wait come in."""
        if len(left) < len(self._places):
            self._running.keep(left)
            self._places = [self._places[row] for row in left]
            self._last = self._last[list(left)]
        if self._waiting and (self._running.joins or not left):
            new = [self._waiting.popleft() for _ in range(min(self._slots - len(left), len(self._waiting)))]
            first = self._chosen(self._running.begin([self._prompts[place] for place in new]), new)
            self._places, self._last = [*self._places, *new], torch.cat([self._last.to(first.device), first])

    def _chosen(self, scores: Tensor, places: Sequence[int]) -> Tensor:
        """The next token of each row, written down unless its answer has ended."""
        before = [self._prompts[place] if self._start is None else [self._start] for place in places]
        tokens = self._choice(scores, places, before, [self._said[place] for place in places])
        for place, token in zip(places, tokens.tolist(), strict=True):
            if not self._ended(place):
                self._said[place].append(token)
        return tokens

    def _ended(self, place: int) -> bool:
        said = self._said[place]
        return len(said) >= self._rooms[place] or (bool(said) and said[-1] in self._stops)
