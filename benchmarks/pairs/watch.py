"""The memory of another process while it runs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

import psutil


class Watch(threading.Thread):
    """The most memory that another process holds, all of it and its own part, until it ends."""

    def __init__(self, process: int) -> None:
        super().__init__(daemon=True)
        self.process = psutil.Process(process)
        self.peak = self.own = 0

    def run(self) -> None:
        """Look twenty times a second."""
        try:
            while True:
                held = self.process.memory_info()
                self.peak = max(self.peak, held.rss)
                self.own = max(self.own, held.rss - getattr(held, "shared", 0))
                time.sleep(0.05)
        except psutil.Error:
            return


def watched(command: Sequence[str], environment: Mapping[str, str]) -> tuple[float, Watch]:
    """Seconds of a whole command, and the memory that it held; one that fails ends the program with what it said."""
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        watch = Watch(process.pid)
        watch.start()
        assert process.stderr is not None
        said = process.stderr.read().decode()
    watch.join()
    seconds = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{said[-3000:]}")
    return seconds, watch
