"""Comparisons in plain sentences."""

from __future__ import annotations

from dataclasses import replace

from tunesmith.core.panel import Figure
from tunesmith.evaluate.duels import Duel
from tunesmith.report.outcome import Unit, lead, probability, sentence, unit_of

DUEL = Duel(0, 1, 0.012, 0.003, 0.021, "test", 0.01, "872 rows", 0.005, adjusted=0.02, smallest=0.021)
NAMES = ["A", "B", "C"]
POINTS = Unit(True)


def test_which_is_better() -> None:
    told = "A is better than B by 1.2 points (0.3 to 2.1; p after Holm 0.02)."
    assert sentence(DUEL, NAMES, POINTS, 3) == told
    turned = replace(DUEL, first=1, second=0, difference=-0.012, low=-0.021, high=-0.003)
    assert sentence(turned, NAMES, POINTS, 3) == told
    assert "; p 0.02)" in sentence(DUEL, NAMES, POINTS, 1)


def test_what_the_rows_could_have_shown() -> None:
    assert sentence(replace(DUEL, adjusted=0.2, low=-0.003), NAMES, POINTS, 3) == (
        "A and B: no difference that these 872 rows can show (1.2 points, -0.3 to 2.1; p after Holm 0.2); the smallest "
        "that they could have shown is about 2.1 points."
    )
    alike = replace(DUEL, difference=0.0, low=0.0, high=0.0, adjusted=1.0, smallest=None)
    assert sentence(alike, NAMES, POINTS, 1) == "A and B do equally well on 872 rows."


def test_units() -> None:
    assert unit_of([Figure("accuracy", 0.4)], True).points and not unit_of([Figure("bleu", 31.0)], True).points
    assert not unit_of([Figure("rmse", 0.4)], False).points
    assert POINTS.amount(0.01) == "1 point" and POINTS.amount(0.00012) == "0.012 points"
    assert Unit(False).amount(2.5) == "2.500" and probability(1e-9) == "below 0.001"


def test_the_lead() -> None:
    mains = [Figure("accuracy", 0.8, low=0.7, high=0.9), Figure("accuracy", 0.7), Figure("accuracy", 0.6)]
    other = replace(DUEL, second=2)
    assert lead(0, mains[:2], [DUEL], NAMES[:2]) == (
        "A has the best accuracy on test: 0.800 (0.700 to 0.900). It is better than the other, beyond what chance "
        "explains."
    )
    assert lead(0, mains, [DUEL, other], NAMES).endswith("each of the others, beyond what chance explains.")
    assert lead(0, mains, [DUEL, replace(other, adjusted=0.3)], NAMES).endswith("It can't be told from C.")
    assert lead(0, [mains[0], mains[0]], [DUEL], NAMES[:2]).startswith("All have the same accuracy on test: 0.800")
    assert lead(0, mains, [], NAMES).endswith("was not tested.")
