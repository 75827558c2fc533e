"""The recipe's section `data`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

LARGEST_SHARE = 0.5
LARGEST_SUM = 0.9


class DataSettings(BaseModel):
    """Which rows train, and which rows judge."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    train: str
    """A file of rows (.csv, .tsv, .jsonl, .json, .parquet, most of them also .gz), a folder with `train.*` in it,
    or one of images, with a folder a class.
    """
    validation: float | str | None = 0.1
    """Rows that choose among models: a share split off the training file, a file, or null for none."""
    test: float | str | None = 0.1
    """Rows that judge the finished model: a share split off the training file, a file, or null for none."""
    split_seed: int = 0
    """Which rows a share takes; the same seed always takes the same rows."""
    near_duplicates: bool = True
    """Whether to look for validation and test rows that nearly repeat a training row."""
    leaks: Literal["drop", "keep", "refuse"] = "drop"
    """What happens to validation and test rows whose exact text stands in training too; they are always counted."""

    @field_validator("train", "validation", "test")
    @classmethod
    def _filled(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is blank: must be the path of a file")
        if isinstance(value, float | int) and not 0 < value <= LARGEST_SHARE:
            raise ValueError(
                f"{value!r} is out of range: a share must be more than 0 and at most {LARGEST_SHARE}; "
                "null for no such split"
            )
        return value

    @model_validator(mode="after")
    def _enough_left(self) -> DataSettings:
        total = share(self.validation) + share(self.test)
        if total >= LARGEST_SUM:
            raise ValueError(
                f"validation {self.validation} and test {self.test} take {total:g} of the training file: "
                f"together they must be less than {LARGEST_SUM}"
            )
        return self


def share(value: float | str | None) -> float:
    """The share of the training file that a split takes: 0 where it is a file, or none."""
    return float(value) if isinstance(value, float | int) else 0.0
