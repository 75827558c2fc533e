"""Models of which the lower blocks are frozen, and batches for them."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, DistilBertConfig, PreTrainedConfig

from tunesmith.core import anatomy, registry
from tunesmith.core.layout import Layout
from tunesmith.core.unpadded import unpadded
from tunesmith.models.builtin import VOCABULARY, tiny_configs
from tunesmith.train.frozen import Report, frozen

DISTIL = DistilBertConfig(
    vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=64, max_position_embeddings=128, pad_token_id=0
)
CONFIGS = {**tiny_configs(), "distilbert": DISTIL}
FAMILIES = ["tiny-bert", "tiny-gpt2", "tiny-llama", "distilbert"]
RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "seq_classif_dropout")
RATES += ("embd_pdrop", "attn_pdrop", "resid_pdrop", "dropout_rate", "classifier_dropout")


def config_of(family: str, dropout: float) -> PreTrainedConfig:
    config = copy.deepcopy(CONFIGS[family])
    for name in RATES:
        if hasattr(config, name):
            setattr(config, name, dropout)
    config.num_labels, config.use_cache = 3, False
    return config


def model_of(family: str, trains: int = 0, dropout: float = 0.0) -> nn.Module:
    """A classifier of which the head and the top `trains` of two blocks train."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config_of(family, dropout))
    settings = {"name": "top_blocks", "count": trains} if trains else {"name": "head_only"}
    registry.build("methods", settings).modify(model, torch.Generator())
    return model.train()


def batch_of(*lengths: int, seed: int = 0, left: bool = False) -> dict[str, Tensor]:
    """Random texts of these lengths, padded, with classes."""
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    places = torch.arange(longest)
    mask = torch.stack([places >= longest - n if left else places < n for n in lengths]).long()
    ids = torch.randint(3, VOCABULARY, mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(len(lengths)) % 3}


BATCH = (3, 11, 5, 5, 7, 1)


def step(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The loss, and the gradients by name."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return {"": loss.detach()} | {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def close(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m)


class Counting:
    """Counts what runs in a block: the tokens of each call, and whether anything could drop out.

    The first call is the one by which the frozen part is found.
    """

    def __init__(self, block: nn.Module) -> None:
        self.forward, self.block = block.forward, block
        self.calls: list[int] = []
        self.training: set[bool] = set()

    def __call__(self, *given: Any, **named: Any) -> Any:
        layout = next((one for one in (*given, *named.values()) if isinstance(one, Layout)), None)
        self.calls.append(layout.tokens if layout is not None else -1)
        self.training |= {module.training for module in self.block.modules()}
        return self.forward(*given, **named)

    @property
    def tokens(self) -> list[int]:
        return self.calls[1:]


@contextmanager
def inside(model: nn.Module, megabytes: int = 8, dropout: bool = False) -> Iterator[tuple[Report, list[Counting]]]:
    """The model without padding, its blocks counted as something that sets their forward would, and frozen."""
    blocks = list(anatomy.blocks(model).values())
    with ExitStack() as stack:
        assert stack.enter_context(unpadded(model)) == ""
        counts = [Counting(block) for block in blocks]
        for block, count in zip(blocks, counts, strict=True):
            block.forward = count
            stack.callback(block.__dict__.pop, "forward")
        yield stack.enter_context(frozen(model, megabytes, dropout)), counts
        assert [block.forward for block in blocks] == counts
    assert not any("forward" in module.__dict__ for module in model.modules())
