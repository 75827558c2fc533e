"""What must not stand in any file of the repository, and what must stand beside every part."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.architecture import source

# Written so that this file doesn't hold what it looks for.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.~}-])/(?:work|root|home|Users|opt)/\w",
    "a host of a package registry": r"\b(?:pypi|test\.pypi|npmjs|debian|anaconda)\.(?:org|com)\b|python[h]osted",
    "a note of work to do": r"\b(?:TO[D]O|FIX[M]E|XX[X])\b",
}
UNPICKLING = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve"}
LOADS = {"torch.load", "marshal.load", "marshal.loads"}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{path}:{number}: {line.strip()[:80]}"
        for path, text in _texts()
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(FORBIDDEN[what], line)
    ]
    assert found == []


def test_nothing_is_unpickled() -> None:
    imports = [(path, alias.name) for path, node in source.nodes(ast.Import) for alias in node.names]
    imports += [(path, node.module or "") for path, node in source.nodes(ast.ImportFrom)]
    assert [found for found in imports if found[1].split(".")[0] in UNPICKLING] == []
    calls = [(path, node) for path, node in source.nodes(ast.Call)]
    assert [f"{path}:{node.lineno}" for path, node in calls if ast.unparse(node.func) in LOADS] == []
    named = [(path, word) for path, node in calls for word in node.keywords if word.arg == "allow_pickle"]
    assert [f"{path}:{word.value.lineno}" for path, word in named if ast.unparse(word.value) != "False"] == []


def test_every_part_has_a_test_file() -> None:
    lacking = [
        f"tests/{folder}/test_{path.name}"
        for folder in source.PART_FOLDERS
        for path in sorted((source.PACKAGE / folder).glob("*.py"))
        if path.name != "__init__.py" and not (source.ROOT / "tests" / folder / f"test_{path.name}").is_file()
    ]
    assert lacking == []


def _texts() -> Iterator[tuple[str, str]]:
    """Every text file that git tracks, or would if it were added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=source.ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for path in listed.stdout.decode().split("\0"):
        content = (source.ROOT / path).read_bytes() if (source.ROOT / path).is_file() else b""
        if b"\0" not in content:
            yield path, content.decode("utf-8", errors="replace")
