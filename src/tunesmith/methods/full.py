"""Full fine-tuning: every weight trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from pydantic import Field
from torch import nn
from transformers import PreTrainedModel

from tunesmith.core import anatomy, surgery
from tunesmith.core.part import Method
from tunesmith.methods.top_blocks import top


class Full(Method):
    """Train every weight of the backbone and its head.

    Formula: w <- w - rate * AdamW(gradient of the loss), for all w. With `reinit` the weights of the top blocks, and of
    the pooler, start where pre-training started them: BERT's at N(0, 0.02^2), biases 0, norms 1.
    Symbols: w, every parameter. Shapes: unchanged.
    Paper: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2019, section 3.2. Zhang et al.,
    "Revisiting Few-sample BERT Fine-tuning", 2021, for `reinit`: they choose 1 to 6 blocks. No deviation.
    """

    reinit: int = Field(0, ge=0)
    """How many of the top blocks (of an encoder-decoder: the decoder's) start anew, and with them the pooler."""

    def modify(self, model: nn.Module, generator: torch.Generator) -> None:
        """Let everything train; more blocks to start anew than there are raise ModelError."""
        if self.reinit:
            pooler = getattr(anatomy.backbone(model), "pooler", None)
            above = [pooler] if isinstance(pooler, nn.Module) else []
            start_anew(cast(PreTrainedModel, model), [*top(model, self.reinit, "method.reinit"), *above], generator)
        surgery.thaw(model)

    def expected(self, model: nn.Module) -> int:
        """All parameters."""
        return surgery.count(model)[1]


@torch.no_grad()
def start_anew(model: PreTrainedModel, modules: Sequence[nn.Module], generator: torch.Generator) -> None:
    """Draw the weights of some of the model's modules again, by the model's own scheme and from `generator` alone."""
    seed = int(torch.randint(2**62, (1,), generator=generator))
    # The model's scheme draws from the global generator, so that is lent to it with a seed of ours.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in modules:
            for parameter in module.parameters():
                # transformers marks what it read from a file, and leaves that alone.
                parameter._is_hf_initialized = False  # type: ignore[attr-defined]
            # Children first: GPT-2's blocks give some of their children's weights another scale.
            module.apply(model._init_weights)
