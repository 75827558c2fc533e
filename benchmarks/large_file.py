"""How fast a large file is loaded, and how much memory that takes: `python benchmarks/large_file.py`.

Makes CSV files of 200,000 and 2,000,000 rows in a temporary folder and loads each in a process of its own: reading,
checking, splitting, looking for leaks and near repetitions. Then it loads each again from the cache. Peak memory is
what the system counts for the process, which includes pages of the memory-mapped rows that it may drop at any time;
own memory leaves them out.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZES = (200_000, 2_000_000)
WORDS = [
    f"{first}{second}" for first in ("ba", "ko", "li", "mu", "ne", "ra", "so", "ti") for second in "abcdefghijklmnop"
]
CLASSES = ("price", "order", "refund", "praise", "complaint", "cancel", "change", "payment")


def write(path: Path, rows: int) -> None:
    """A CSV file of texts of 8 to 24 words with a class each; every hundredth text stands twice."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as stream:
        stream.write("text,label\n")
        text = "the first row"
        for row in range(1, rows + 1):
            if row % 100:
                text = " ".join(draw.choices(WORDS, k=draw.randint(8, 24)))
            stream.write(f'"{text}",{draw.choice(CLASSES)}\n')


def own_memory() -> int:
    """Bytes of this process that belong to no file (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def measure(path: str) -> None:
    """Load `path` and print seconds and peaks as JSON."""
    from tunesmith.core.column import Column, label, text
    from tunesmith.data.load import load
    from tunesmith.data.settings import DataSettings

    columns = [
        Column("text", None, ("text",), text),
        Column("label", None, ("label",), label, target=True, classes=True),
    ]
    own = [own_memory()]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            own.append(own_memory())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    splits = load(DataSettings(train=path), columns)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "before": before * 1024, "peak": peak * 1024, "own": max(own)}))
    assert len(splits.train) > 0


def main() -> None:
    """Print the table."""
    print("| rows | file | from | rows/s | after imports | peak memory | peak own memory |")
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for rows in SIZES:
            path = Path(folder) / f"{rows}.csv"
            write(path, rows)
            environment = {**os.environ, "TUNESMITH_CACHE": f"{folder}/cache"}
            for origin in ("CSV", "cache"):
                command = [sys.executable, __file__, str(path)]
                found = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
                memory = " | ".join(f"{found[name] / 1e6:,.0f} MB" for name in ("before", "peak", "own"))
                speed = f"{rows / found['seconds']:,.0f}"
                print(f"| {rows:,} | {path.stat().st_size / 1e6:,.0f} MB | {origin} | {speed} | {memory} |", flush=True)


if __name__ == "__main__":
    measure(sys.argv[1]) if len(sys.argv) > 1 else main()
