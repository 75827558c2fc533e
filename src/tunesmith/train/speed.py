"""The recipe's section `speed`: which shortcuts a run takes. None changes what is computed, within rounding, but for
the two that say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PLAIN: dict[str, Any] = {
    "unpadded": False,
    "fused": False,
    "unread": False,
    "fast_dropout": False,
    "touched_rows": False,
    "frozen_dropout": True,
    "frozen_megabytes": 0,
    "keep_memory": False,
    "ahead": 0,
    "compile": False,
}


class SpeedSettings(BaseModel):
    """What makes a run fast."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    shortcuts: Literal["auto", "plain"] = "auto"
    """`plain` switches every shortcut off that the recipe does not name; the bare word `speed: plain` is the same."""
    unpadded: bool = True
    """Whether blocks see real tokens alone, as one row; where a backbone can't, batches are padded."""
    fused: bool = True
    """Whether blocks of a known structure run as one hand-written function, after a check against the original."""
    unread: bool = True
    """Whether what nothing reads is left out: tokens after the last block, and scores of words without loss."""
    fast_dropout: bool = True
    """Whether dropout's masks come from a fast generator with 8 bits an element; another draw than torch's."""
    touched_rows: bool = True
    """Whether the rows of embeddings that no batch has touched yet are left out of gradient and update."""
    frozen_dropout: bool = False
    """Whether blocks below everything that trains drop out too; without, they are a fixed function of the text."""
    frozen_megabytes: int = Field(2048, ge=0)
    """Most megabytes for what frozen lower blocks gave, kept for later epochs; 0 computes it every time."""
    keep_memory: bool = True
    """Whether memory is kept between steps instead of being given back to the system (Linux)."""
    ahead: int = Field(2, ge=0)
    """How many updates are prepared ahead by another thread."""
    compile: bool | Literal["auto"] = "auto"
    """Whether torch.compile translates the model; `auto` where it pays after its own time."""
    offload: bool = False
    """Whether what the backward pass needs waits in the main memory: less memory on a GPU, more time."""

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        plain = isinstance(values, Mapping) and values.get("shortcuts") == "plain"
        return {**PLAIN, **values} if plain else values
