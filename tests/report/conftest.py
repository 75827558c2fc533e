"""A finished run folder, made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.report.sample import write_run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A small finished run with every kind of panel."""
    return write_run(tmp_path / "first-run", classes=12, steps=100)
