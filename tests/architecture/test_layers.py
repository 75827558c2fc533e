"""What import-linter's contracts in pyproject.toml can't say about imports."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys

import pytest

from tests.architecture import source

HEAVY = {"torch", "transformers", "datasets", "accelerate", "sklearn", "plotly"}

ENTRANCES = {"__init__.py", "__main__.py", "cli.py", "cli_runs.py"}
"""The files that start quickly because they load others only when asked."""

CALL = f"""
import sys
sys.argv = ["tunesmith", *sys.argv[1:]]
from tunesmith.cli import main
try:
    sys.exit(main() if sys.argv[1:] else 0)
finally:
    print(*sorted(sys.modules.keys() & {HEAVY!r}), file=sys.stderr)
"""


def test_nothing_of_ours_is_imported_inside_a_function() -> None:
    inside = [
        f"{path}:{node.lineno}"
        for path, function in source.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom) and "tunesmith" in ast.unparse(node)
    ]
    assert inside == []


def test_imports_are_absolute() -> None:
    assert [f"{path}:{node.lineno}" for path, node in source.nodes(ast.ImportFrom) if node.level] == []


def test_nothing_imports_the_root_package() -> None:
    plain = [(path, alias.name) for path, node in source.nodes(ast.Import) for alias in node.names]
    froms = [
        (path, f"tunesmith: {alias.name}")
        for path, node in source.nodes(ast.ImportFrom)
        for alias in node.names
        if node.module == "tunesmith" and not _is_module(alias.name)
    ]
    assert [found for found in [*plain, *froms] if found[1].split(":")[0] == "tunesmith"] == []


def test_only_entrances_import_ours_lazily() -> None:
    lazy = [(path, node.args[0]) for path, node in source.nodes(ast.Call) if ast.unparse(node.func) == "Lazy"]
    assert all(isinstance(name, ast.Constant) for _, name in lazy)
    assert {path for path, name in lazy if ast.literal_eval(name).startswith("tunesmith")} <= ENTRANCES


@pytest.mark.parametrize(
    "arguments", [[], ["--help"], ["--version"], ["list"]], ids=lambda given: " ".join(given) or "import"
)
def test_words_load_no_heavy_library(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALL, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "", "these libraries were loaded"


@pytest.mark.parametrize("word", ["--help", "list"])
def test_words_answer_in_half_a_second(word: str) -> None:
    command = [sys.executable, "-m", "tunesmith", word]
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # The processor's time, and the best of five: what else the machine does is not ours.
    assert min(times) < 0.5


def _is_module(name: str) -> bool:
    return (source.PACKAGE / name).is_dir() or (source.PACKAGE / f"{name}.py").is_file()
