"""A start without what a run may never use: parts of libraries that are imported when they are first used, not before.

transformers imports at its own start what few runs need: torch's compiler, torch's tensors over many machines, scipy's
optimisation; together they take longer than all the rest. Here an import of such a module gives a stand-in, which the
real one replaces on its first use. While modules are being imported (`lean`), what they take from a stand-in stands
for the real thing, and what they make of it (a function decorated, a value) waits too.

This acts on the whole process: the command line does it, which owns its process; the functions of `tunesmith` do not.
"""

from __future__ import annotations

import gc
import importlib
import importlib.abc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec
from types import MethodType, ModuleType
from typing import Any

RARE = ("scipy.optimize", "torch._dynamo", "torch.distributed.tensor", "torch.fx.experimental.symbolic_shapes")
"""What is put off."""
TOGETHER = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"})
"""What the environment holds where several processes train together."""


@contextmanager
def lean() -> Iterator[None]:
    """Imports inside are lean: what is rare is put off, and the garbage collector rests.

    Importing makes many objects that all stay; looking through them time and again is a fifth of its time.
    """
    was = gc.isenabled()
    gc.disable()
    _alone()
    finder = _Finder(tuple(name for name in RARE if name not in sys.modules))
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        finder.importing = False
        gc.freeze()
        if was:
            gc.enable()


def _alone() -> None:
    """Tell libraries that this process trains by itself, unless it was started as one of several: they then leave out
    what divides models among machines.
    """
    if not TOGETHER & set(os.environ):
        distributed: Any = importlib.import_module("torch.distributed")
        distributed.is_available = lambda: False


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins. importing: whether what is taken from them waits; afterwards it is used at once."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.importing = True
        self._names = names

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """A stand-in for what is put off, and for what is below it; nothing for all else."""
        for name in self._names:
            if fullname == name or fullname.startswith(f"{name}."):
                if not self.importing and fullname != name:
                    self.bring(name)
                return ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The stand-in; the module itself, where the one above it had to be brought."""
        brought = not any(spec.name.startswith(name) for name in self._names)
        return importlib.import_module(spec.name) if brought else _StandIn(spec.name, self)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run, or it has run."""

    def bring(self, module: str) -> ModuleType:
        """The real module, in the place of its stand-in, and of those below it."""
        top = next((name for name in self._names if module == name or module.startswith(f"{name}.")), None)
        if top is not None:
            self._names = tuple(name for name in self._names if name != top)
            for name in [one for one, found in sys.modules.items() if isinstance(found, _StandIn)]:
                if name == top or name.startswith(f"{top}."):
                    del sys.modules[name]
        return importlib.import_module(module)


class _StandIn(ModuleType):
    """Stands for a module."""

    def __init__(self, name: str, finder: _Finder) -> None:
        super().__init__(name)
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if f"{self.__name__}.{name}" in ANSWERS:
            return ANSWERS[f"{self.__name__}.{name}"]
        if self._finder.importing:
            return _Later(self._finder, self.__name__, lambda: getattr(self._finder.bring(self.__name__), name))
        return getattr(self._finder.bring(self.__name__), name)


def _kept_out(function: Any = None, *_: Any, **__: Any) -> Any:
    # A compiler that was never loaded is kept out of everything.
    return _kept_out if function is None else function


def _expected(truth: Any, skip: int = 0) -> Any:
    # Only while a program is traced, by what was put off, is a truth or a size anything but a plain one.
    return truth if type(truth) is bool else importlib.import_module(SHAPES).expect_true(truth, skip + 1)


def _equal(one: Any, other: Any) -> Any:
    whole = isinstance(one, tuple) and isinstance(other, tuple) and all(type(size) is int for size in (*one, *other))
    return one == other if whole else importlib.import_module(SHAPES).sym_eq(one, other)


class _Divided:
    """A tensor over several machines; there is none before its module was imported."""


SHAPES = "torch.fx.experimental.symbolic_shapes"
ANSWERS: dict[str, Any] = {
    "torch._dynamo.disable": _kept_out,
    "torch._dynamo.graph_break": lambda *_, **__: None,
    f"{SHAPES}.expect_true": _expected,
    f"{SHAPES}.sym_eq": _equal,
    "torch.distributed.tensor.DTensor": _Divided,
}
"""What torch and accelerate ask in every run, and the answer that holds as long as the module was never used."""


class _Later:
    """Stands for a name of a module, or for what is made of it, until it is used."""

    def __init__(self, finder: _Finder, module: str, make: Callable[[], Any]) -> None:
        self._finder, self._module, self._make = finder, module, make

    def _real(self) -> Any:
        if "_found" not in vars(self):
            self._found = self._make()
        return self._found

    def _then(self, use: Callable[[Any], Any]) -> Any:
        if self._finder.importing:
            return _Later(self._finder, self._module, lambda: use(self._real()))
        return use(self._real())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._then(lambda real: getattr(real, name))

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._then(lambda real: real(*args, **named))

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        # A function that was decorated in the body of a class.
        return self if instance is None else MethodType(self, instance)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)

    def __instancecheck__(self, instance: object) -> bool:
        # What was never imported has no instances.
        return not isinstance(sys.modules.get(self._module), _StandIn | None) and isinstance(instance, self._real())

    def __or__(self, other: object) -> Any:
        # In an annotation.
        return self

    __ror__ = __or__

    def __enter__(self) -> Any:
        return self._real().__enter__()

    def __exit__(self, *details: Any) -> Any:
        return self._real().__exit__(*details)
