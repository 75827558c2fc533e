"""Modules that are imported when they are first used, so that `--help` and `list` load no torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import ModuleType
from typing import Any


class Lazy(ModuleType):
    """Stands for the module of this name and becomes it on first use; it is imported inside `how`."""

    def __init__(self, name: str, how: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        super().__init__(name)
        self.__how = how

    def __getattr__(self, name: str) -> Any:
        """An attribute of the real module."""
        if self.__name__ not in sys.modules:
            with self.__how():
                importlib.import_module(self.__name__)
        return getattr(importlib.import_module(self.__name__), name)
