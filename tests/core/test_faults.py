"""What pydantic found, in our words."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tunesmith.core.faults import dotted, faults_of, located


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    depth: int = 1


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    count: int = Field(1, ge=1, le=9)
    rate: float = Field(0.1, gt=0, lt=1)
    name: str = "a"
    on: bool = False
    kind: Literal["left", "right"] = "left"
    weights: Literal["balanced"] | dict[str, float] | None = None
    words: list[str] = []
    inner: Inner = Inner()
    limit: int | None = None

    @field_validator("name")
    @classmethod
    def _short(cls, value: str) -> str:
        if len(value) > 3:
            raise ValueError(f"{value!r} is too long")
        return value


def faults(**values: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    return faults_of(caught.value, Settings.model_fields)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"count": "3"}, "count: '3' is not a whole number"),
        ({"count": 2.5}, "count: 2.5 is not a whole number"),
        ({"count": True}, "count: true is not a whole number"),
        ({"count": None}, "count: null is not a whole number"),
        ({"count": 0}, "count: 0 is out of range: must be at least 1"),
        ({"count": 10}, "count: 10 is out of range: must be at most 9"),
        ({"rate": 0.0}, "rate: 0.0 is out of range: must be more than 0"),
        ({"rate": 1.0}, "rate: 1.0 is out of range: must be less than 1"),
        ({"rate": "high"}, "rate: 'high' is not a number"),
        ({"rate": float("nan")}, "rate: nan is not a finite number"),
        ({"name": 3}, "name: 3 is not a text"),
        ({"name": "long"}, "name: 'long' is too long"),
        ({"on": "yes"}, "on: 'yes' is not true or false"),
        ({"words": "a"}, "words: 'a' is not a list"),
        ({"kind": "lefft"}, "kind: 'lefft' is not allowed. Did you mean 'left'? Known: left, right."),
        ({"limit": "x"}, "limit: 'x' is not a whole number"),
        ({"weights": {"a": "x"}}, "weights.a: 'x' is not a number"),
        ({"inner": {"depth": "x"}}, "inner.depth: 'x' is not a whole number"),
        ({"cuont": 3}, "cuont: is unknown. Did you mean 'count'?"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_sentences(values: dict[str, Any], sentence: str) -> None:
    (found,) = faults(**values)
    assert found.startswith(sentence)


def test_a_wrong_word_of_several_kinds_is_told_as_a_word() -> None:
    (found,) = faults(weights="balancd")
    assert found.startswith("weights: 'balancd' is not allowed. Did you mean 'balanced'?")
    assert "mapping" not in found


@pytest.mark.parametrize("text", ["1e-5", "2E-4", "1e5", "1.5e5"])
def test_a_number_that_yaml_reads_as_text_is_explained(text: str) -> None:
    # What is to be written instead must be what YAML reads as that number.
    import yaml

    (found,) = faults(rate=text)
    assert f"YAML reads {text} as text: write " in found
    advice = found.rpartition("write ")[2].rstrip(")")
    assert yaml.safe_load(advice) == float(text)


def test_all_faults_are_found_at_once() -> None:
    assert len(faults(count=0, rate="x", cuont=1)) == 3


def test_places_are_paths_of_keys() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings(words=["a", 3], inner={"depth": "x"})  # type: ignore[arg-type, list-item]
    assert [path for path, _ in located(caught.value, Settings.model_fields)] == [("words", 1), ("inner", "depth")]
    assert dotted(("words", 1)) == "words.1"
