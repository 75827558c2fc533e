"""Imports that wait: what stands for a module behaves as the module does, once it is used."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tunesmith.core import lean as leans
from tunesmith.core.lean import lean

RARE = """
import rare_top.below

class Thing:
    def __init__(self, size=1):
        self.size = size

def double(number):
    return 2 * number

def loud(function):
    return lambda *given: "loud " + function(*given)
"""
USER = """
import rare_top
from rare_top import Thing, double
from rare_top.below import DEEP

MADE = Thing(size=3)

@rare_top.loud
def greet(name):
    return name

class Host:
    word = "hello"

    @rare_top.loud
    def greet(self, name):
        return self.word + " " + name

def optional(thing: Thing | None) -> bool:
    return isinstance(thing, Thing)
"""


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module that was imported leanly, and takes everything from another."""
    (tmp_path / "rare_top").mkdir()
    (tmp_path / "rare_top" / "__init__.py").write_text(RARE, encoding="utf-8")
    (tmp_path / "rare_top" / "below.py").write_text("DEEP = {'x': 1}\n", encoding="utf-8")
    (tmp_path / "rare_top" / "other.py").write_text("OTHER = 5\n", encoding="utf-8")
    (tmp_path / "lean_user.py").write_text(USER, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(leans, "RARE", ("rare_top",))
    monkeypatch.setattr(torch.distributed, "is_available", torch.distributed.is_available)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    with lean():
        found = importlib.import_module("lean_user")
    yield found
    gc.unfreeze()
    for name in ("lean_user", "rare_top", "rare_top.below", "rare_top.other"):
        sys.modules.pop(name, None)


def loaded() -> bool:
    return "Thing" in vars(sys.modules["rare_top"])


def test_nothing_is_loaded_before_it_is_used(user: ModuleType) -> None:
    assert not loaded()
    assert not user.optional(7)
    assert not loaded()


def test_a_function_is_the_real_one_when_it_is_called(user: ModuleType) -> None:
    assert user.double(4) == 8
    assert loaded()


def test_a_decorated_function_is_decorated_when_it_is_called(user: ModuleType) -> None:
    assert user.greet("you") == "loud you"
    assert user.Host().greet("you") == "loud hello you"


def test_a_value_is_made_when_it_is_used(user: ModuleType) -> None:
    assert user.MADE.size == 3
    assert user.optional(sys.modules["rare_top"].Thing())
    assert not user.optional(None)


def test_what_lies_below_comes_with_what_is_above(user: ModuleType) -> None:
    below = importlib.import_module("rare_top.below")
    assert below.DEEP == {"x": 1}
    assert user.DEEP.get("x") == 1
    assert loaded()


def test_a_module_below_that_nobody_asked_for_brings_what_is_above(user: ModuleType) -> None:
    other = importlib.import_module("rare_top.other")
    assert other.OTHER == 5
    assert loaded() and sys.modules["rare_top"].other is other is sys.modules["rare_top.other"]


def test_an_import_afterwards_becomes_the_real_module(user: ModuleType) -> None:
    module = importlib.import_module("rare_top")
    assert module.double(1) == 2
    assert importlib.import_module("rare_top").double is sys.modules["rare_top"].double
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_a_class_that_is_inherited_from_is_loaded_at_once(user: ModuleType, tmp_path: Path) -> None:
    for name in ("rare_top", "rare_top.below"):
        sys.modules.pop(name, None)
    (tmp_path / "lean_heir.py").write_text("from rare_top import Thing\nclass Heir(Thing): pass\n", encoding="utf-8")
    with lean():
        heir = importlib.import_module("lean_heir")
    assert heir.Heir(4).size == 4 and loaded()


def test_the_collector_rests_and_goes_on(user: ModuleType) -> None:
    assert gc.isenabled()
    with lean():
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize(("several", "expected"), [("", False), ("WORLD_SIZE", True)])
def test_several_processes_are_left_alone(monkeypatch: pytest.MonkeyPatch, several: str, expected: bool) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: True)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    if several:
        monkeypatch.setenv(several, "2")
    with lean():
        pass
    gc.unfreeze()
    assert torch.distributed.is_available() is expected


CHILD = """
import sys
from tunesmith.core.lean import lean
with lean():
    import tunesmith.stages
import torch
from tunesmith.core.lean import _StandIn
from tunesmith.models import load
from tunesmith.models.settings import ModelSettings
backbone = load.load(ModelSettings(name="builtin:minilm"), ("AutoModelForSequenceClassification",), {}, 0)
optimizer = torch.optim.AdamW(backbone.model.parameters(), lr=1e-4)
backbone.model(torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
optimizer.step()
optimizer.zero_grad()
heavy = ("sympy", "torch._dynamo", "torch.fx.experimental.symbolic_shapes", "scipy.optimize", "sklearn")
print([name for name in heavy if name in sys.modules and not isinstance(sys.modules[name], _StandIn)])
# And the compiler is there as soon as it is asked for.
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist(), "sympy" in sys.modules)
from scipy.optimize import linear_sum_assignment
print(linear_sum_assignment([[1, 0], [0, 1]])[1].tolist())
"""


def test_a_step_loads_no_compiler_and_the_compiler_still_works() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[]", "[2.0, 2.0] True", "[1, 0]"], done.stderr
