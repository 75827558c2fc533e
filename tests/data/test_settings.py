"""The section `data`: shares and their limits."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tunesmith.core.sentences import told
from tunesmith.data.settings import DataSettings, Mixed, share


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


def test_a_further_file_may_be_a_bare_name() -> None:
    settings = DataSettings.model_validate({"train": "a.csv", "mix": ["b.csv", {"file": "c.csv", "weight": 2}]})
    assert [(one.file, one.weight) for one in settings.mix] == [("b.csv", 1.0), ("c.csv", 2.0)]
    assert DataSettings.model_validate(settings.model_dump()) == settings
    for alone in ("b.csv", {"file": "b.csv"}):
        assert DataSettings.model_validate({"train": "a.csv", "mix": alone}).mix == settings.mix[:1]
    assert DataSettings.model_validate({"train": "a.csv", "mix": None}).mix == DataSettings(train="a.csv").mix == []
    assert all(field.description for field in told(Mixed).values())


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ([{"file": "b.csv", "weight": 0}], "greater than 0"),
        ([{"file": "b.csv", "weight": -1.0}], "greater than 0"),
        ([{"file": "b.csv", "weight": float("inf")}], "finite number"),
        ([{"file": "b.csv", "weight": float("nan")}], "finite number"),
        ([{"file": "b.csv", "weight": "2"}], "valid number"),
        ([{"file": " "}], "is blank: must be the path of a file"),
        ([""], "is blank: must be the path of a file"),
        ([{"file": "b.csv", "wieght": 2.0}], "'wieght' is unknown. Did you mean 'weight'"),
        ([{"weight": 2.0}], "Field required"),
        (3, "valid list"),
        ([3], "valid dictionary"),
    ],
)
def test_what_is_no_further_file_is_refused(mix: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DataSettings.model_validate({"train": "a.csv", "mix": mix})
