"""Finished runs compared: read, matched row by row, tested pair by pair, shown on one page."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from tunesmith.core.errors import RunFolderError
from tunesmith.core.files import check_writable
from tunesmith.evaluate import duels
from tunesmith.evaluate.duels import Duel
from tunesmith.evaluate.shared import SameRows, shared, task_of
from tunesmith.report import compared_page
from tunesmith.report.compared import Comparison
from tunesmith.report.contenders import (
    Contender,
    Finished,
    alike_but_for_seeds,
    contenders,
    gathered,
    split_of,
    told_groups,
)
from tunesmith.report.lead import FEW

PAGE = "compare.html"
PREDICTIONS = "predictions"
MACHINE = ("machine", "device")


def compare(folders: Sequence[Path]) -> Comparison:
    """Compare finished runs of one task. Raises RunFolderError with all that is in the way."""
    runs = gathered(folders)
    split, found = split_of(runs), contenders(runs)
    single = [one.runs[0] for one in found if not one.grouped]
    notes = [*told_groups(found), *alike_but_for_seeds(found)]
    rows = _shared(single, split) if len(single) > 1 else SameRows([], 0)
    notes += _on_rows(rows, single, split) if len(single) > 1 else []
    sign = 1 if runs[0].evaluation.higher_is_better else -1
    tested = [] if rows.barred else duels.adjusted(_duels(found, rows, split, runs[0].evaluation.metric, sign))
    return Comparison(
        metric=runs[0].evaluation.metric,
        higher_is_better=runs[0].evaluation.higher_is_better,
        split=split,
        contenders=found,
        duels=tested,
        rows=rows.rows or None,
        notes=[*notes, *_machines(runs)],
    )


def write(path: Path, found: Comparison) -> None:
    """Write the page of a comparison to a new file (`check_new`)."""
    check_new(path)
    compared_page.write(path, found)


def check_new(path: Path) -> None:
    """Refuse a file that can't be written or is there already. Raises RunFolderError."""
    check_writable(path)
    if path.exists():
        raise RunFolderError(f"{path} exists: it is not overwritten.", hint="Give another file with --out.")


def _shared(single: Sequence[Finished], split: str) -> SameRows:
    tasks = [task_of(run.record.folder, run.values["task"]) for run in single]
    files = [run.record.folder / PREDICTIONS / f"{split}.jsonl" for run in single]
    hashes = {run.hash_of(split) for run in single}
    return shared(tasks, files, len(hashes) == 1 and None not in hashes)


def _duels(found: Sequence[Contender], rows: SameRows, split: str, metric: str, sign: int) -> list[Duel]:
    single = [place for place, one in enumerate(found) if not one.grouped]
    tested = {}
    if rows.answered:
        for duel in duels.on_rows(dict(zip(single, rows.answered, strict=True)), metric, sign):
            tested[duel.first, duel.second] = duel
    for first, second in combinations(range(len(found)), 2):
        one, other = found[first], found[second]
        if one.grouped or other.grouped:
            values = (first, one.by_seed(split)), (second, other.by_seed(split))
            tested[first, second] = duels.over_runs(*values, sign)
        elif not rows.answered:
            told = duels.on_figures((first, one.main(split)), (second, other.main(split)), sign)
            if told is not None:
                tested[first, second] = told
    return [tested[pair] for pair in sorted(tested)]


def _on_rows(rows: SameRows, single: Sequence[Finished], split: str) -> list[str]:
    """On which rows single runs were compared."""
    if rows.barred:
        return [f"{rows.why} No pair is tested."]
    if rows.why:
        return [f"{rows.why} Their figures are compared as those of independent rows, which shows less."]
    counts = [_rows(run, split) for run in single]
    most = max((count for count in counts if count is not None), default=rows.rows)
    what = f"the same {rows.rows:,} {split} rows"
    if most > rows.rows:
        what = f"{rows.rows:,} {split} rows in common (of up to {most:,})"
    told = [f"All answered {what}: they are compared row by row."]
    if rows.rows < FEW:
        told.append(f"{rows.rows} rows vary too little when they are drawn again: intervals are too narrow.")
    return told


def _rows(run: Finished, split: str) -> int | None:
    about = ((run.record.environment or {}).get("data") or {}).get(split) or {}
    rows = about.get("rows")
    return rows if isinstance(rows, int) else None


def _machines(runs: Sequence[Finished]) -> list[str]:
    places = {tuple(str((run.record.environment or {}).get(key)) for key in MACHINE) for run in runs}
    if len(places) < 2:
        return []
    return ["They were trained on different machines: time and memory do not compare."]
