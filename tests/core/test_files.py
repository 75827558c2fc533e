"""Files are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tunesmith.core import files
from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import (
    finite,
    read_json,
    remove_leftovers,
    sha256,
    write_json,
    write_text,
    writing,
    writing_folder,
)


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with writing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists() and temporary.parent == path.parent
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_failure_leaves_the_old_file(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), writing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_everything_is_flushed_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, order = tmp_path / "made", []
    monkeypatch.setattr(files, "sync", lambda one: order.append((one.name, path.exists())))
    with writing_folder(path) as temporary:
        (temporary / "a").write_text("a")
    assert order == [("a", False), (temporary.name, False), (tmp_path.name, True)]
    order.clear()
    write_text(tmp_path / "b", "b")
    assert order[-1] == (tmp_path.name, True) and len(order) == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_is_replaced_as_a_whole(fails: bool, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    try:
        with writing_folder(path, replace=True) as temporary:
            (temporary / "new").write_text("new")
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert [file.name for file in path.iterdir()] == ["old" if fails else "new"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_holds_something_is_not_replaced_unasked(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.mkdir()
    (path / "old").write_text("old")
    with pytest.raises(RunFolderError, match="model could not be written"), writing_folder(path) as temporary:
        (temporary / "new").write_text("new")
    assert [file.name for file in path.iterdir()] == ["old"] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "The disk is full"),
        (errno.EDQUOT, "The disk is full"),
        (errno.EFBIG, "The disk is full"),
        (errno.EACCES, "could not be written: Permission denied"),
    ],
)
def test_what_the_system_refuses_is_told(number: int, told: str, tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=told), writing(tmp_path / "a"):
        raise OSError(number, os.strerror(number))


def test_a_full_disk_that_safetensors_reports_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="The disk is full"), writing_folder(tmp_path / "a"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    with pytest.raises(RuntimeError, match="something else"), writing_folder(tmp_path / "a"):
        raise RuntimeError("something else")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    with pytest.raises(RunFolderError, match="could not be written"):
        write_text(tmp_path / "a" / "b", "b")


def test_json_comes_back(tmp_path: Path) -> None:
    value = {"text": "ä \u2028 🚀", "list": [1, 2.5, None, True], "nested": {"a": []}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert "ä" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    value: dict[str, Any] = {"a": math.nan, "b": [math.inf, (1.0, -math.inf)], "c": {"d": 0.5}}
    assert finite(value) == {"a": None, "b": [None, [1.0, None]], "c": {"d": 0.5}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == finite(value)


@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe", b""])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(RunFolderError, match=r"a\.json is missing"):
        read_json(path)
    path.write_bytes(content)
    with pytest.raises(RunFolderError, match=r"a\.json is damaged"):
        read_json(path)


def test_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    assert sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()
    path.write_bytes(b"abc")
    # The test vector of FIPS 180-2, appendix B.1.
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_leftovers_go_and_the_rest_stays(tmp_path: Path) -> None:
    (tmp_path / ".tmp-file").write_text("x")
    (tmp_path / ".tmp-folder" / "deep").mkdir(parents=True)
    (tmp_path / "kept").write_text("x")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / ".tmp-deep").touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "none")
    assert not (tmp_path / "below" / ".tmp-deep").exists()
    (tmp_path / "below").rmdir()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
