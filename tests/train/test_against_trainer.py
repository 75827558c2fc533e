"""Our loop against transformers' Trainer: the same batches, the same start, no dropout: the same weights at the end.

Trainer gets whole batches also where we accumulate: with gradient_accumulation_steps=4 its gradients of a BERT classifier
are four times too large (transformers 5.23).
"""

from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import SequentialSampler
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from tests import toy
from tunesmith.core.rows import take
from tunesmith.core.seeding import seed_of
from tunesmith.train.batches import order

ROWS, EPOCHS, BATCH = 64, 3, 8


class InOrder(Trainer):
    """Trainer on rows in the order they have."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


@pytest.mark.parametrize("micro", [BATCH, BATCH // 4])
def test_the_trained_weights_are_trainers(micro: int, tmp_path: Path) -> None:
    settings = {"batch_size": BATCH, "micro_batch_size": micro, "epochs": EPOCHS, "learning_rate": 3e-3}
    ours, theirs = toy.prepared({"train": settings}, ROWS), toy.prepared({"train": settings}, ROWS)
    for toyed in (ours, theirs):
        toy.quiet(toyed.training.model)
    toy.train(ours, tmp_path / "ours")
    worker = InOrder(
        theirs.training.model,
        TrainingArguments(
            str(tmp_path / "theirs"),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=3e-3,
            warmup_steps=0.1,
            weight_decay=0.01,
            max_grad_norm=1.0,
            lr_scheduler_type="linear",
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=in_our_order(theirs),
        data_collator=DataCollatorWithPadding(theirs.backbone.tokenizer),
    )
    worker.train()
    expected = dict(theirs.training.model.named_parameters())
    moved = max((p - expected[name]).abs().max().item() for name, p in ours.training.model.named_parameters())
    assert moved < 2e-5, moved


def in_our_order(toyed: Any) -> list[dict[str, Any]]:
    """The rows of all epochs, one after the other, as our loop meets them."""
    batches, seed = toyed.batches, toyed.recipe.train.seed
    found = []
    for epoch in range(EPOCHS):
        for update in order(batches.lengths, BATCH, seed_of(seed, f"order {epoch}")):
            rows = take(batches.rows, update.tolist())
            for example in toyed.recipe.task.encode(rows, toyed.backbone.tokenizer, toyed.backbone.limit):
                ids = example["input_ids"]
                found.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": example["target"]})
    assert len({len(example["input_ids"]) for example in found}) > 3
    return found
