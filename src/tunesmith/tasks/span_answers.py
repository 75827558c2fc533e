"""From the scores of windows to the answer of a question: the likeliest spans, and whether there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from tunesmith.core import tokens
from tunesmith.tasks import span_windows
from tunesmith.tasks.span_rows import Span

CONSIDERED = 20
"""How many spans of a row share its probability, where not more are asked for."""


@dataclass(frozen=True)
class Found:
    """What the windows of one row say: its likeliest spans of characters with their scores, the best first, and the
    score of no answer.
    """

    context: str
    spans: list[Span]
    scores: list[float]
    silence: float

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the spans."""
        return tuple(self.context[start:end] for start, end in self.spans)

    @property
    def difference(self) -> float:
        """How much better no answer scores than the best span."""
        return self.silence - self.scores[0] if self.scores else float("inf")


def read(starts: Tensor, ends: Tensor, fields: Mapping[str, Tensor], count: int, longest: int) -> list[Found]:
    """What the windows of each row say, with at most `count` spans of at most `longest` tokens.

    starts, ends [windows, time]; fields as `AnswerSpan.collate` gives them. The score of no answer is the lowest that
    a window gives it: a question has none only where every window says so.
    """
    characters = fields["characters"]  # [windows, time, 2]
    inside = characters[..., 1] > characters[..., 0]
    scores, first, last = (one.cpu().tolist() for one in span_windows.likeliest(starts, ends, inside, longest, count))
    null = (starts.float() + ends.float()).gather(1, fields["silence"][:, None]).squeeze(1).tolist()
    places, owners = characters.tolist(), fields["owners"].tolist()
    found: list[dict[Span, float]] = [{} for _ in range(len(fields["contexts"]))]
    contexts = tokens.texts_of(fields["contexts"])
    silences = [float("inf")] * len(contexts)
    for window, owner in enumerate(owners):
        silences[owner] = min(silences[owner], null[window])
        for score, i, j in zip(scores[window], first[window], last[window], strict=True):
            if score == -float("inf"):
                break
            span = span_windows.trimmed(contexts[owner], (places[window][i][0], places[window][j][1]))
            if span[0] < span[1]:
                found[owner][span] = max(score, found[owner].get(span, score))
    return [_found(*one, count) for one in zip(contexts, found, silences, strict=True)]


def shown(found: Found, bound: float, silent: bool, count: int) -> dict[str, Any]:
    """The line of a row: the answer with its place, its share of the probability of all spans considered, and `count`
    spans; where `silent`, no answer if it scores better than the best span by more than `bound`.
    """
    logits = np.array([*found.scores, *([found.silence] if silent else [])])
    shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum() if len(logits) else logits
    spans_of = [
        {"text": text, "start": start, "end": end, "confidence": round(float(share), 6)}
        for text, (start, end), share in zip(found.texts, found.spans, shares, strict=False)
    ]
    none = {"text": "", "start": None, "end": None, "confidence": round(float(shares[-1]), 6) if silent else 0.0}
    given = none if not spans_of or (silent and found.difference > bound) else spans_of[0]
    line = {"prediction": given["text"], **{key: given[key] for key in ("start", "end", "confidence")}}
    return {**line, "candidates": spans_of[:count]}


def answers_of(rows: Iterable[tuple[str, tuple[str, ...], float]]) -> np.ndarray:
    """Answers as an array of objects [rows, 3]: the text given, texts, a difference of scores."""
    listed = list(rows)
    answers = np.empty((len(listed), 3), dtype=object)
    for number, row in enumerate(listed):
        for place, value in enumerate(row):
            answers[number, place] = value
    return answers


def _found(context: str, scored: Mapping[Span, float], silence: float, count: int) -> Found:
    best = sorted(scored, key=lambda span: (-scored[span], span))[:count]
    return Found(context, best, [scored[span] for span in best], silence)
