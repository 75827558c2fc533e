"""Our loop against transformers' Trainer: same batches, same start, no dropout: the same weights at the end.

Trainer gets whole batches also where we accumulate: with gradient_accumulation_steps=4 its gradients of a BERT
classifier are four times too large (transformers 5.23).
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import SequentialSampler
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

from tests import toy
from tunesmith.core import surgery
from tunesmith.core.rows import take
from tunesmith.core.seeding import seed_of
from tunesmith.train.batches import order

ROWS, EPOCHS, BATCH, RATE = 64, 3, 8, 3e-3
SAME = 2e-5


class InOrder(Trainer):
    """Trainer on rows in the order they have."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)


def trained_by_trainer(model: Any, toyed: Any, folder: Path) -> None:
    arguments = TrainingArguments(
        str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        warmup_steps=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        lr_scheduler_type="linear",
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    collate = DataCollatorWithPadding(toyed.backbone.tokenizer)
    InOrder(model, arguments, train_dataset=in_our_order(toyed), data_collator=collate).train()


def built(**values: Any) -> Any:
    toyed = toy.prepared({**values, "train": {"epochs": EPOCHS, "learning_rate": RATE, **values["train"]}}, ROWS)
    toy.quiet(toyed.training.model)
    return toyed


@pytest.mark.parametrize("micro", [BATCH, BATCH // 4])
def test_the_trained_weights_are_trainers(micro: int, tmp_path: Path) -> None:
    settings = {"batch_size": BATCH, "micro_batch_size": micro}
    ours, theirs = built(train=settings), built(train=settings)
    toy.train(ours, tmp_path / "ours")
    trained_by_trainer(theirs.training.model, theirs, tmp_path / "theirs")
    expected = dict(theirs.training.model.named_parameters())
    moved = max((p - expected[name]).abs().max().item() for name, p in ours.training.model.named_parameters())
    assert moved < SAME


# peft asks transformers for a property by its old name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_a_trained_delta_is_that_of_trainer_and_peft(tmp_path: Path) -> None:
    ours = built(method={"name": "lora", "rank": 4, "alpha": 8.0}, train={"batch_size": BATCH})
    plain = built(train={"batch_size": BATCH}).training.model
    config = LoraConfig(task_type="SEQ_CLS", r=4, lora_alpha=8, target_modules=["query", "value"])
    theirs = get_peft_model(plain, config)
    start = {name.replace("base_model.model.", ""): tensor for name, tensor in theirs.named_parameters()}
    with torch.no_grad():
        for path, wrapper in surgery.wrappers(ours.training.model).items():
            wrapper.lora_A.copy_(start[f"{path}.lora_A.default.weight"])
    toy.train(ours, tmp_path / "ours")
    trained_by_trainer(theirs, ours, tmp_path / "theirs")
    for path, wrapper in surgery.wrappers(ours.training.model).items():
        assert (wrapper.lora_A - start[f"{path}.lora_A.default.weight"]).abs().max() < SAME
        assert (wrapper.lora_B - start[f"{path}.lora_B.default.weight"]).abs().max() < SAME
    head = ours.training.model.classifier.weight
    assert (head - start["classifier.modules_to_save.default.weight"]).abs().max() < SAME


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
