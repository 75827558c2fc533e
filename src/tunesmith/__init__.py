"""tunesmith: fine-tune pre-trained models, and show what the change gained and what it cost.

run = tunesmith.train("messages.csv", method="lora", train={"epochs": 3})
run.evaluation["suites"]["task"]["figures"]
tunesmith.load(run.folder).predict(["Where is my order?"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.core.lazy import Lazy
from tunesmith.version import VERSION as __version__

if TYPE_CHECKING:
    from tunesmith import api
else:
    api = Lazy("tunesmith.api")

__all__ = ["__version__", "load", "resume", "train"]


def __getattr__(name: str) -> object:
    if name in ("train", "load", "resume"):
        return getattr(api, name)
    raise AttributeError(f"module 'tunesmith' has no attribute '{name}'")
