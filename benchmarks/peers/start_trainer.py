"""Fine-tuning a classifier with transformers' Trainer, as a careful user would write it down: from nothing to the first
optimizer step. `python benchmarks/peers/start_trainer.py FILE MODEL FOLDER` prints a line when that step is done, and
trains no further.

A fast tokenizer over whole columns with the results kept by `datasets`, batches of like length padded to their longest,
bfloat16, the fused optimizer; one share of the rows for validation and one for the test, as in our run.
"""

from __future__ import annotations

import os
import sys

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

SHARE = 0.1
READY = "first step"


class Ready(TrainerCallback):  # type: ignore[misc]
    """Says when the first update is done, and ends the process there."""

    def on_step_end(self, *_: object, **__: object) -> None:
        """Called after every update."""
        print(READY, flush=True)
        os._exit(0)


def main(path: str, model: str, folder: str) -> None:
    """Load, encode, train."""
    rows = load_dataset("json", data_files=path, split="train").class_encode_column("label")
    rest = rows.train_test_split(SHARE, seed=0)
    splits = {"test": rest["test"], **rest["train"].train_test_split(SHARE / (1 - SHARE), seed=0)}
    tokenizer = AutoTokenizer.from_pretrained(model)

    def encode(batch: dict[str, list[str]]) -> dict[str, list[list[int]]]:
        return dict(tokenizer(batch["text"], truncation=True, max_length=512))

    train = splits["train"].map(encode, batched=True, remove_columns=["text"])
    held_out = splits["test"].map(encode, batched=True, remove_columns=["text"])
    classes = train.features["label"].names
    arguments = TrainingArguments(
        folder,
        num_train_epochs=3,
        per_device_train_batch_size=32,
        learning_rate=5e-5,
        optim="adamw_torch_fused",
        bf16=True,
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        report_to="none",
        seed=0,
    )
    worker = Trainer(
        AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(classes)),
        arguments,
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        callbacks=[Ready()],
    )
    worker.train()


if __name__ == "__main__":
    main(*sys.argv[1:])
