"""A comparison as values and as a table."""

from __future__ import annotations

from pathlib import Path

from tests.report.rivals import write_rival
from tunesmith import comparison
from tunesmith.report import compared


def test_the_table_has_the_best_first_and_what_it_cost(tmp_path: Path) -> None:
    folders = [
        write_rival(tmp_path / "dear", 0.6, seconds=120.0),
        write_rival(tmp_path / "good", 0.9, trained_parameters=5000, kept=0.7),
        write_rival(tmp_path / "small", 0.7, method="full"),
    ]
    found = comparison.compare(folders)
    (table,) = compared.summary(found)
    assert [row[0] for row in table.rows] == ["good", "small", "dear"]
    assert table.columns[-2:] == ["kept", "not dominated"] and [row[-1] for row in table.rows] == ["yes", "yes", "no"]
    assert table.rows[0][3:6] == ["5,000", "1 min", "1 GB"]
    lines = [str(line) for line in compared.told(found)]
    assert len([line for line in lines if "better than" in line]) >= 3


def test_a_cost_that_one_does_not_tell_counts_for_none(tmp_path: Path) -> None:
    folders = [write_rival(tmp_path / "a", 0.6), write_rival(tmp_path / "b", 0.9, peak_memory_bytes=None)]
    found = comparison.compare(folders)
    assert set(found.known_costs()) == {"trained_parameters", "seconds"}
    assert compared.cost(found.contenders[1], "peak_memory_bytes") == "–"
    assert found.undominated() == [False, True]
