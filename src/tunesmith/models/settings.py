"""The recipe's section `model`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ModelSettings(BaseModel):
    """Which pre-trained model to start from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    name: str = Field("builtin:minilm", min_length=1)
    """A hub name, a folder, or `builtin:` with the name of a model that comes along."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The type its weights are loaded in; training in lower precision is `train.precision`."""
    quantize: Literal["nf4", "int8"] | None = None
    """Whether the linears of its body are stored in 4 bits (`nf4`) or 8 (`int8`): for methods that leave them as they
    are.
    """
