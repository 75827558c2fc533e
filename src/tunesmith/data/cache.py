"""Where rows that were read once are kept, and under which name."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import marshal
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from tunesmith.core.column import Column
from tunesmith.core.notes import warn

# Raised whenever the same file would be read into other values or another layout.
VERSION = 1


def folder() -> Path:
    """The cache: TUNESMITH_CACHE, else ~/.cache/tunesmith/data; a temporary folder if it can't be written."""
    return _writable(os.environ.get("TUNESMITH_CACHE") or "~/.cache/tunesmith/data")


def name(digest: str, columns: Sequence[Column], matched: Mapping[str, str]) -> str:
    """The name of what reading a file gives; it changes with the file's bytes, the columns and their parsers."""
    kinds = [[c.role, matched[c.role], c.storage, _spelled(c.parse)] for c in columns if c.role in matched]
    return hashlib.sha256(json.dumps([VERSION, digest, kinds]).encode()).hexdigest()


@functools.cache
def _writable(wanted: str) -> Path:
    path = Path(wanted).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        temporary = tempfile.mkdtemp(prefix="tunesmith-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        warn(f"The cache {path} can't be written ({error.strerror}): rows are kept in {temporary} until the end.")
        return Path(temporary)


def _spelled(parse: Callable[..., Any]) -> list[str]:
    if isinstance(parse, functools.partial):
        return [*_spelled(parse.func), repr(parse.args), repr(sorted(parse.keywords.items()))]
    if isinstance(parse, FunctionType):
        # The code itself: a parser that was changed reads anew. What it closes over belongs to it.
        code = hashlib.sha256(marshal.dumps(parse.__code__)).hexdigest()
        return [
            parse.__module__,
            parse.__qualname__,
            code,
            repr([cell.cell_contents for cell in parse.__closure__ or ()]),
        ]
    return [repr(parse)]
