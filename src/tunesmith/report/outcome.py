"""What a comparison comes to, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.core.panel import Figure
from tunesmith.evaluate.duels import Duel
from tunesmith.report.wording import interval, listing, number, words


@dataclass(frozen=True)
class Unit:
    """How differences are said: of shares in points (hundredths), of anything else as they are."""

    points: bool

    def amount(self, value: float) -> str:
        """A difference with its unit.

        >>> Unit(True).amount(0.0123), Unit(False).amount(0.25)
        ('1.2 points', '0.250')
        """
        told = self.bare(value)
        return f"{told} point{'' if told == '1' else 's'}" if self.points else told

    def bare(self, value: float) -> str:
        """A difference without its unit."""
        if not self.points:
            return number(value)
        return f"{100 * value:.1f}".removesuffix(".0") if abs(value) >= 0.001 else f"{100 * value:.2g}"


def unit_of(found: Sequence[Figure], higher_is_better: bool) -> Unit:
    """Points where the figures are shares of which more is better."""
    return Unit(higher_is_better and all(-1 <= figure.value <= 1 for figure in found))


def sentence(duel: Duel, names: Sequence[str], unit: Unit, pairs: int) -> str:
    """Which of two is better by how much, or what these rows could have shown."""
    better, worse, sign = (duel.first, duel.second, 1) if duel.difference >= 0 else (duel.second, duel.first, -1)
    low, high = sorted((sign * duel.low, sign * duel.high))
    one, other = names[better], names[worse]
    p = f"{'p after Holm' if pairs > 1 else 'p'} {probability(duel.adjusted)}"
    span = f"{unit.bare(low)} to {unit.bare(high)}; {p}"
    if duel.found:
        return f"{one} is better than {other} by {unit.amount(abs(duel.difference))} ({span})."
    if duel.smallest is None:
        return f"{one} and {other} do equally well on {duel.over}." if duel.difference == 0 else (
            f"{one} and {other}: no difference that {duel.over} can show ({span})."
        )  # fmt: skip
    return (
        f"{one} and {other}: no difference that these {duel.over.removeprefix('these ')} can show "
        f"({unit.amount(abs(duel.difference))}, {span}); the smallest that they could have shown is about "
        f"{unit.amount(duel.smallest)}."
    )


def lead(best: int, mains: Sequence[Figure], duels: Sequence[Duel], names: Sequence[str]) -> str:
    """The best of all, and which of the others can't be told from it."""
    main = mains[best]
    bounds = f" ({interval(main)})" if interval(main) else ""
    if len({number(figure.value) for figure in mains}) == 1:
        return f"All have the same {words(main.name)} on {main.split}: {number(main.value)}{bounds}."
    found = f"{names[best]} has the best {words(main.name)} on {main.split}: {number(main.value)}{bounds}."
    own = [duel for duel in duels if best in (duel.first, duel.second)]
    if not own:
        return f"{found} Whether that is more than chance was not tested."
    open_ = [names[duel.second if duel.first == best else duel.first] for duel in own if not duel.found]
    if open_:
        return f"{found} It can't be told from {listing(open_)}."
    others = "the other" if len(names) == 2 else "each of the others"
    return f"{found} It is better than {others}, beyond what chance explains."


def probability(value: float) -> str:
    """A p-value as it is written.

    >>> probability(0.0201), probability(0.00001)
    ('0.02', 'below 0.001')
    """
    return "below 0.001" if value < 0.001 else f"{value:.2g}"
