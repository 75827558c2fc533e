"""trl's SFTTrainer on running text, with the Trainer's flags: `python benchmarks/peers/speed_trl.py CASE`.

The blocks, the model and what of it trains are those of `speed_trainer.py`; loop, batches and loss are trl's.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import transformers
from datasets import Dataset

sys.path.insert(0, str(Path(__file__).parent))

import speed_trainer as shared


def measure(case: shared.Told) -> dict[str, float]:
    """Train."""
    import trl

    transformers.set_seed(case["seed"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(case["model"])
    blocks = shared.features(case, tokenizer, [], [])
    with tempfile.TemporaryDirectory() as folder:
        clock = shared.Clock(case["device"])
        # The model is adapted already, and the blocks are cut: SFTTrainer is told to prepare neither.
        settings = {"max_length": case["length"], "packing": False, "gradient_checkpointing": False,
                    "dataset_kwargs": {"skip_prepare_dataset": True}}  # fmt: skip
        trainer = trl.SFTTrainer(
            shared.prepared(case, [], tokenizer),
            args=trl.SFTConfig(folder, **shared.arguments(case), **settings),
            train_dataset=Dataset.from_list(blocks),
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.train()
        return clock.measured(len(blocks))


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
