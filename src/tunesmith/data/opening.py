"""Opening a file of rows: is it there, is it readable, does its content fit its ending."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import IO, cast

from tunesmith.core.errors import DataError
from tunesmith.core.notes import note
from tunesmith.data.faults import Faults

CONLL_ENDINGS = (".conll", ".iob", ".bio")
TEXT_ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".txt", *CONLL_ENDINGS)
ENDINGS = (*TEXT_ENDINGS, ".parquet")
HEAD = 4096
MAGIC = {
    b"\x1f\x8b": "a gzip file: let its name end in .gz",
    b"PAR1": "a Parquet file: let its name end in .parquet",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook (.xlsx): save the sheet as CSV (UTF-8)",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook (.xls): save the sheet as CSV (UTF-8)",
    b"SQLite format 3": "an SQLite database: export the table as CSV",
    b"%PDF": "a PDF file",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}
CONVERT = "Convert the file to UTF-8; if it came from Excel on Windows: iconv -f cp1252 -t utf-8 OLD > NEW"
MARK = "\ufeff"


def ending(path: Path) -> str:
    """`.csv` for `rows.csv` and for `rows.csv.gz`; "" where the ending is none of ours."""
    name = path.name.lower()
    plain = name.removesuffix(".gz")
    known = TEXT_ENDINGS if name != plain else ENDINGS
    return next((known_ending for known_ending in known if plain.endswith(known_ending)), "")


def inspect(path: Path) -> None:
    """Check the file as a whole; raise DataError if it is missing, a folder, unreadable, empty or of another kind."""
    if not path.exists():
        raise DataError(f"There is no file {path}.", hint=_neighbors(path))
    if path.is_dir():
        raise DataError(f"{path} is a folder where a file is needed.", hint=_inside(path))
    if not ending(path):
        allowed = ", ".join(ENDINGS)
        raise DataError(
            f"{path} ends in '{path.suffix}', which is no kind of file that can be read.",
            hint=f"Let the name end in one of {allowed} (all but .parquet may be followed by .gz).",
        )
    with opened(path) as stream:
        try:
            head = stream.read(HEAD)
        except (OSError, EOFError, zlib.error) as error:
            raise _unreadable(path, error) from error
    if not head.removeprefix(MARK.encode()).strip():
        header = "a header line and " if ending(path) in (".csv", ".tsv") else ""
        raise DataError(f"{path} is empty.", hint=f"It needs {header}rows.")
    mismatch = _mismatch(ending(path), head)
    if mismatch:
        raise DataError(f"{path} is not what its ending says: it holds {mismatch}.")


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked where its name ends in .gz; raise DataError if the system refuses."""
    packed = path.name.lower().endswith(".gz")
    try:
        stream = cast(IO[bytes], gzip.GzipFile(path) if packed else path.open("rb"))
    except OSError as error:
        raise _unreadable(path, error) from error
    with stream:
        yield stream


def lines(stream: IO[bytes], faults: Faults) -> Iterator[str]:
    """Every line as text. A line that is not UTF-8 or holds a NUL byte is a fault, and given with replacements."""
    offset = 0
    for number, raw in enumerate(_whole_lines(stream, faults), 1):
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            place = f"line {number}, byte {offset + error.start}"
            faults.add(f"{place}: is not UTF-8 (0x{raw[error.start]:02x})", at=number, hint=CONVERT)
            text = raw.decode(errors="replace")
        if number == 1 and text.startswith(MARK):
            text = text[1:]
            _say_mark(faults.path)
        if "\0" in text:
            faults.add(
                f"line {number}: holds a NUL byte", at=number, hint="Remove the NUL bytes: tr -d '\\000' < OLD > NEW"
            )
            text = text.replace("\0", " ")
        offset += len(raw)
        yield text


def _whole_lines(stream: IO[bytes], faults: Faults) -> Iterator[bytes]:
    try:
        yield from stream
    except (OSError, EOFError, zlib.error) as error:
        faults.add(f"the file is damaged or cut off: {error}", hint="Copy or unpack the file once more.")


@cache
def _say_mark(path: Path) -> None:
    note(f"{path} starts with a byte-order mark, which is left out.")


def _mismatch(kind: str, head: bytes) -> str:
    """What the file holds instead of what its ending says; "" where they fit."""
    found = next((what for magic, what in MAGIC.items() if head.startswith(magic)), "")
    if kind == ".parquet":
        return "" if head.startswith(b"PAR1") else (found or "no Parquet data (its first bytes are not PAR1)")
    if found:
        return found
    start = head.removeprefix(MARK.encode()).lstrip()
    if kind in (".csv", ".tsv") and start.startswith((b"{", b"[{")):
        return "JSON objects: let its name end in .jsonl (an object a line) or .json (one list)"
    if kind in (".jsonl", ".ndjson"):
        first = start.splitlines()[0].strip()
        if first == b"[" or first.startswith(b"[{"):
            return "one JSON list: let its name end in .json"
        if not first.startswith((b"{", b"[", b'"')) and (b"," in first or b"\t" in first):
            return "no JSON but what looks like CSV: let its name end in .csv (commas) or .tsv (tabs)"
    return ""


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, gzip.BadGzipFile):
        return DataError(f"{path} is not what its ending says: it is no gzip file.", hint="Take .gz off its name.")
    if isinstance(error, PermissionError):
        return DataError(f"{path} may not be read by you: permission denied.", hint="Ask its owner, or copy it.")
    return DataError(f"{path} can't be read: {error}.")


def _neighbors(path: Path) -> str:
    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either."
    names = sorted(item.name for item in path.parent.iterdir())
    place = "" if path.parent == Path() else f" in {path.parent}"
    close = get_close_matches(path.name, names, n=3, cutoff=0.5)
    if close:
        return f"Did you mean {' or '.join(close)}{place}?"
    shown = [name for name in names if ending(Path(name))][:10]
    return f"In {path.parent} there are: {', '.join(shown)}." if shown else f"{path.parent} holds no file of rows."


def _inside(path: Path) -> str:
    names = [item.name for item in sorted(path.iterdir()) if ending(item)][:10]
    return f"Name one of its files: {', '.join(names)}." if names else "It holds no file of rows."
