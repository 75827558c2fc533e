"""The language-model head that a backbone was pre-trained with, over its body before and after a training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

from tunesmith.core import anatomy
from tunesmith.core.finished import Asked, Finished
from tunesmith.models import shell

Kind = Literal["masked", "causal"]
CLASSES: dict[Kind, str] = {"masked": "AutoModelForMaskedLM", "causal": "AutoModelForCausalLM"}


@dataclass(frozen=True)
class LanguageModel:
    """kind: what it was pre-trained for. made: a language model whose head is as it was pre-trained, and its own body;
    None where the models that are asked are language models themselves.
    """

    kind: Kind
    made: nn.Module | None = None
    body: nn.Module | None = None

    def over(self, asked: Asked) -> nn.Module:
        """The language model over the body of a model; until it is asked for another one's, as it is one model."""
        if self.made is None:
            return asked.model.eval()
        # Its own body first: where another lacks a module, those it has are put into this one, and not into a third's.
        setattr(self.made, self.made.base_model_prefix, self.body)  # type: ignore[arg-type]
        return shell.over(self.made, anatomy.backbone(asked.model)).eval()


def of(finished: Finished) -> LanguageModel | str:
    """The head over either body, or a sentence that says why there is none."""
    config: Any = finished.now.model.config
    kind = kind_of(config)
    if kind is None:
        return f"The language a {config.model_type} model was pre-trained on is not measured here."
    if anatomy.output_layer(finished.now.model) is not None:
        return LanguageModel(kind)
    made = None if finished.headed is None else finished.headed((CLASSES[kind],))
    # A class that keeps head and body in one has no body that could stand in for another.
    if made is None or type(anatomy.backbone(made)) is not type(anatomy.backbone(finished.now.model)):
        return "The backbone can't be asked with the head that it was pre-trained with."
    if getattr(made.config, anatomy.FRESH, None):
        return "The backbone's file has no language-model head."
    return LanguageModel(kind, made, anatomy.backbone(made))


def kind_of(config: Any) -> Kind | None:
    """What models of a configuration are pre-trained for: to fill masks, or to go on; None for encoder-decoders, which
    do neither, and for those that read no text.
    """
    if getattr(config, "is_encoder_decoder", False):
        return None
    if type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False):
        return "masked"
    return "causal" if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING else None
