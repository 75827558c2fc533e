"""tunesmith: fine-tune pre-trained models, and show what the change gained and what it cost.

run = tunesmith.train("messages.csv", method="lora", train={"epochs": 3})
run.evaluation["suites"]["task"]["figures"]
tunesmith.load(run.folder).predict(["Where is my order?"])
tunesmith.runs("runs", where={"method": "lora"}, sort="-value")
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tunesmith.core.lazy import Lazy
from tunesmith.version import VERSION as __version__

# How many products oneDNN keeps prepared, which takes memory; 1,024 unless told. It looks when torch is loaded.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")

if TYPE_CHECKING:
    from tunesmith.api import Mix, compare, evaluate, load, merge, resume, runs, train

__all__ = ["Mix", "__version__", "compare", "evaluate", "load", "merge", "resume", "runs", "train"]

_api: Any = Lazy("tunesmith.api")


class _Package(ModuleType):
    """This package: its words are functions that load the rest when they are first used.

    As a property, `train` stays the function also when the folder of that name is imported.
    """

    @property
    def train(self) -> Any:
        return _api.train

    @train.setter
    def train(self, folder: ModuleType) -> None:
        pass

    @property
    def resume(self) -> Any:
        return _api.resume

    @property
    def load(self) -> Any:
        return _api.load

    @property
    def merge(self) -> Any:
        return _api.merge

    @property
    def evaluate(self) -> Any:
        return _api.evaluate

    @evaluate.setter
    def evaluate(self, folder: ModuleType) -> None:
        pass

    @property
    def compare(self) -> Any:
        return _api.compare

    @property
    def runs(self) -> Any:
        return _api.runs

    @property
    def Mix(self) -> Any:
        return _api.Mix


sys.modules[__name__].__class__ = _Package
