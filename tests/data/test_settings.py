"""The section `data`: shares and their limits."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunesmith.core.sentences import told
from tunesmith.data.settings import DataSettings, share


def test_defaults_split_off_a_tenth_each() -> None:
    settings = DataSettings(train="rows.csv")
    assert (settings.validation, settings.test, settings.leaks) == (0.1, 0.1, "drop")


@pytest.mark.parametrize("value", [0.0, -0.1, 0.51, 1.0, 0])
def test_a_share_out_of_range_is_refused(value: float) -> None:
    with pytest.raises(ValidationError, match=r"out of range: a share must be more than 0 and at most 0\.5"):
        DataSettings(train="rows.csv", test=value)


def test_shares_that_leave_too_little_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"take 0\.9 of the training file: together they must be less than 0\.9"):
        DataSettings(train="rows.csv", validation=0.5, test=0.4)


def test_a_blank_path_and_an_unknown_key_are_refused() -> None:
    with pytest.raises(ValidationError, match="is blank"):
        DataSettings(train=" ")
    with pytest.raises(ValidationError, match="Extra inputs"):
        DataSettings(train="rows.csv", valid=0.1)  # type: ignore[call-arg]


def test_every_setting_has_its_sentence() -> None:
    assert all(field.description for field in told(DataSettings).values())


def test_only_numbers_are_shares() -> None:
    assert [share(0.2), share("dev.csv"), share(None)] == [0.2, 0.0, 0.0]
