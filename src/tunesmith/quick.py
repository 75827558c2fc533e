"""How the command line imports what a command needs: little, and without finding out again what it knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tunesmith.core import structure
from tunesmith.core.lazy import Lazy
from tunesmith.core.lean import lean

if TYPE_CHECKING:
    from tunesmith.data import cache
else:
    cache = Lazy("tunesmith.data.cache")


@contextmanager
def quick() -> Iterator[None]:
    """Imports inside are quick; this acts on the whole process."""
    with structure.kept(lambda: cache.folder()), lean():
        yield
