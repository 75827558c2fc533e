"""What is wrong with one file, gathered while it streams by: the first faults in full, the rest as a count."""

from __future__ import annotations

from pathlib import Path

from tunesmith.core.errors import SHOWN_FAULTS, DataError, raise_faults


class Faults:
    """Collects sentences about the file at `path`; `kept` holds the first of them, `total` counts all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._kept: list[tuple[int, str]] = []
        self.total = 0
        self.hint = ""

    @property
    def kept(self) -> list[str]:
        """The sentences in the order of their lines: reading runs ahead of parsing."""
        return [sentence for _, sentence in sorted(self._kept, key=lambda fault: fault[0])]

    def add(self, sentence: str, *, at: int = 0, hint: str = "") -> None:
        """Take one fault of the line `at` (0: of the file); the first hint given is the one that the user reads."""
        self.total += 1
        self.hint = self.hint or hint
        if len(self._kept) < SHOWN_FAULTS:
            self._kept.append((at, sentence))

    def raise_all(self) -> None:
        """Raise DataError with everything collected; do nothing when there is nothing."""
        count = "1 fault" if self.total == 1 else f"{self.total:,} faults"
        raise_faults(DataError, f"{self.path} has {count}:", self.kept, total=self.total, hint=self.hint)
