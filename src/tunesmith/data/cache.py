"""Where rows that were read once are kept, and what was encoded of them, and under which names."""

from __future__ import annotations

import atexit
import functools
import hashlib
import json
import marshal
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tunesmith.core import files
from tunesmith.core.column import Column
from tunesmith.core.notes import warn
from tunesmith.core.registry import spec

if TYPE_CHECKING:
    from tunesmith.core.part import Task

# Raised whenever the same file would be read into other values or another layout.
VERSION = 1


def folder() -> Path:
    """The cache: TUNESMITH_CACHE, else ~/.cache/tunesmith/data; a temporary folder if it can't be written."""
    return _writable(os.environ.get("TUNESMITH_CACHE") or "~/.cache/tunesmith/data")


def name(digest: str, columns: Sequence[Column], matched: Mapping[str, str]) -> str:
    """The name of what reading a file gives; it changes with the file's bytes, the columns and their parsers."""
    kinds = [[c.role, matched[c.role], c.storage, _spelled(c.parse)] for c in columns if c.role in matched]
    return hashlib.sha256(json.dumps([VERSION, digest, kinds]).encode()).hexdigest()


def examples(task: Task, *origin: object) -> Path:
    """The file of a split's encoded examples.

    Its name changes with the task (settings, what it learned, its code), with the libraries that cut texts into tokens,
    and with `origin`: all else that the examples come from, as JSON values.
    """
    libraries = [version("tokenizers"), version("transformers")]
    told = json.dumps([VERSION, spec(task), task.state(), _code(type(task)), libraries, origin])
    return folder() / f"{hashlib.sha256(told.encode()).hexdigest()}.examples.arrow"


def arrays(make: Callable[[], dict[str, NDArray[Any]]], code: str, *origin: object) -> dict[str, NDArray[Any]]:
    """What `make` gives, kept under a name that changes with `origin` (JSON values) and with the file `code` that
    makes it. A file that is damaged is written anew.
    """
    told = json.dumps([VERSION, hashlib.sha256(Path(code).read_bytes()).hexdigest(), origin])
    path = folder() / f"{hashlib.sha256(told.encode()).hexdigest()}.npz"
    with suppress(OSError, ValueError, KeyError, zipfile.BadZipFile), np.load(path, allow_pickle=False) as kept:
        return dict(kept)
    found = make()
    with files.writing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, allow_pickle=False, **found)
    return found


@functools.cache
def _code(task: type[Task]) -> str:
    # All that stands beside the files of a task's classes: tasks share code with their neighbours, and with the core.
    classes = [one for one in task.__mro__ if hasattr(one, "encode")]
    folders = {Path(str(sys.modules[one.__module__].__file__)).parent for one in classes}
    found = [path for one in sorted(folders) for path in sorted(one.glob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in found)).hexdigest()


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
