"""What a suite says in the place of something that it can't measure; that is no failure."""

from __future__ import annotations

from tunesmith.core.notes import note
from tunesmith.core.panel import Table


def unmeasured(what: str, why: str) -> Table:
    """A panel that says why; it is said as a note too."""
    note(f"{what}: not measured, because {why}.")
    return Table(f"{what}: not measured", ["why"], [[f"Because {why}."]])
