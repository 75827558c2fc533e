"""transformers' Trainer, with peft for LoRA, on one case: `python benchmarks/peers/speed_trainer.py CASE`.

Nothing of ours is imported: what a process of it costs is what a script of a Trainer's user costs. `best` takes the
flags that make it fastest (bfloat16, batches of like length, the fused optimizer); without, its defaults.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers

Told = dict[str, Any]
PLAIN = "### Instruction:\n{prompt}\n\n### Response:\n"
IGNORED = -100
AUTO = {
    "classify": transformers.AutoModelForSequenceClassification,
    "fill": transformers.AutoModelForMaskedLM,
    "instruct": transformers.AutoModelForCausalLM,
    "text": transformers.AutoModelForCausalLM,
}


class Clock(transformers.TrainerCallback):  # type: ignore[misc]
    """Notes the time at the end of every epoch, and memory at the start and the end of the training."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.ends: list[float] = []
        self.held = self.peak = 0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """What is held once the model is loaded."""
        self.held = _held(self.device)

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """The end of an epoch."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.peak = _peak(self.device)

    def measured(self, examples: int) -> dict[str, float]:
        """Examples a second of every epoch after the first, and memory: at the peak, and beyond the loaded model."""
        later = len(self.ends) - 1
        rate = {"rate": examples * later / (self.ends[-1] - self.ends[0])} if later else {}
        return {**rate, "peak": float(self.peak), "added": float(self.peak - self.held)}


def _peak(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _held(device: str) -> int:
    if device == "cuda":
        return int(torch.cuda.memory_allocated())
    import psutil

    return int(psutil.Process().memory_info().rss)


def measure(case: Told) -> dict[str, float]:
    """Train, and answer the test rows where there are some."""
    transformers.set_seed(case["seed"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(case["model"])
    rows = read(case["train"]) if case["task"] not in ("fill", "text") else []
    names = sorted({row["label"] for row in rows if "label" in row})
    train = features(case, tokenizer, rows, names)
    with tempfile.TemporaryDirectory() as folder:
        clock = Clock(case["device"])
        trainer = transformers.Trainer(
            prepared(case, names, tokenizer),
            transformers.TrainingArguments(folder, **arguments(case)),
            train_dataset=train,
            data_collator=collator(case, tokenizer),
            callbacks=[clock],
        )
        trainer.train()
        found = clock.measured(len(train))
        if case["test"]:
            found["accuracy"] = answered(trainer, case, tokenizer, names, Path(folder) / "predictions.jsonl")
    return found


def answered(trainer: Any, case: Told, tokenizer: Any, names: list[str], out: Path) -> float:
    """Write the answers to the test rows; percent that are right."""
    rows = read(case["test"])
    trainer.args.train_sampling_strategy = "random"  # by like length, it would answer them in another order
    logits = trainer.predict(features(case, tokenizer, rows, names)).predictions
    answers = [{**row, "prediction": names[best]} for row, best in zip(rows, logits.argmax(-1), strict=True)]
    out.write_text("".join(json.dumps(answer) + "\n" for answer in answers), encoding="utf-8")
    return 100 * sum(answer["label"] == answer["prediction"] for answer in answers) / len(answers)


def arguments(case: Told) -> Told:
    """What both have in common, and the flags that make it fast."""
    cpu = case["device"] == "cpu"
    shared = {
        "num_train_epochs": case["epochs"],
        "per_device_train_batch_size": case["batch"],
        "per_device_eval_batch_size": 64,
        "learning_rate": case["rate"],
        "lr_scheduler_type": "linear",
        "warmup_steps": case["warmup"],
        "weight_decay": case["decay"],
        "max_grad_norm": case["clip"],
        "use_cpu": cpu,
        "seed": case["seed"],
        "eval_strategy": "no",
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "dataloader_pin_memory": not cpu,
    }
    best = {"bf16": fast_bfloat16(case["device"]), "train_sampling_strategy": "group_by_length",
            "optim": "adamw_torch_fused", "dataloader_num_workers": 0 if cpu else 4}  # fmt: skip
    return {**shared, **(best if case["best"] else {})}


def fast_bfloat16(device: str) -> bool:
    """Whether bfloat16 is faster here than float32: only then is it among the best flags."""
    able = torch.cpu.get_capabilities()
    return device != "cpu" or bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def prepared(case: Told, names: list[str], tokenizer: Any) -> Any:
    """The model with what trains chosen."""
    head = {"num_labels": len(names)} if names else {}
    model = AUTO[case["task"]].from_pretrained(case["model"], dtype=torch.float32, **head)
    if case["task"] == "classify":
        model.config.pad_token_id = tokenizer.pad_token_id
    method = case["method"]
    if method in ("lora", "lora_all"):
        return adapted(model, case)
    if method in ("head", "top"):
        model.base_model.requires_grad_(False)
    if method == "top":
        for block in list(stack(model))[-case["top"] :]:
            block.requires_grad_(True)
        if getattr(model.base_model, "pooler", None) is not None:
            model.base_model.pooler.requires_grad_(True)
    return model


def adapted(model: Any, case: Told) -> Any:
    """The model with peft's LoRA beside queries and values, or beside every linear of the blocks."""
    import peft

    inside = {id(module) for module in stack(model).modules()}
    linears = [name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear) and id(m) in inside]
    few = [name for name in linears if name.endswith(("query", "value", "q_proj", "v_proj"))]
    kind = "SEQ_CLS" if case["task"] == "classify" else "CAUSAL_LM"
    chosen = linears if case["method"] == "lora_all" else few
    return peft.get_peft_model(
        model, peft.LoraConfig(task_type=kind, r=case["rank"], lora_alpha=case["alpha"], target_modules=chosen)
    )


def stack(model: Any) -> torch.nn.ModuleList:
    """The list of blocks."""
    return max((m for m in model.modules() if isinstance(m, torch.nn.ModuleList)), key=len)


def read(path: str) -> list[Told]:
    """The rows of a JSON Lines file."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def features(case: Told, tokenizer: Any, rows: list[Told], names: list[str]) -> list[Told]:
    """Examples, encoded all at once beforehand; a list, which is quicker to read than a Dataset."""
    if case["task"] == "classify":
        found = tokenizer([row["text"] for row in rows], truncation=True, max_length=case["length"])
        labels = [names.index(row["label"]) for row in rows]
        # What a model does not take is left out, as Trainer does with the columns of a Dataset.
        keys = ("input_ids", "attention_mask")
        each = zip(*(found[key] for key in keys), labels, strict=True)
        return [dict(zip((*keys, "labels"), values, strict=True)) for values in each]
    if case["task"] == "instruct":
        lessons = [lesson(row, tokenizer, case["length"]) for row in rows]
        # What holds nothing to learn once it is cut is left out, as on the other side.
        return [one for one in lessons if any(label != IGNORED for label in one["labels"])]
    return blocks(case, tokenizer)


def lesson(row: Told, tokenizer: Any, limit: int) -> Told:
    """Prompt and answer as one text, the loss on the answer and its end."""
    before = tokenizer(PLAIN.format(prompt=row["prompt"]))["input_ids"]
    behind = [*tokenizer(row["completion"], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    ids, labels = (before + behind)[:limit], ([IGNORED] * len(before) + behind)[:limit]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def blocks(case: Told, tokenizer: Any) -> list[Told]:
    """Lines joined and cut into full blocks, as in run_mlm.py and run_clm.py."""
    lines = [line for line in Path(case["train"]).read_text(encoding="utf-8").split("\n") if line]
    masked = case["task"] == "fill"
    found = tokenizer(lines, return_special_tokens_mask=masked, verbose=False)
    ids = [token for one in found["input_ids"] for token in one]
    cuts = [slice(at, at + case["length"]) for at in range(0, len(ids) - case["length"] + 1, case["length"])]
    if not masked:
        return [{"input_ids": ids[cut], "labels": ids[cut]} for cut in cuts]
    special = [token for one in found["special_tokens_mask"] for token in one]
    return [{"input_ids": ids[cut], "special_tokens_mask": special[cut]} for cut in cuts]


def collator(case: Told, tokenizer: Any) -> Any:
    """What makes a batch of some examples."""
    if case["task"] == "classify":
        return transformers.DataCollatorWithPadding(tokenizer)
    if case["task"] == "fill":
        return transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
    return transformers.DataCollatorForSeq2Seq(tokenizer)


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
