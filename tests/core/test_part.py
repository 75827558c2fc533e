"""The contract: words, settings that are checked and frozen, hooks that do nothing by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import Field, PrivateAttr, ValidationError

from tunesmith.core import sentences
from tunesmith.core.part import Method, Objective, Part, Schedule, Suite, Task


class L2Sp(Part):
    """A part.

    More.
    """

    strength: float = Field(0.1, ge=0)
    """How strong."""
    steps: int | None = None
    """How many."""

    _seen: list[int] = PrivateAttr(default_factory=list)


@pytest.mark.parametrize(
    ("name", "word"), [("Full", "full"), ("HeadOnly", "head_only"), ("L2Sp", "l2_sp"), ("Ia3", "ia3")]
)
def test_the_word_is_the_name_in_snake_case(name: str, word: str) -> None:
    assert type(name, (Part,), {"__doc__": "A part."}).word() == word  # type: ignore[attr-defined]


def test_settings_are_frozen_and_say_what_they_are() -> None:
    part = L2Sp(strength=1)
    assert part.strength == 1.0
    assert sentences.told(L2Sp)["strength"].description == "How strong."
    with pytest.raises(ValidationError, match="frozen"):
        part.strength = 2.0


@pytest.mark.parametrize(
    "values",
    [{"strenght": 1.0}, {"strength": "1"}, {"strength": True}, {"strength": float("nan")}, {"strength": float("inf")},
     {"strength": -1.0}, {"steps": 1.0}],
    ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        L2Sp(**values)


def test_what_a_part_learns_is_its_own() -> None:
    first, second = L2Sp(), L2Sp()
    first._seen.append(1)
    assert second._seen == []


@pytest.mark.parametrize("kind", [Part, Method, Objective, Schedule, Suite, Task])
def test_hooks_do_nothing_by_themselves(kind: type[Part]) -> None:
    part, nothing = kind(), Any
    stream = iter([1, 2])
    assert part.batches(stream) is stream  # type: ignore[arg-type, comparison-overlap]
    assert part.state() == {} and list(part.parameters()) == []
    for act in (part.modify, part.after_eval):
        assert act(nothing, nothing) is None  # type: ignore[operator, func-returns-value]
    for one in (part.setup, part.after_step, part.restore):
        assert one(nothing) is None  # type: ignore[operator, func-returns-value]
    if kind is not Task:
        assert part.loss(nothing) is None  # type: ignore[arg-type]
