"""The list of parts is the list of files; a third party's package adds its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from tunesmith.core import registry
from tunesmith.core.errors import RecipeError, UserError
from tunesmith.methods.lora import Lora

PART = '''
"""A file."""

from tunesmith.core.part import Part


class {name}(Part):
    """Do nothing
    at all.

    More.
    """
'''
Offer = Callable[[str, str], Path]


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Offer]:
    """Write a file of a third party's package whose entry point is installed."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("others", "others_parts", group)])

    def write(path: str, text: str) -> Path:
        file = tmp_path / "others_parts" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "others_parts" / "__init__.py").touch()
        file.write_text(text)
        registry.entries.cache_clear()
        return file

    yield write
    registry.entries.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == "others_parts"]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_file_of_a_kind_is_listed(kind: str) -> None:
    folder = Path(registry.__file__).parent.parent / kind
    listed = registry.entries(kind)
    assert all(entry.path == folder / f"{name}.py" and entry.ours for name, entry in listed.items())
    assert all(registry.load(kind, name).word() == name for name in listed)


def test_known_parts_are_there() -> None:
    assert {"classify", "regress"} <= set(registry.names("tasks"))
    assert {"full", "head_only", "lora"} <= set(registry.names("methods"))
    assert "task" in registry.names("evaluate") and "stats" not in registry.names("evaluate")


def test_building_from_a_name_or_a_mapping() -> None:
    part = registry.build("methods", {"name": "lora", "rank": 4})
    assert isinstance(part, Lora) and part.rank == 4
    assert registry.build("methods", "lora") == Lora()
    assert registry.spec(part) == {"name": "lora", **Lora(rank=4).model_dump()}
    assert registry.spec(registry.build("schedules", "early_stop"))["patience"] == 2


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"No method is called 'lorra'\. Did you mean 'lora'\? Known: aflora, "):
        registry.build("methods", "lorra")
    with pytest.raises(RecipeError, match="A method needs a name"):
        registry.build("methods", {"rank": 4})


def test_all_faults_of_settings_are_told() -> None:
    with pytest.raises(RecipeError) as caught:
        registry.build("methods", {"name": "lora", "rnk": 4, "alpha": -1.0})
    assert "rnk: is unknown. Did you mean 'rank'?" in caught.value.message
    assert "alpha: -1.0 is out of range" in caught.value.message


def test_a_third_partys_part_is_listed_and_built(offer: Offer) -> None:
    path = offer("methods/do_little.py", PART.format(name="DoLittle"))
    entry = registry.entries("methods")["do_little"]
    assert (entry.sentence, entry.module, entry.path) == ("Do nothing at all.", "others_parts.methods.do_little", path)
    assert not entry.ours
    assert registry.build("methods", "do_little").word() == "do_little"
    assert "lora" in registry.names("methods")


def test_listing_imports_nothing(offer: Offer) -> None:
    offer("methods/do_little.py", PART.format(name="DoLittle") + "\nraise SystemExit\n")
    assert "do_little" in registry.names("methods")


def test_a_file_without_the_class_of_its_name_is_no_part(offer: Offer) -> None:
    offer("methods/tables.py", PART.format(name="SomethingElse"))
    assert "tables" not in registry.names("methods")


def test_two_parts_of_one_name_are_refused(offer: Offer) -> None:
    path = offer("methods/lora.py", PART.format(name="Lora"))
    with pytest.raises(UserError, match="Two methods are called 'lora'") as caught:
        registry.entries("methods")
    assert str(path) in str(caught.value)


def test_a_missing_library_is_told_by_its_name(offer: Offer) -> None:
    offer("methods/do_little.py", "import no_such_library\n" + PART.format(name="DoLittle"))
    with pytest.raises(UserError, match=r"'do_little' can't be loaded: it needs the library 'no_such_library'"):
        registry.build("methods", "do_little")


def test_a_file_that_is_no_python_is_named(offer: Offer) -> None:
    path = offer("methods/do_little.py", "class DoLittle(:\n")
    with pytest.raises(UserError, match=r"is no Python that can be read: .*line 1") as caught:
        registry.entries("methods")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["gone_parts", "gone_parts.inner"])
def test_a_package_that_is_gone_is_told(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: [EntryPoint("gone", value, group)])
    registry.entries.cache_clear()
    try:
        with pytest.raises(UserError, match=rf"The package '{value}'(.|\n)*remove the entry point 'gone'"):
            registry.entries("methods")
    finally:
        registry.entries.cache_clear()
