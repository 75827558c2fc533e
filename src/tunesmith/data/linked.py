"""Rows that name files, such as images: where these are, and what tells one content from another."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from tunesmith.core import files
from tunesmith.core.mapped import Mapped
from tunesmith.data.faults import Faults
from tunesmith.data.formats import stream


def whole(path: Path, value: object) -> Path | None:
    """The file that a cell names, from the folder of the rows' file on; None where the cell holds no path."""
    if not isinstance(value, str) or not value.strip():
        return None
    return (path if path.is_dir() else path.parent) / value


def stamp(path: Path, names: Sequence[str]) -> str:
    """What the rows at `path` depend on: the rows, and place, size and time of every file that the columns `names`
    hold. Cheap, as no such file is read.
    """
    told = hashlib.sha256(f"{path.resolve()} {'' if path.is_dir() else files.sha256(path)}".encode())
    with stream(path, Faults(path)) as source:
        for _, raw in source.rows:
            for name in names:
                found = whole(path, raw.get(name))
                seen = found.stat() if found is not None and found.is_file() else None
                told.update(f"{raw.get(name)} {seen and (seen.st_size, seen.st_mtime_ns)}\n".encode())
    return told.hexdigest()


def sha256(path: object) -> str:
    """The hash of a file's bytes; empty where a row names none."""
    return files.sha256(Path(path)) if isinstance(path, str) else ""


def hash_of(role: str) -> str:
    """The name of the column that keeps the hash of a role's files."""
    return f"{role}.sha256"


def apart(stored: Mapped, roles: Sequence[str]) -> tuple[Mapped, Mapped]:
    """The rows with the paths of their files, and with the hashes in the paths' places."""
    if not roles:
        return stored, stored
    hashes = {hash_of(role): role for role in roles}
    names = stored.column_names
    kept, compared = ([name for name in names if name not in left] for left in (hashes, roles))
    return stored.select_columns(kept), stored.select_columns(compared).rename_columns(hashes)


def digest(contents: Mapped) -> str:
    """One hash of all rows and of the files that they name, wherever these lie."""
    told = hashlib.sha256()
    for batch in contents.tables(1000):
        for row in batch.select(sorted(batch.column_names)).to_pylist():
            told.update(f"{row}\n".encode())
    return told.hexdigest()
