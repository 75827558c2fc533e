"""Sizes that keep the source readable: of files, functions, parameter lists, settings and families of classes."""

from __future__ import annotations

import ast
from statistics import median

import pytest

from tests.architecture import source

FILE_LINES = 300
FUNCTION_LINES = 60
LOOP_LINES = 170
PARAMETERS = 6
DEPTH = 2
FIELDS = 12
SECTION_FIELDS = 15


def test_files_are_short() -> None:
    assert [f"{path}: {size} lines" for path, size in _files().items() if size > FILE_LINES] == []


def test_functions_are_short() -> None:
    def limit(path: str, name: str) -> int:
        return LOOP_LINES if (path, name) == ("train/loop.py", "train") else FUNCTION_LINES

    sizes = [(path, node.name, _lines(node)) for path, node in source.functions()]
    assert [f"{path}: {name}: {size} lines" for path, name, size in sizes if size > limit(path, name)] == []


def test_functions_take_few_parameters() -> None:
    counts = [(path, node.name, _parameters(node.args)) for path, node in source.functions()]
    assert [f"{path}: {name}: {count}" for path, name, count in counts if count > PARAMETERS] == []


def test_classes_stand_on_few_of_ours() -> None:
    assert [f"{name}: {source.depth(name)}" for name in source.bases() if source.depth(name) > DEPTH] == []


def test_settings_are_few() -> None:
    counts = {f"{path}: {node.name}": _fields(node) for path, node in source.nodes(ast.ClassDef)}
    settings = {name: count for name, count in counts.items() if source.derives(name, "BaseModel")}
    sections = ("train/settings.py: TrainSettings", "models/settings.py: ModelSettings")
    limits = dict.fromkeys(sections, SECTION_FIELDS)
    assert [f"{name}: {count} settings" for name, count in settings.items() if count > limits.get(name, FIELDS)] == []


def test_medians_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    file_lines = median(_files().values())
    function_lines = median(_lines(node) for _, node in source.functions())
    with capsys.disabled():
        print(f"\n  the median file has {file_lines:g} lines, the median function {function_lines:g}")


def _files() -> dict[str, int]:
    return {path: len((source.PACKAGE / path).read_text(encoding="utf-8").splitlines()) for path in source.modules()}


def _lines(function: source.Function) -> int:
    """Lines of a function without its decorators and docstring."""
    assert function.end_lineno is not None
    doc = function.body[0] if ast.get_docstring(function) is not None else None
    doc_lines = doc.end_lineno - doc.lineno + 1 if doc is not None and doc.end_lineno is not None else 0
    return function.end_lineno - function.lineno + 1 - doc_lines


def _parameters(arguments: ast.arguments) -> int:
    several = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *several]
    return sum(argument.arg not in ("self", "cls") for argument in named)


def _fields(node: ast.ClassDef) -> int:
    fields = [line for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)]
    public = [field for field in fields if not field.target.id.startswith("_")]  # type: ignore[union-attr]
    return sum("ClassVar" not in ast.unparse(field.annotation) for field in public)
