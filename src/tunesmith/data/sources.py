"""From the recipe's words to files: what a folder holds, and what is split off."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from tunesmith.core.errors import DataError
from tunesmith.core.notes import note
from tunesmith.data import folders
from tunesmith.data.opening import ENDINGS, ending
from tunesmith.data.settings import DataSettings

# Names by which the files of a folder are known.
STEMS = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
MIX = "mix."


def resolve(settings: DataSettings) -> DataSettings:
    """Settings that name files where they named a folder; raise DataError if the folder has no training file.

    Validation and test files of the folder take the place of shares that the user did not set. A file named `train.csv`
    alone never brings its neighbors along. A folder of images counts as a file, and one that has folders of classes in
    `train` as a folder of such files. Of a folder in `mix` the training file is taken.
    """
    return _with_mix(_with_folder(settings), [_of_mix(one.file) for one in settings.mix])


def _with_folder(settings: DataSettings) -> DataSettings:
    folder = Path(settings.train).expanduser()
    if not folder.is_dir():
        return settings
    found = {split: _only(folder, stems) for split, stems in STEMS.items()}
    if found["train"] is None and folders.is_one(folder):
        return settings
    if found["train"] is None:
        there = ", ".join(sorted(item.name for item in folder.iterdir())[:20]) or "nothing"
        raise DataError(
            f"The folder {folder} has no training file: there is {there}.",
            hint=f"Name it train with one of {', '.join(ENDINGS)}, or give the path of a file. Of images, put those of "
            "each class into a folder of its own.",
        )
    changed: dict[str, float | str | None] = {"train": str(found["train"])}
    for split in ("validation", "test"):
        path = found[split]
        if path is None:
            continue
        if split in settings.model_fields_set:
            if getattr(settings, split) != str(path):
                note(f"{path} is not used: the recipe sets data.{split} to {getattr(settings, split)}.")
        else:
            changed[split] = str(path)
    # Set like this, and not by model_copy, so that what was resolved counts as set by the user.
    return DataSettings.model_validate({**settings.model_dump(), **changed})


def absolute(settings: DataSettings) -> DataSettings:
    """Settings that name files by their whole paths, so that a run goes on from any folder."""
    found = resolve(settings)
    paths = {name: str(path.resolve()) for name, path in files_of(found).items()}
    mixed = [paths.pop(mixed_name(place)) for place in range(len(found.mix))]
    return _with_mix(DataSettings.model_validate({**found.model_dump(), **paths}), mixed)


def training_file(path: Path) -> Path:
    """The file itself, or the training file of a folder; raise DataError if there is none."""
    return Path(resolve(DataSettings(train=str(path))).train).expanduser()


def files_of(settings: DataSettings) -> dict[str, Path]:
    """Split -> file, for the splits that have a file of their own; further training files are `mix.0` and so on. Raise
    DataError if two of them are one file.
    """
    named = {split: getattr(settings, split) for split in STEMS}
    named |= {mixed_name(place): one.file for place, one in enumerate(settings.mix)}
    paths = {split: Path(value).expanduser() for split, value in named.items() if isinstance(value, str)}
    for (split, path), (other, second) in combinations(paths.items(), 2):
        if path.resolve() == second.resolve():
            hint = "Give a share instead."
            if is_mixed(other):
                again = split == "train" or is_mixed(split)
                hint = "Name it once: a greater weight gives more of it." if again else "Leave it out of data.mix."
            raise DataError(f"data.{split} and data.{other} are the same file, {path}.", hint=hint)
    return paths


def is_mixed(name: str) -> bool:
    """Whether `files_of` calls a further training file by this name."""
    return name.startswith(MIX)


def mixed_name(place: int) -> str:
    """What `files_of` calls a further training file."""
    return f"{MIX}{place}"


def _with_mix(settings: DataSettings, files: Sequence[str]) -> DataSettings:
    mixed = [one.model_copy(update={"file": file}) for one, file in zip(settings.mix, files, strict=True)]
    return settings if mixed == settings.mix else settings.model_copy(update={"mix": mixed})


def _of_mix(file: str) -> str:
    folder = Path(file).expanduser()
    if not folder.is_dir():
        return file
    for split in ("validation", "test"):
        path = _only(folder, STEMS[split])
        if path is not None:
            note(f"{path} is not used: of a folder in data.mix only the training file is.")
    return str(training_file(folder))


def _only(folder: Path, stems: tuple[str, ...]) -> Path | None:
    """The one file of rows (or folder of classes) in `folder` with one of these names; raise DataError if there are
    several.
    """
    found = [item for item in sorted(folder.iterdir()) if _stem(item) in stems and item.is_file()]
    found += [item for item in sorted(folder.iterdir()) if item.name.lower() in stems and folders.holds_classes(item)]
    if len(found) > 1:
        names = ", ".join(item.name for item in found)
        raise DataError(
            f"The folder {folder} has several {stems[0]} files: {names}.", hint="Keep one, or name the files."
        )
    return found[0] if found else None


def _stem(path: Path) -> str:
    kind = ending(path)
    return path.name.lower().removesuffix(".gz").removesuffix(kind) if kind else ""
