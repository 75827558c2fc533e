"""Names say what a thing is: no drawers for odds and ends, and a part is called like its file."""

from __future__ import annotations

import ast
import re
from pathlib import PurePosixPath

from tests.architecture import source

DRAWERS = {"util", "utils", "helper", "helpers", "manager", "common", "misc", "handler"}


def test_no_file_or_folder_is_a_drawer() -> None:
    def words(path: str) -> set[str]:
        return set(re.split(r"[/_.]", path.lower()))

    assert [path for path in source.modules() if words(path) & DRAWERS] == []


def test_no_class_is_a_drawer() -> None:
    def words(name: str) -> set[str]:
        return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}

    assert [f"{path}: {node.name}" for path, node in source.nodes(ast.ClassDef) if words(node.name) & DRAWERS] == []


def test_a_part_is_called_like_its_file() -> None:
    def expected(path: str) -> str:
        return "".join(word.capitalize() for word in PurePosixPath(path).stem.split("_"))

    parts = [name.split(": ") for name in source.bases() if source.derives(name, source.PART)]
    listed = [(path, name) for path, name in parts if path.startswith((*source.PART_FOLDERS, "evaluate"))]
    assert [f"{path} holds {name}, not {expected(path)}" for path, name in listed if name != expected(path)] == []


def test_a_file_of_a_kind_holds_a_part_or_what_a_part_beside_it_uses() -> None:
    parts = {name.split(": ")[0] for name in source.bases() if source.derives(name, source.PART)}
    files = [path for path in source.modules() if path.startswith(source.PART_FOLDERS) and "__init__" not in path]
    imported: dict[str, set[str]] = {}
    for path, node in source.nodes(ast.ImportFrom):
        imported.setdefault(path, set()).update(
            [str(node.module), *(f"{node.module}.{one.name}" for one in node.names)]
        )
    used, waiting = set(parts), list(parts)
    while waiting:
        user = waiting.pop()
        for path in files:
            module = f"tunesmith.{path.removesuffix('.py').replace('/', '.')}"
            beside = path.split("/")[0] == user.split("/")[0]
            if path not in used and beside and module in imported.get(user, set()):
                used.add(path)
                waiting.append(path)
    assert [path for path in files if path not in used] == []
