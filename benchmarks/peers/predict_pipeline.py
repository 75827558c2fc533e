"""Answering a file of texts with transformers' text-classification pipeline, as its guide has it: `python
benchmarks/peers/predict_pipeline.py FILE MODEL OUT BATCH TYPE [ROWS]`.

FILE and OUT are JSON Lines, TYPE is the type of the weights (float32, bfloat16). Only the first ROWS are answered where
that is given. Prints the seconds that the answers took, without imports and loading.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from transformers import pipeline

LENGTH = 512


def main(path: str, model: str, out: str, batch: int, kind: str, count: int | None) -> None:
    """Load, answer, write."""
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()][:count]
    classify = pipeline(
        "text-classification", model=model, dtype=getattr(torch, kind), device=0 if torch.cuda.is_available() else -1
    )
    length = min(LENGTH, getattr(classify.model.config, "max_position_embeddings", LENGTH))
    began = time.perf_counter()
    found = classify([row["text"] for row in rows], batch_size=batch, truncation=True, max_length=length)
    seconds = time.perf_counter() - began
    with Path(out).open("w", encoding="utf-8") as stream:
        for row, one in zip(rows, found, strict=True):
            stream.write(json.dumps({**row, "prediction": one["label"], "confidence": one["score"]}) + "\n")
    print(seconds)


if __name__ == "__main__":
    file, folder, answers, size, name, *rest = sys.argv[1:]
    main(file, folder, answers, int(size), name, int(rest[0]) if rest else None)
