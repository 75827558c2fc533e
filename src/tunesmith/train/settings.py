"""The recipe's section `train`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class TrainSettings(BaseModel):
    """How the weights are trained, whatever the task and method."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    epochs: float = Field(3.0, gt=0)
    """Passes over the training split; may be a fraction."""
    steps: int | None = Field(None, ge=1)
    """Updates in all; stands in for `epochs` where given."""
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = 32
    """Examples in one update of the weights; `auto` finds the largest that fits into memory, up to 256."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Examples that go through the model at once; `batch_size` where not given. Smaller needs less memory, and
    changes nothing.
    """
    learning_rate: float | None = Field(None, gt=0)
    """Peak rate; the method's own default where not given."""
    weight_decay: float = Field(0.01, ge=0)
    """AdamW's decay of weights; never applied to biases and norms."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of an update's gradient; a larger gradient is scaled down to it."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """AdamW with its moments in 32 bits or, by the extra `quantize`, in 8; the paged kind lets them wait in the main
    memory when a GPU's is full.
    """
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the matrix products; `auto` measures which is fast. Weights stay in float32."""
    activation_checkpointing: bool = False
    """Whether blocks are computed again in the backward pass instead of being kept: less memory, more time."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train."""
    seed: int = Field(0, ge=0)
    """Start of every random number of the run."""
    evaluate_every: int | None = Field(None, ge=1)
    """Updates between evaluations on the validation split; once an epoch where not given."""
    checkpoint_every: int | None = Field(None, ge=1)
    """Updates between checkpoints; where not given, at every evaluation and whenever ten minutes have passed."""
    log_every: int = Field(10, ge=1)
    """Updates between lines of the training log."""

    @model_validator(mode="after")
    def _micro_batches_fill_batches(self) -> TrainSettings:
        if self.micro_batch_size is None:
            return self
        if self.batch_size == "auto":
            raise ValueError("batch_size auto is the largest that goes through at once: leave micro_batch_size out")
        if self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}; "
                "choose one that does"
            )
        return self

    @property
    def size(self) -> int:
        """Examples in one update, once `auto` has been settled."""
        assert self.batch_size != "auto"
        return self.batch_size
