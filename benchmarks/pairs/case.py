"""One run, as every side is told it: plain values, so that a side needs nothing of ours to read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

WARMUP, DECAY, CLIP = 0.1, 0.01, 1.0
RANK, ALPHA, TOP = 8, 16, 2
RATES = {"full": 2e-4, "lora": 2e-3, "lora_all": 2e-3, "head": 1e-2, "top": 2e-4}
"""Peak learning rate of each method."""


@dataclass(frozen=True)
class Case:
    """One run.

    task: classify, fill (masked words in joined blocks), instruct (prompt and answer, the loss on the answer) or text
    (the next word in joined blocks). model: folder of weights and tokenizer; ours: what a recipe calls it. method:
    full, lora (queries and values), lora_all (every linear of the blocks), head, top (the two top blocks). test: a file
    to answer at the end; empty: none. length: most tokens of an example. speed: our section of that name, if it is
    said. schedules: ours, beside that of the rate. steps: whether our side tells what every update cost.
    """

    task: str
    model: str
    ours: str
    train: str
    method: str = "full"
    test: str = ""
    epochs: int = 2
    batch: int = 32
    length: int = 128
    seed: int = 0
    device: str = "cpu"
    speed: Mapping[str, Any] | str | None = None
    schedules: Sequence[Mapping[str, Any]] = ()
    steps: bool = False

    @property
    def rate(self) -> float:
        """The peak learning rate."""
        return RATES[self.method]

    def told(self, **more: Any) -> str:
        """As JSON, with the numbers that all cases share."""
        shared = {"rate": self.rate, "warmup": WARMUP, "decay": DECAY, "clip": CLIP}
        shared |= {"rank": RANK, "alpha": ALPHA, "top": TOP}
        return json.dumps({**asdict(self), **shared, **more})
