"""Files that are whole or absent: atomic writes, hashes, JSON.

A file is written under a temporary name in its own folder, flushed to the disk (fsync) and renamed: a
process killed at any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith.core.errors import RunFolderError, UserError

TEMPORARY = ".tmp-"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSALS = (*FULL, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
"""What the system says of a disk or a path that the user must mend; any other error is a defect of ours."""


def sync(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes `path`, on failure it is removed."""
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            sync(temporary)
            # mkstemp makes files that only their owner may read.
            temporary.chmod(0o644)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def writing_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes `path`, on failure it is removed.

    A `path` that exists and is not empty is refused, unless it is to be replaced.
    """
    with _explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                sync(file)
                # Some libraries write files that only their owner may read.
                file.chmod(0o755 if file.is_dir() else 0o644)
            sync(temporary)
            temporary.chmod(0o755)
            if replace and path.exists():
                old = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
                path.rename(old / path.name)
                temporary.rename(path)
                shutil.rmtree(old)
            else:
                temporary.rename(path)
            sync(path.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically, as UTF-8."""
    with writing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically, as indented JSON; numbers that JSON has not become null."""
    write_text(path, json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value: Any) -> Any:
    """The value with null for every NaN and infinity in it, which JSON can't hold."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def read_json(path: Path) -> Any:
    """Read one JSON file; a file that is missing or broken raises RunFolderError with its path."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"The file {path} is missing.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunFolderError(f"The file {path} is damaged: {error}.") from None


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Whatever inside finds no sense in the values of a file that was read is damage of that file."""
    try:
        yield
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunFolderError(f"The file {path} is damaged: {error!r}.") from error


def check_writable(path: Path) -> None:
    """Refuse, before any work is done for it, a path that could not be written. Raises RunFolderError."""
    with _explained(path):
        path.exists()
        above = next(folder for folder in path.absolute().parents if folder.exists())
        if not above.is_dir():
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(above, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed process left under temporary names in `folder` and below it."""
    for leftover in list(folder.rglob(f"{TEMPORARY}*")):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def explain_disk(error: OSError, path: Path) -> RunFolderError:
    """The message for a write that the system refused."""
    if error.errno in FULL:
        return RunFolderError(
            f"The disk is full: {path} could not be written.",
            hint="Free some space; what was written before is whole, and `tunesmith resume` goes on from it.",
        )
    return RunFolderError(
        f"{path} could not be written: {error.strerror or error}.",
        hint="Check that the folder exists and that you may write to it, or give another one with --out.",
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explain_disk(error, path) from error
    except Exception as error:
        # safetensors reports the system's refusal as an exception of its own that carries only the text.
        for number in FULL:
            if f"os error {number}" in str(error):
                raise explain_disk(OSError(number, os.strerror(number)), path) from error
        raise
