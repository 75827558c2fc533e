"""What the pages say is so: links lead somewhere, commands exist, recipes resolve, the example method works."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests import toy
from tunesmith import stages
from tunesmith.cli import app
from tunesmith.core import arguments, registry
from tunesmith.data import load as data

ROOT = Path(__file__).parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs" / "guides").glob("**/*.md")),
    *sorted((ROOT / "docs" / "concepts").glob("*.md")),
]
RUN = "import sys; from tunesmith.cli import main; sys.exit(main(sys.argv[1:]))"
LARGEST_PICTURE = 400_000
EXAMPLE = "last_block"


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words after `tunesmith` in every command line of a page, in blocks and in running text."""
    text = page.read_text(encoding="utf-8")
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in [*lines, *re.findall(r"`([^`\n]+)`", prose)]:
        words = shlex.split(line, comments=True)
        if words and words[0] in ("tunesmith", ".venv/bin/tunesmith") and len(words) > 1:
            yield words[1:]


def named(pages: list[Path]) -> Any:
    """The pages as cases of a test."""
    return pytest.mark.parametrize("page", pages, ids=lambda page: page.stem)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """The targets of a page's links."""
    return re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))


@named(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            dead.append(target)
    assert dead == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), [PAGES[0]]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        there = [(page.parent / target.partition("#")[0]).resolve() for target in links(page)]
        ahead += [page for page in PAGES if page in there and page not in reached]
    assert [page.name for page in PAGES if page not in reached] == []


@named(PAGES)
def test_commands_exist_with_their_options(page: Path) -> None:
    root: Any = typer.main.get_command(app)
    for words in commands(page):
        if words[0].startswith("-"):
            assert words[0] in [option for parameter in root.params for option in [*parameter.opts, "--help"]], words
            continue
        assert words[0] in root.commands, f"tunesmith {shlex.join(words)}"
        if len(words) == 1:
            continue  # a command that is only spoken of
        words = arguments.expand(words)
        given = root.commands[words[0]].make_context(words[0], words[1:]).params
        if "set_" in given:
            stages.read(
                _a_recipe(given["source"]), [*_short(given, "model"), *_short(given, "method"), *(given["set_"] or [])]
            )


@named(PAGES)
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    prose = re.findall(r"`make ([a-z]+)`", page.read_text(encoding="utf-8"))
    typed = re.findall(r"^make ([a-z]+)", "\n".join(blocks(page, "bash")), re.MULTILINE)
    assert {*prose, *typed} <= targets


@named([page for page in PAGES if blocks(page, "yaml")])
def test_recipes_resolve(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for number, block in enumerate(blocks(page, "yaml")):
        read = yaml.safe_load(block)
        given = [one["data"] for one in read.get("tasks", {"": read}).values()]
        for path in (path for data_ in given for path in _files(data_)):
            if not Path(path).exists():
                _write_rows(tmp_path / path)
        (tmp_path / f"{number}.yaml").write_text(block, encoding="utf-8")
        for one in stages.read(tmp_path / f"{number}.yaml"):
            # Of a file of ours the page's columns are there.
            if one.data.train.startswith("examples/"):
                data.load(one.data, one.task.columns())


@named([page for page in PAGES if blocks(page, "python")])
def test_python_is_python(page: Path) -> None:
    for block in blocks(page, "python"):
        ast.parse(block)


def test_the_readme_names_every_part_and_no_other() -> None:
    table = PAGES[0].read_text(encoding="utf-8").partition("## What works")[2].partition("\n## ")[0]
    rows = {line.split("|")[1].strip(): line.split("|")[2] for line in table.splitlines() if line.startswith("| ")}
    for kind, word in registry.KINDS.items():
        texts = [text for name, text in rows.items() if re.fullmatch(rf"{word}s?( for \w+)?", name)]
        told = set(re.findall(r"`(\w+)`", " ".join(texts)))
        assert told == {name for name, entry in registry.entries(kind).items() if entry.ours}


def test_pictures_are_small() -> None:
    pictures = list((ROOT / "docs" / "images").iterdir())
    assert pictures and all(picture.stat().st_size < LARGEST_PICTURE for picture in pictures)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """CONTRIBUTING's method as an installed package of its own: its folder, and an environment that sees it."""
    folder = tmp_path_factory.mktemp("site")
    method, test = blocks(ROOT / "CONTRIBUTING.md", "python")
    project = tomllib.loads(blocks(ROOT / "CONTRIBUTING.md", "toml")[0])["project"]
    (folder / "my_parts" / "methods").mkdir(parents=True)
    for name in ("my_parts/__init__.py", "my_parts/methods/__init__.py"):
        (folder / name).touch()
    (folder / "my_parts" / "methods" / f"{EXAMPLE}.py").write_text(method, encoding="utf-8")
    (folder / f"test_{EXAMPLE}.py").write_text(test, encoding="utf-8")
    # What an installer writes.
    about = folder / f"{project['name']}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    points = project["entry-points"][registry.GROUP]
    lines = [f"[{registry.GROUP}]", *(f"{name} = {value}" for name, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    paths = os.pathsep.join([str(folder), str(ROOT)])
    return folder, {**os.environ, "PYTHONPATH": paths, "TUNESMITH_CACHE": str(folder / "cache")}


def test_the_example_method_trains(package: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    _, environment = package
    source, out = str(ROOT / "examples" / "messages.csv"), str(tmp_path / "run")
    options = ["--method", EXAMPLE, "--model", "builtin:tiny-bert", "--set", "train.steps=3", "--json"]
    command = [sys.executable, "-c", RUN, "train", source, "--out", out, *options]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)["cost"]
    assert 0 < cost["trained_parameters"] < cost["total_parameters"]
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["method"] == {"name": EXAMPLE}
    assert (tmp_path / "run" / "report.html").is_file()


def test_the_example_method_keeps_the_contracts(package: tuple[Path, dict[str, str]]) -> None:
    folder, environment = package
    files = ["tests/contracts/test_methods.py", "tests/contracts/test_parts.py", str(folder / f"test_{EXAMPLE}.py")]
    options = ["-q", "-p", "no:cacheprovider", "-k", EXAMPLE, "-c", str(ROOT / "pyproject.toml")]
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 4 * len(toy.BACKBONES)


def test_code_that_a_model_brings_along_is_not_run(tmp_path: Path) -> None:
    toyed = toy.prepared({})
    model = toy.save(toyed, tmp_path / "model")
    mark = tmp_path / "it-ran"
    code = ["from transformers import BertConfig", "class Own(BertConfig):", "    model_type = 'own'"]
    (model / "own.py").write_text("\n".join([f"open({str(mark)!r}, 'w')", *code]), encoding="utf-8")
    config = json.loads((model / "config.json").read_text())
    changed = {**config, "model_type": "own", "auto_map": {"AutoConfig": "own.Own"}}
    (model / "config.json").write_text(json.dumps(changed))
    _write_rows(tmp_path / "rows.csv")
    command = [sys.executable, "-c", RUN, "train", str(tmp_path / "rows.csv"), "--model", str(model)]
    options = ["--set", "train.steps=1", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "TUNESMITH_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "hub")}
    # Whoever is asked whether to run it says yes.
    done = subprocess.run(
        [*command, *options], input="y\n" * 9, capture_output=True, text=True, env=environment, timeout=300, check=False
    )
    assert not mark.exists(), done.stdout
    assert done.returncode == 2, done.stderr


def _a_recipe(source: str) -> str:
    """The recipe that a page names where it is in the repository, else one that any option fits."""
    if (ROOT / source).suffix == ".yaml" and (ROOT / source).is_file():
        return str(ROOT / source)
    return str(ROOT / "recipes" / "keep_close.yaml")


def _short(given: dict[str, Any], name: str) -> list[str]:
    # The example's own method exists only once a reader has written it.
    return [f"{name}.name={given[name]}"] if given.get(name) not in (None, EXAMPLE) else []


def _files(data: str | dict[str, Any]) -> list[str]:
    return [data] if isinstance(data, str) else [value for value in data.values() if isinstance(value, str)]


def _write_rows(path: Path) -> None:
    rows = [{"text": f"a thing of size {number}", "label": ["big", "small"][number % 2]} for number in range(80)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        path.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows), encoding="utf-8")
