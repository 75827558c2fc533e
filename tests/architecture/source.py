"""The source as syntax: read, never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeVar

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tunesmith"
PART = "core/part.py: Part"
PART_FOLDERS = ("tasks", "methods", "objectives", "regularizers", "schedules", "trackers")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = TypeVar("Node", bound=ast.AST)


@cache
def modules() -> dict[str, ast.Module]:
    """Every source file's syntax, by its path in the package: `methods/lora.py`."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def nodes(kind: type[Node]) -> Iterator[tuple[str, Node]]:
    """Every node of a kind, with the path of its file."""
    for path, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, kind):
                yield path, node


def functions() -> Iterator[tuple[str, Function]]:
    """Every function and method, with the path of its file."""
    yield from nodes(ast.FunctionDef)
    yield from nodes(ast.AsyncFunctionDef)


@cache
def bases() -> dict[str, list[str]]:
    """Every class of ours, as `core/part.py: Part`, with what it derives from: in that form, or a name if not ours."""
    return {
        f"{path}: {node.name}": [_whence(path, ast.unparse(base).split("[")[0]) for base in node.bases]
        for path, node in nodes(ast.ClassDef)
    }


def derives(name: str, ancestor: str) -> bool:
    """Whether a class is, or derives from, another."""
    return name == ancestor or any(derives(base, ancestor) for base in bases().get(name, []))


def depth(name: str) -> int:
    """How many classes of ours stand above a class, one over the other."""
    return max((1 + depth(base) for base in bases()[name] if base in bases()), default=0)


def _whence(path: str, name: str) -> str:
    """The class that a file means by a name: its own, one that it imports, or `name` itself."""
    imported = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in modules()[path].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    first, _, rest = name.partition(".")
    if first not in imported:
        own = any(isinstance(node, ast.ClassDef) and node.name == name for node in modules()[path].body)
        return f"{path}: {name}" if own else name
    module, _, class_name = f"{imported[first]}.{rest}".rstrip(".").rpartition(".")
    file = f"{module.removeprefix('tunesmith.').replace('.', '/')}.py"
    return f"{file}: {class_name}" if module.startswith("tunesmith.") else class_name
