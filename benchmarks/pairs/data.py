"""The rows of the cases: real texts below a data folder, or made ones."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

SHARED = Path(__file__).parent.parent.parent.parent / "shared" / "data"
Row = dict[str, Any]
SETS = {"classify": "sst2/train.jsonl", "test": "sst2/test.jsonl", "instruct": "alpaca_gpt4_demo/train.jsonl",
        "words": "wikitext2/valid.txt"}  # fmt: skip
WORDS = [first + second for first in ("ba", "ko", "li", "mu", "ne", "ra", "so", "ti") for second in "abcdefghijklmnop"]
GOOD, BAD = ("fine", "splendid", "warm"), ("dull", "poor", "cold")


def made(kind: str, count: int, seed: int = 0) -> Iterator[Row]:
    """Rows of random words: of a text of 3 to 40 words, some of which tell its class; of a prompt and its answer."""
    draw = random.Random(f"{kind} {seed}")
    for _ in range(count):
        words = draw.choices(WORDS, k=draw.randint(3, 40))
        if kind == "instruct":
            yield {"prompt": " ".join(words[:10]), "completion": " ".join(sorted(words))}
            continue
        label = draw.choice(["negative", "positive"])
        telling = draw.choices(GOOD if label == "positive" else BAD, k=3)
        yield {"text": " ".join([*words, *telling]), "label": label}


def real(kind: str, data: Path) -> list[Row]:
    """The rows of a set, in an order that is drawn once; raw text line by line, in its own order."""
    lines = [line for line in (data / SETS[kind]).read_text(encoding="utf-8").split("\n") if line.strip()]
    if kind == "words":
        return [{"text": line.strip()} for line in lines]
    rows = [json.loads(line) for line in lines]
    random.Random(0).shuffle(rows)
    if kind == "instruct":
        prompts = ("\n\n".join(filter(None, [row["instruction"], row["input"]])) for row in rows)
        return [{"prompt": prompt, "completion": row["output"]} for prompt, row in zip(prompts, rows, strict=True)]
    return rows


class Source:
    """Files of rows in a folder of this program's own: from `data`, or made where it is None."""

    def __init__(self, folder: Path, data: Path | None) -> None:
        self.folder, self.data = folder, data

    def rows(self, kind: str, count: int) -> list[Row]:
        """At most `count` rows."""
        found: Iterable[Row] = made(kind, count) if self.data is None else real(kind, self.data)
        return list(islice(found, count))

    def file(self, kind: str, count: int, batch: int = 1) -> str:
        """At most `count` rows as a JSON Lines file, their number one of whole batches: no side has a short batch."""
        rows = self.rows(kind, count)
        rows = rows[: len(rows) // batch * batch]
        path = self.folder / f"{kind}-{len(rows)}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(path)

    def text(self, words: int) -> str:
        """About `words` words of running text as a text file."""
        lines, left = [], words
        for row in self.rows("words", words):
            if left <= 0:
                break
            lines.append(row["text"])
            left -= len(row["text"].split())
        path = self.folder / f"words-{words}.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)
