"""Which column of a file plays which role."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tunesmith.core.column import Column
from tunesmith.core.errors import nearest
from tunesmith.data.faults import Faults


def match(names: Sequence[str], columns: Sequence[Column], *, path: Path, need_targets: bool = True) -> dict[str, str]:
    """Role -> the file's column. Raise DataError with every role that has none.

    A named column must exist; otherwise the first of the likely names that the file has (in any case of letters) and
    that no other role has taken. Targets are left out where they are not needed.
    """
    faults = Faults(path)
    found = find(names, columns, faults=faults, need_targets=need_targets)
    faults.raise_all()
    return found


def find(
    names: Sequence[str], columns: Sequence[Column], *, faults: Faults, need_targets: bool = True
) -> dict[str, str]:
    """As `match`, but faults are only collected, and roles without a column are left out."""
    wanted = [column for column in columns if need_targets or not column.target]
    # Named columns first, so that no role finds by chance what another asks for by name.
    found = _named(names, [column for column in wanted if column.name is not None], faults)
    for column in wanted:
        if column.name is not None:
            continue
        free = {name.lower(): name for name in reversed(names) if name not in found.values()}
        likely = next((free[name.lower()] for name in column.likely if name.lower() in free), None)
        if likely is None and column.optional:
            continue
        if likely is None:
            tried = ", ".join(column.likely) or "none"
            faults.add(
                f"no column for the role '{column.role}' (looked for: {tried}); the file's columns: {', '.join(names)}",
                hint=_mapping(column.role),
            )
        else:
            found[column.role] = likely
    return {column.role: found[column.role] for column in wanted if column.role in found}


def inputs(columns: Sequence[Column]) -> list[str]:
    """The roles of the texts that an answer is given to; all roles where there is none such."""
    roles = [column.role for column in columns if not column.target and column.storage != "number"]
    return roles or [column.role for column in columns]


def _named(names: Sequence[str], columns: Sequence[Column], faults: Faults) -> dict[str, str]:
    found: dict[str, str] = {}
    for column in columns:
        name = column.name or ""
        if name not in names:
            faults.add(
                f"no column '{name}' for the role '{column.role}'. {nearest(name, names)}", hint=_mapping(column.role)
            )
        elif name in found.values():
            faults.add(
                f"column '{name}' is given to two roles; '{column.role}' needs another", hint=_mapping(column.role)
            )
        else:
            found[column.role] = name
    return found


def _mapping(role: str) -> str:
    return (
        f"Name the column in the recipe (task: {{name: …, {role}: COLUMN}}) or with --set task.{role}=COLUMN; for a "
        "finished run, rename it in the file. If the columns listed are values, the file lacks its header line."
    )
