"""Modules that are imported when they are first used, so that `--help` and `list` load no torch."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class Lazy(ModuleType):
    """Stands for the module of this name and becomes it on first use."""

    def __getattr__(self, name: str) -> Any:
        """An attribute of the real module."""
        return getattr(importlib.import_module(self.__name__), name)
