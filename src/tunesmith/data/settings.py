"""The recipe's section `data`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tunesmith.core.errors import nearest

LARGEST_SHARE = 0.5
LARGEST_SUM = 0.9


class Mixed(BaseModel):
    """A further training file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    file: str
    """A file of rows, or a folder, as `train` names one."""
    weight: float = Field(1.0, gt=0, allow_inf_nan=False)
    """How many of its examples are trained on for each one of the first file, whose weight is 1."""

    @model_validator(mode="before")
    @classmethod
    def _spelled(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"file": value}
        unknown = [str(key) for key in value if key not in cls.model_fields] if isinstance(value, dict) else []
        if unknown:
            raise ValueError(f"'{unknown[0]}' is unknown. {nearest(unknown[0], cls.model_fields)}")
        return value

    @field_validator("file")
    @classmethod
    def _filled(cls, value: str) -> str:
        return _not_blank(value)


class DataSettings(BaseModel):
    """Which rows train, and which rows judge."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    train: str
    """A file of rows (.csv, .tsv, .jsonl, .json, .parquet, most of them also .gz), a folder with `train.*` in it,
    or one of images, with a folder a class.
    """
    mix: list[Mixed] = []
    """Further training files, each `{file: FILE, weight: 1.0}` or a name alone; the file in `train` has the weight 1.
    An epoch has as many examples as all files have rows, of each file in the share of its weight. No other split is
    split off them.
    """
    validation: float | str | None = 0.1
    """Rows that choose among models: a share split off the training file, a file, or null for none."""
    test: float | str | None = 0.1
    """Rows that judge the finished model: a share split off the training file, a file, or null for none."""
    split_seed: int = 0
    """Which rows a share takes; the same seed always takes the same rows."""
    order_seed: int | None = Field(None, ge=0)
    """In which order training rows come, and what is drawn anew for each of them in every epoch; that of `train.seed`
    where not given.
    """
    near_duplicates: bool = True
    """Whether to look for validation and test rows that nearly repeat a training row."""
    leaks: Literal["drop", "keep", "refuse"] = "drop"
    """What happens to validation and test rows whose exact text stands in training too; they are always counted."""

    @field_validator("train", "validation", "test")
    @classmethod
    def _filled(cls, value: float | str | None) -> float | str | None:
        if isinstance(value, str):
            return _not_blank(value)
        if isinstance(value, float | int) and not 0 < value <= LARGEST_SHARE:
            raise ValueError(
                f"{value!r} is out of range: a share must be more than 0 and at most {LARGEST_SHARE}; "
                "null for no such split"
            )
        return value

    @field_validator("mix", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        # One file needs no list, and null means none, as in other lists of a recipe.
        return [] if value is None else [value] if isinstance(value, str | dict) else value

    @model_validator(mode="after")
    def _enough_left(self) -> DataSettings:
        total = share(self.validation) + share(self.test)
        if total >= LARGEST_SUM:
            raise ValueError(
                f"validation {self.validation} and test {self.test} take {total:g} of the training file: "
                f"together they must be less than {LARGEST_SUM}"
            )
        return self

    def ordered_by(self, seed: int) -> int:
        """The seed of the order of training rows in a run of this `seed`."""
        return seed if self.order_seed is None else self.order_seed


def share(value: float | str | None) -> float:
    """The share of the training file that a split takes: 0 where it is a file, or none."""
    return float(value) if isinstance(value, float | int) else 0.0


def _not_blank(path: str) -> str:
    if not path.strip():
        raise ValueError("is blank: must be the path of a file")
    return path
