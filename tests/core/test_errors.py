"""Messages: the tree, its exit statuses, the nearest word, faults told together."""

from __future__ import annotations

import pytest

from tunesmith.core import errors
from tunesmith.core.errors import DataError, TunesmithError, UserError, nearest, raise_faults, raise_together


def test_the_tree_and_its_exit_statuses() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TunesmithError)]
    drawn = [line for line in (errors.__doc__ or "").splitlines() if "Error " in line]
    assert len(drawn) == len(kinds)
    for kind in kinds:
        assert any(f" {kind.__name__} " in f" {line.strip(' ├└─│')} " for line in drawn)
        assert kind.exit_status == (2 if issubclass(kind, UserError) else 1)
    assert issubclass(UserError, ValueError)
    assert issubclass(errors.MissingExtraError, ImportError)


def test_a_hint_stands_below_the_message() -> None:
    error = DataError("The file is empty.", hint="Give another one.")
    assert str(error) == "The file is empty.\nhint: Give another one."
    assert str(DataError("The file is empty.")) == "The file is empty."


@pytest.mark.parametrize(
    ("word", "known", "sentence"),
    [
        ("lorra", ["lora", "full"], "Did you mean 'lora'? Known: full, lora."),
        ("xyz", ["lora", "full"], "Known: full, lora."),
        ("", ["lora"], "Known: lora."),
        ("lora", [], "Known: none."),
    ],
)
def test_the_nearest_word_comes_first(word: str, known: list[str], sentence: str) -> None:
    assert nearest(word, known) == sentence


def test_faults_are_raised_together() -> None:
    raise_faults(DataError, "Wrong:", [])
    with pytest.raises(DataError) as caught:
        raise_faults(DataError, "Wrong:", ["line 2: blank", "line 3: blank"], hint="Fill them.")
    assert caught.value.message == "Wrong:\n  - line 2: blank\n  - line 3: blank"
    assert caught.value.hint == "Fill them."


@pytest.mark.parametrize(("total", "more"), [(0, 5), (1000, 980)])
def test_many_faults_are_counted(total: int, more: int) -> None:
    with pytest.raises(DataError) as caught:
        raise_faults(DataError, "Wrong:", [f"line {n}" for n in range(25)], total=total)
    lines = caught.value.message.split("\n")
    assert len(lines) == 1 + errors.SHOWN_FAULTS + 1
    assert lines[-1] == f"  - … and {more} more"


def test_errors_of_several_files_are_raised_together() -> None:
    raise_together([])
    one, other = DataError("a.csv is blank", hint="Fill it."), DataError("b.csv is blank", hint="Fill it.")
    with pytest.raises(DataError) as caught:
        raise_together([one])
    assert caught.value is one
    with pytest.raises(DataError) as caught:
        raise_together([one, other])
    assert str(caught.value) == "a.csv is blank\nb.csv is blank\nhint: Fill it."
