"""The list of transformers' names, kept: what is given is what transformers finds."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
import transformers
from transformers.utils.import_utils import define_import_structure

from tunesmith.core import structure
from tunesmith.core.structure import Reader, Structure

MODELS = Path(transformers.__file__).parent / "models"


class Counted:
    """transformers' function, and how often it was called."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, module_path: str | Path, prefix: str | None = None) -> Structure:
        self.calls += 1
        found: Structure = define_import_structure(module_path, prefix)
        return found


@pytest.mark.parametrize("prefix", [None, "models"])
@pytest.mark.parametrize("path", [MODELS, str(MODELS / "__init__.py")])
def test_it_gives_what_transformers_finds(path: Path | str, prefix: str | None, tmp_path: Path) -> None:
    assert Reader(define_import_structure, lambda: tmp_path)(path, prefix) == define_import_structure(path, prefix)


def test_it_reads_once_for_this_start_and_later_ones(tmp_path: Path) -> None:
    read = Counted()
    for _ in range(2):
        given = Reader(read, lambda: tmp_path)
        given(MODELS, "models")[frozenset()]["added"] = {"by the one who asked"}
        assert "added" not in given(str(MODELS / "__init__.py"))[frozenset()]
    assert read.calls == 1


def test_other_folders_are_read_as_ever(tmp_path: Path) -> None:
    read = Counted()
    assert Reader(read, lambda: tmp_path)(MODELS / "auto" / "__init__.py")
    assert read.calls == 1 and not list(tmp_path.iterdir())


def package(folder: Path) -> Path:
    models = folder / "models"
    (models / "one").mkdir(parents=True)
    (models / "one" / "file.py").write_text("__all__ = ['Old']\n", encoding="utf-8")
    (models / "__init__.py").write_text("", encoding="utf-8")
    return models


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    models, read = package(tmp_path), Counted()
    Reader(read, lambda: tmp_path)(models)
    (models / "one" / "file.py").write_text("__all__ = ['Old', 'New']\n", encoding="utf-8")
    Reader(read, lambda: tmp_path)(models)
    assert read.calls == 2


def test_a_list_that_json_cannot_hold_is_not_kept(tmp_path: Path) -> None:
    def read(module_path: str | Path, prefix: str | None = None) -> Structure:
        return {frozenset({1}): {f"{prefix}.file": {"Name"}}}  # type: ignore[arg-type]

    models = package(tmp_path)
    assert Reader(read, lambda: tmp_path)(models, "models") == read(models, "models")
    assert not list(tmp_path.glob("*.names.json"))


@pytest.mark.parametrize("text", ["", "{", "null"])
def test_a_damaged_file_is_written_anew(text: str, tmp_path: Path) -> None:
    models, read = package(tmp_path), Counted()
    expected = Reader(read, lambda: tmp_path)(models)
    (file,) = tmp_path.glob("*.names.json")
    file.write_text(text, encoding="utf-8")
    assert Reader(read, lambda: tmp_path)(models) == expected
    assert read.calls == 2 and file.read_text(encoding="utf-8") != text


def test_a_folder_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    models, read = package(tmp_path), Counted()
    assert Reader(read, lambda: tmp_path / "file")(models) == define_import_structure(models)


def test_it_stands_in_while_the_reader_is_imported_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reader.py").write_text("def find(path): return path\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(structure, "READER", "reader")
    monkeypatch.setattr(structure, "FUNCTION", "find")
    before = list(sys.meta_path)
    with structure.kept(lambda: tmp_path):
        reader: ModuleType = importlib.import_module("reader")
        assert isinstance(reader.find, Reader)
    assert reader.find("it") == "it" and sys.meta_path == before
    with structure.kept(lambda: tmp_path):
        assert sys.meta_path == before  # it is imported already
    sys.modules.pop("reader")
