"""What a comparison of runs comes to, as values, sentences and a table; `compared_page.py` shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.text import Text

from tunesmith.core.panel import Cell, Figure, Table
from tunesmith.evaluate.duels import Duel
from tunesmith.report.contenders import Contender, differing
from tunesmith.report.fronts import undominated
from tunesmith.report.outcome import Unit, lead, sentence, unit_of
from tunesmith.report.wording import NOTHING, duration, interval, number, printable, size, title, words

COSTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "trained_parameters": ("parameters trained", number),
    "seconds": ("time", duration),
    "peak_memory_bytes": ("peak memory", size),
}
KEPT = "retention"


@dataclass(frozen=True)
class Comparison:
    """Contenders on one split, judged pair by pair. rows: how many all answered; None where they share none."""

    metric: str
    higher_is_better: bool
    split: str
    contenders: Sequence[Contender]
    duels: Sequence[Duel]
    rows: int | None = None
    notes: Sequence[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """What the contenders are called."""
        return [one.name for one in self.contenders]

    @property
    def mains(self) -> list[Figure]:
        """The main figure of each."""
        return [one.main(self.split) for one in self.contenders]

    @property
    def sign(self) -> int:
        """-1 where less of the main metric is better."""
        return 1 if self.higher_is_better else -1

    @property
    def ranked(self) -> list[int]:
        """The contenders by number, the best first."""
        return sorted(range(len(self.mains)), key=lambda place: -self.sign * self.mains[place].value)

    @property
    def unit(self) -> Unit:
        """How differences of the main metric are said."""
        return unit_of(self.mains, self.higher_is_better)

    @property
    def sentences(self) -> list[str]:
        """One a pair."""
        return [sentence(duel, self.names, self.unit, len(self.duels)) for duel in self.duels]

    @property
    def title(self) -> str:
        """What is compared."""
        return f"{sum(len(one.runs) for one in self.contenders)} runs of {self.contenders[0].runs[0].task} compared"

    @property
    def lead(self) -> str:
        """What it all comes to."""
        return lead(self.ranked[0], self.mains, self.duels, self.names)

    def kept(self) -> list[float | None]:
        """The retention score of each, where it was measured."""
        found = [[one.value for key, one in own.figures().items() if key[3] == KEPT] for own in self.contenders]
        return [values[0] if values else None for values in found]

    def known_costs(self) -> dict[str, list[float]]:
        """The costs that all contenders tell."""
        found = {name: [one.cost(name) for one in self.contenders] for name in COSTS}
        return {name: [v for v in row if v is not None] for name, row in found.items() if None not in row}

    def undominated(self) -> list[bool]:
        """Whether no other is at least as good in quality, every cost and what was kept, and better in one."""
        costs, kept = self.known_costs(), self.kept()
        axes = [[self.sign * figure.value for figure in self.mains], *([-v for v in row] for row in costs.values())]
        if None not in kept:
            axes.append([value for value in kept if value is not None])
        return undominated(list(zip(*axes, strict=True)))


def summary(found: Comparison) -> list[Table]:
    """The main figure and the costs of each contender, the best first, for a terminal."""
    kept = found.kept()
    measured = any(value is not None for value in kept)
    rows: list[list[Cell]] = []
    best = found.undominated()
    for place in found.ranked:
        one, main = found.contenders[place], found.mains[place]
        told = [cost(one, name) for name in COSTS]
        spare = [number(kept[place])] if measured else []
        rows.append([one.name, number(main.value), interval(main), *told, *spare, "yes" if best[place] else "no"])
    names = [COSTS[name][0] for name in COSTS]
    columns = ["run", words(found.metric), "interval", *names, *(["kept"] if measured else []), "not dominated"]
    return [Table(f"{title(found.metric)} on {found.split}", columns, rows)]


def told(found: Comparison) -> list[Text]:
    """What the runs come to, what every pair does, and what is to be known of it, as lines for a terminal."""
    return [Text(printable(one)) for one in ("", found.lead, *found.sentences, *found.notes)]


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison as JSON values."""
    best, kept = found.undominated(), found.kept()
    return {
        "metric": found.metric,
        "higher_is_better": found.higher_is_better,
        "split": found.split,
        "rows": found.rows,
        "lead": found.lead,
        "runs": [
            {
                "name": one.name,
                "folders": [str(run.record.folder) for run in one.runs],
                "value": main.value,
                "low": main.low,
                "high": main.high,
                **{name: one.cost(name) for name in COSTS},
                KEPT: kept[place],
                "not_dominated": best[place],
            }
            for place, (one, main) in enumerate(zip(found.contenders, found.mains, strict=True))
        ],
        "pairs": [
            {
                "first": found.names[duel.first],
                "second": found.names[duel.second],
                "better_by": duel.difference,
                "low": duel.low,
                "high": duel.high,
                "test": duel.test,
                "p": duel.p,
                "p_after_holm": duel.adjusted,
                "smallest": duel.smallest,
                "sentence": told,
            }
            for duel, told in zip(found.duels, found.sentences, strict=True)
        ],
        "differs": {key: dict(zip(found.names, row, strict=True)) for key, row in differing(found.contenders).items()},
        "notes": list(found.notes),
    }


def cost(one: Contender, name: str) -> str:
    """A cost as it is read."""
    value = one.cost(name)
    return NOTHING if value is None else COSTS[name][1](value)
