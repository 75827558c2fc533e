"""The command line: words, exit statuses, and what goes to which stream."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import toy
from tunesmith import cli
from tunesmith.core import registry
from tunesmith.evaluate import stats
from tunesmith.interrupt import Interrupt
from tunesmith.version import VERSION

Command = Callable[..., tuple[int, str, str]]
TINY = ("--model", "builtin:tiny-bert", "--set", "train.steps=2", "--set", "train.device=cpu")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run a command: its exit status, standard output, standard error."""
    monkeypatch.setattr(stats, "RESAMPLES", 4)

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


def test_version_and_help(command: Command) -> None:
    assert command("--version")[:2] == (0, f"{VERSION}\n")
    status, out, _ = command("--help")
    assert status == 0
    for word in ("train", "resume", "check", "predict", "evaluate", "report", "merge", "list", "explain"):
        assert re.search(rf"\b{word}\b", out)


def test_train_predict_evaluate_merge_report_resume(command: Command, tmp_path: Path) -> None:
    rows, run = toy.write_csv(tmp_path / "rows.csv"), tmp_path / "run"
    status, out, err = command("train", rows, *TINY, "--method", "lora", "--set", "method.rank=2", "--out", run)
    assert status == 0
    assert "classify with lora on builtin:tiny-bert" in out and str(run / "report.html") in "".join(out.split())
    assert "step 2/2" in err and "validation after step 2" in err and "step" not in out
    texts = tmp_path / "texts.csv"
    texts.write_text("text\namber\nbasil\n")
    status, out, _ = command("predict", run, texts)
    assert status == 0
    assert [json.loads(line)["text"] for line in out.splitlines()] == ["amber", "basil"]
    status, out, _ = command("predict", run, texts, "--out", tmp_path / "answers.jsonl", "--json")
    assert (status, json.loads(out)["rows"]) == (0, 2)
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 2
    status, out, _ = command("evaluate", run, "--data", rows, "--json")
    assert (status, json.loads(out)["metric"]) == (0, "accuracy")
    status, out, _ = command("merge", run, "--out", tmp_path / "merged", "--json")
    assert status == 0 and json.loads(out)["largest_difference"] <= 1e-5
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    (run / "report.html").unlink()
    status, out, _ = command("report", run)
    assert status == 0 and "report.html" in out and (run / "report.html").is_file()
    status, out, _ = command("resume", run, "--json")
    assert status == 0 and json.loads(out)["run"] == str(run)


def test_json_is_one_object_on_standard_output(command: Command, tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    status, out, _ = command("train", rows, *TINY, "--out", tmp_path / "run", "--json")
    found = json.loads(out)
    assert status == 0 and found["run"] == str(tmp_path / "run") and "suites" in found
    status, out, _ = command("check", rows, *TINY, "--json")
    assert status == 0 and json.loads(out)["updates"] == 2
    assert command("evaluate", tmp_path / "run")[0] == 0
    assert json.loads(command("evaluate", tmp_path / "run", "--json")[1])["title"] == found["title"]


def test_check_and_explain_show_tables(command: Command, tmp_path: Path) -> None:
    status, out, _ = command("check", toy.write_csv(tmp_path / "rows.csv"), *TINY)
    assert status == 0 and "What the model sees" in out and "estimated seconds" in out
    status, _, _ = command("check", tmp_path / "rows.csv", *TINY, "--page", tmp_path / "page.html")
    assert status == 0 and "What the model sees" in (tmp_path / "page.html").read_text(encoding="utf-8")
    status, out, _ = command("explain", "lora")
    assert status == 0 and "rank" in out and "Hu et al." in out
    assert json.loads(command("explain", "lora", "--json")[1])["title"] == "method lora"


def test_list_shows_every_part(command: Command) -> None:
    status, out, _ = command("list")
    names = [name for kind in registry.KINDS for name in registry.names(kind)]
    assert status == 0 and all(re.search(rf"^  {name} +\S", out, re.MULTILINE) for name in names)
    status, out, _ = command("list", "methods", "--json")
    found: dict[str, Any] = json.loads(out)
    assert status == 0 and list(found) == ["methods"] and found["methods"]["lora"].startswith("Train two small")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "none.csv"], "none.csv"),
        (["train", "ROWS", "--method", "lorra"], "Did you mean 'lora'?"),
        (["train", "ROWS", "--set", "train.epochs"], "is not of the form key=value"),
        (["list", "methds"], "Did you mean 'methods'?"),
        (["explain", "lorra"], "Did you mean 'lora'?"),
        (["predict", "none", "ROWS"], "does not exist"),
        (["evaluate", "none"], "does not exist"),
        (["merge", "none", "--out", "x"], "does not exist"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(arguments: list[str], told: str, command: Command, tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv")
    status, out, err = command(*[str(rows) if word == "ROWS" else word for word in arguments])
    assert status == 2 and out == ""
    assert err.startswith("error: ") and told in err and "Traceback" not in err


@pytest.mark.parametrize("arguments", [["trian"], ["train"], ["train", "--no-such"], ["merge", "run"]])
def test_wrong_usage_ends_with_2(arguments: list[str], command: Command) -> None:
    status, out, err = command(*arguments)
    assert status == 2 and out == "" and "Usage" in err


def test_our_own_faults_are_not_hidden(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("tunesmith.explain.explain", broken)
    with pytest.raises(ZeroDivisionError):
        command("explain", "lora")


def test_an_interrupted_run_ends_with_130_and_says_how_to_go_on(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, run = toy.write_csv(tmp_path / "rows.csv"), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "asked", lambda self: True)
        status, out, err = command("train", rows, *TINY, "--out", run)
    assert (status, out) == (130, "") and f"tunesmith resume {run}" in " ".join(err.split())
    assert command("resume", run)[0] == 0 and (run / "evaluation.json").is_file()
    monkeypatch.setattr("tunesmith.explain.explain", lambda name: (_ for _ in ()).throw(KeyboardInterrupt))
    assert command("explain", "lora")[0] == 130


def test_a_later_start_finds_what_an_earlier_one_kept(tmp_path: Path) -> None:
    environment = {**os.environ, "TUNESMITH_CACHE": str(tmp_path)}
    program = (
        "import sys; sys.argv = ['tunesmith', 'list', 'methods', '--model', 'builtin:tiny-bert', '--json']; "
        "from tunesmith.cli import run_from_shell; run_from_shell()"
    )
    times, answers = [], []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
        (file,) = tmp_path.glob("*.names.json")
        times.append(file.stat().st_mtime_ns)
    assert times[0] == times[1]
    assert answers[0] == answers[1]
    assert json.loads(answers[0])
