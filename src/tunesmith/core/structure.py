"""Which name stands in which file of transformers, read once and kept on disk.

transformers reads all files of its models whenever it is imported, twice, to find that out.
Here the list is kept as JSON in a folder, under a name that changes with every file's path, size and time.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from tunesmith.core import files
from tunesmith.core.errors import TunesmithError

READER, FUNCTION = "transformers.utils.import_utils", "define_import_structure"
"""The module that reads them, and its function for it."""

Structure = dict[frozenset[str], dict[str, set[str]]]
"""What names need -> the module that has them -> the names, as transformers has it."""


@contextmanager
def kept(folder: Callable[[], Path]) -> Iterator[None]:
    """Inside, an import of transformers takes its list from `folder()`, or puts it there."""
    finder = _Finder(folder)
    if READER not in sys.modules:
        sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.leave()


class _Finder(MetaPathFinder):
    """Finds the reader where it is, and stands in for its function while transformers is imported."""

    def __init__(self, folder: Callable[[], Path]) -> None:
        self._folder = folder
        self._changed: tuple[ModuleType, Any] | None = None

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The reader's own specification, with one more thing to do; nothing for all else."""
        if fullname != READER:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self._change(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    def leave(self) -> None:
        """Leave no trace."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if self._changed is not None:
            setattr(self._changed[0], FUNCTION, self._changed[1])

    def _change(self, module: ModuleType) -> None:
        read = getattr(module, FUNCTION, None)
        if read is not None:
            self._changed = (module, read)
            setattr(module, FUNCTION, Reader(read, self._folder))


class Reader:
    """transformers' function `read`, whose answers for a folder of packages are kept in `folder()`."""

    def __init__(self, read: Callable[..., Structure], folder: Callable[[], Path]) -> None:
        self._read = read
        self._folder = cache(folder)
        self._text = cache(self._made)

    def __call__(self, module_path: str | Path, prefix: str | None = None) -> Structure:
        """What `read` gives, new each time: transformers adds to it."""
        path = Path(module_path)
        packages = path.parent if path.suffix else path
        text = self._text(packages) if packages.name == "models" and packages.is_dir() else ""
        if not text:
            return self._read(module_path, prefix)
        start = f"{prefix}." if prefix else ""
        found = {}
        for needs, modules in json.loads(text):
            found[frozenset(needs)] = {f"{start}{name}": set(names) for name, names in modules.items()}
        return found

    def _made(self, packages: Path) -> str:
        """The list as JSON; "" where it holds what JSON can't."""
        path = self._folder() / f"{_digest(packages)}.names.json"
        with suppress(OSError, ValueError):
            text = path.read_text(encoding="utf-8")
            if isinstance(json.loads(text), list):
                return text
        found = self._read(packages)
        if not all(isinstance(need, str) for needs in found for need in needs):
            return ""
        text = json.dumps([[sorted(needs), {name: sorted(names) for name, names in modules.items()}]
                           for needs, modules in found.items()])  # fmt: skip
        with suppress(OSError, TunesmithError):
            files.write_text(path, text)
        return text


def _digest(packages: Path) -> str:
    """Of every file's path, size and time, in the folder and those in it."""
    told = hashlib.sha256(str(packages).encode())
    for folder in sorted([packages, *(Path(entry.path) for entry in os.scandir(packages) if entry.is_dir())]):
        for entry in sorted(os.scandir(folder), key=lambda one: one.name):
            if entry.name.endswith(".py"):
                about = entry.stat()
                told.update(f"{entry.path}\0{about.st_size}\0{about.st_mtime_ns}\0".encode())
    return told.hexdigest()
