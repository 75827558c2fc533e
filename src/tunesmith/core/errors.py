"""What can go wrong, and what a message must say.

    TunesmithError            exit status 1: our fault, or the machine's
    ├── ArtifactError         a saved model does not give the trained model's outputs
    └── UserError             exit status 2: the user can mend it (also a ValueError)
        ├── RecipeError       a recipe, a part's settings, or an option
        ├── DataError         a file of rows
        ├── ModelError        a backbone, its weights, its tokenizer
        ├── RunFolderError    a run folder: locked, foreign, damaged, unwritable
        ├── DivergedError     the loss is no longer a number
        └── MissingExtraError a library of an extra is not installed (also an ImportError)

Every message says what is wrong, which value was given, what is allowed, and (as `hint`) what to do.
Faults of one recipe or file are gathered and raised together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SHOWN_FAULTS = 20


class TunesmithError(Exception):
    """Root of the tree; `hint` says what to do about it."""

    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class ArtifactError(TunesmithError):
    """A saved model, loaded again, does not give the outputs of the model that was trained."""


class UserError(TunesmithError, ValueError):
    """Something the user can mend."""

    exit_status = 2


class RecipeError(UserError):
    """A recipe, a part's settings or an option is wrong."""


class DataError(UserError):
    """A file of rows is wrong."""


class ModelError(UserError):
    """A backbone can't be loaded or doesn't fit."""


class RunFolderError(UserError):
    """A run folder is locked, foreign, damaged or unwritable."""


class DivergedError(UserError):
    """The loss is no longer a finite number."""


class MissingExtraError(UserError, ImportError):
    """A library that an extra brings is not installed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """The sentence that follows an unknown word: the closest known one first, then all of them.

    >>> nearest("lorra", ["full", "lora"])
    "Did you mean 'lora'? Known: full, lora."
    """
    names = sorted(known)
    close = get_close_matches(word, names, n=1, cutoff=0.5)
    guess = f"Did you mean '{close[0]}'? " if close else ""
    return f"{guess}Known: {', '.join(names) if names else 'none'}."


def raise_faults(
    kind: type[UserError], headline: str, faults: Sequence[str], *, total: int = 0, hint: str = ""
) -> None:
    """Raise all `faults` as one error of `kind`; do nothing when there are none.

    `total` counts the faults where it is more than those kept in the list.
    """
    if not faults:
        return
    total = max(total, len(faults))
    shown = list(faults[:SHOWN_FAULTS])
    if total > len(shown):
        shown.append(f"… and {total - len(shown)} more")
    lines = "\n".join(f"  - {fault}" for fault in shown)
    raise kind(f"{headline}\n{lines}", hint=hint)


def raise_together(errors: Sequence[DataError]) -> None:
    """Raise the faults of several files as one DataError; do nothing when there are none."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        hints = dict.fromkeys(error.hint for error in errors if error.hint)
        raise DataError("\n".join(error.message for error in errors), hint=" ".join(hints))
