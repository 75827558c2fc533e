"""From the recipe's section `data` to checked splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tunesmith.core.column import Column
from tunesmith.core.mapped import Mapped
from tunesmith.core.notes import note, warn
from tunesmith.core.panel import Panel
from tunesmith.core.rows import Rows, judging
from tunesmith.data import mix, overview
from tunesmith.data.check import check
from tunesmith.data.columns import inputs
from tunesmith.data.duplicates import Overlap, Repeats, counted, overlaps, repeats, sentence, without_leaks
from tunesmith.data.near_splits import near_panels
from tunesmith.data.read import read_all
from tunesmith.data.settings import DataSettings, share
from tunesmith.data.slices import Slice, divide, whole
from tunesmith.data.sources import files_of, resolve


@dataclass(frozen=True)
class Splits:
    """The rows that train and the rows that judge; each row has its roles and `line`.

    columns: role -> column of the (first) training file. sources: split -> path, sha256 of the file, rows of the split;
    further training files are `mix.0` and so on, and the rows of `train` then say their `file`. panels: what the report
    shows of the data.
    """

    train: Rows
    validation: Mapped | None
    test: Mapped | None
    columns: dict[str, str]
    sources: dict[str, dict[str, str | int]]
    panels: list[Panel] = field(default_factory=list)

    @property
    def judged(self) -> Path | None:
        """The file of the rows that judge, or None."""
        name = judging(self.sources)
        return None if name is None else Path(str(self.sources[name]["path"]))


def load(settings: DataSettings, columns: Sequence[Column]) -> Splits:
    """Read, split, clean and check; say what was done. Raise DataError with all that the user must mend."""
    settings = resolve(settings)
    tables = read_all(files_of(settings), columns)
    for table in tables.values():
        pairs = ", ".join(f"{role} = '{name}'" for role, name in table.columns.items())
        note(f"Columns of {table.path}: {pairs}.")
    files = whole(mix.completed(tables, columns), columns, seed=settings.split_seed)
    divided = divide(files, settings)
    training = mix.parts_of(divided["train"], files)
    raw = {**divided, "train": mix.joined(training)}
    shared = overlaps(raw)
    splits = without_leaks(raw, shared, leaks=settings.leaks)
    check(mix.merged(files), splits, columns=columns)
    repeated = repeats(splits["train"].scan)
    _say(settings, splits, repeated=repeated, shared=shared)
    panels = overview.panels(splits)
    if repeated.rows or shared:
        panels.append(overview.repetitions(repeated, shared, leaks=settings.leaks))
    # Of files that rows name only the bytes are compared, above.
    if settings.near_duplicates and not any(column.path for column in columns):
        panels += near_panels(splits, inputs(columns))
    held_out = {name: part for name, part in splits.items() if name != "train"}
    sources: dict[str, dict[str, str | int]] = {
        name: {"path": str(part.table.path), "sha256": part.table.sha256, "rows": len(part.scan)}
        for name, part in {**mix.named(training), **held_out}.items()
    }
    rows = {name: part.rows() for name, part in held_out.items()}
    return Splits(
        mix.rows_of(training), rows.get("validation"), rows.get("test"), training[0].table.columns, sources, panels
    )


def _say(settings: DataSettings, splits: Mapping[str, Slice], *, repeated: Repeats, shared: Sequence[Overlap]) -> None:
    counts = ", ".join(f"{len(part.scan):,} {name}" for name, part in splits.items())
    split_off = share(settings.validation) or share(settings.test)
    how = f" (split off {settings.train} by content, seed {settings.split_seed})" if split_off else ""
    note(f"Rows: {counts}{how}.")
    for overlap in shared:
        warn(f"{sentence(overlap)}: {'dropped' if settings.leaks == 'drop' else 'kept'}.")
    if repeated.rows:
        rows = counted(repeated.rows, "training row repeats", "training rows repeat")
        note(f"{rows} the text of an earlier one: kept.")
    if repeated.contradictions:
        first, second = repeated.lines[0]
        warn(
            counted(repeated.contradictions, "training text stands", "training texts stand")
            + f" with different answers, the first in lines {first} and {second}."
        )
