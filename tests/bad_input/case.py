"""One bad input: the real command line on it, what it says, and the proof that it touched no file."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tunesmith.cli import main

TINY = ("--model", "builtin:tiny-bert", "--set", "train.steps=2")
# Texts whose share in every split is known to be more than none.
ROWS = "text,label\n" + "".join(f"a fine thing {i},good\na poor thing {i},bad\n" for i in range(60))
SCORES = "text,score\n" + "".join(f"a thing of size {i},{i}\n" for i in range(120))


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, and all that it said, notes too."""

    status: int
    out: str
    said: str


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every file below `folder` with its bytes, every folder with None."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


class Desk:
    """A folder in which commands are run; the working folder of the test."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
        self.folder, self._capsys, self._caplog = folder, capsys, caplog

    def write(self, name: str, content: str | bytes) -> Path:
        """Put a file there."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, *arguments: object) -> Ended:
        """Run the command line in this process."""
        self._capsys.readouterr()
        self._caplog.clear()
        status = main([str(argument) for argument in arguments])
        shown = self._capsys.readouterr()
        return Ended(status, shown.out, "\n".join([*self._caplog.messages, shown.err]))

    def refused(self, *arguments: object, says: str | list[str], hint: str = "") -> str:
        """Run a command that must end with status 2, say all of `says` and the hint, and leave every file as it was.

        Returns the message.
        """
        before = snapshot(self.folder)
        ended = self.run(*arguments)
        assert ended.status == 2, ended.said
        assert snapshot(self.folder) == before, "files were touched"
        return self.checked(ended, says, hint)

    def train_refused(self, source: object, *more: object, says: str | list[str], hint: str = "") -> str:
        """The same for `train` on a tiny model, into the new folder `run`."""
        return self.refused("train", source, *TINY, "--out", "run", *more, says=says, hint=hint)

    def checked(self, ended: Ended, says: str | list[str], hint: str = "") -> str:
        """Assert that a message says all of `says`, in order, and the hint, and is no traceback."""
        message = ended.said
        assert "Traceback" not in message
        place = 0
        for words in [says] if isinstance(says, str) else says:
            found = message.find(words, place)
            assert found >= 0, f"{words!r} is not said, or not in its place, in:\n{message}"
            place = found
        told = message.partition("\nhint: ")[2]
        assert hint in told, f"the hint is: {told}"
        return message

    def trained(self, *more: object, out: str = "run", rows: str = ROWS) -> Ended:
        """A run that ends well, on `rows.csv`."""
        self.write("rows.csv", rows)
        ended = self.run("train", "rows.csv", *TINY, "--out", out, *more)
        assert ended.status == 0, ended.said
        return ended

    def whole(self, run: str = "run") -> None:
        """Assert that a run is finished, and that nothing half-written lies in it."""
        assert (self.folder / run / "evaluation.json").is_file()
        assert (self.folder / run / "report.html").is_file()
        self.tidy(run)

    def tidy(self, run: str = "run") -> None:
        """Assert that no temporary file is left."""
        assert [path for path in self.folder.joinpath(run).rglob("*") if re.match(r"\.tmp|tmp", path.name)] == []

    def take(self, made: Path) -> None:
        """Copy what was made elsewhere."""
        shutil.copytree(made, self.folder, dirs_exist_ok=True)
