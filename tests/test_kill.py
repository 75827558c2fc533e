"""A run that is killed at random moments and resumed each time ends like one that was left alone, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
KILLS = 20

ROWS = 150

TRAIN = {"steps": 30, "evaluate_every": 8, "checkpoint_every": 3, "learning_rate": 0.001, "precision": "float32"}


def test_twenty_kills_leave_no_trace(tmp_path: Path) -> None:
    messages = (ROOT / "examples" / "messages.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "messages.csv").write_text("\n".join(messages[: ROWS + 1]) + "\n", encoding="utf-8")
    recipe = {
        "model": "builtin:tiny-bert",
        "task": {"name": "classify", "text": "text", "label": "intent"},
        "data": {"train": str(tmp_path / "messages.csv"), "validation": 0.2, "test": 0.2},
        "regularizers": ["l2_sp"],
        "schedules": ["warmup_linear", {"name": "early_stop", "patience": 9}],
        "train": TRAIN,
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    program = Path(__file__).parent / "kill_run.py"
    command = [sys.executable, str(program), str(tmp_path / "recipe.yaml"), str(tmp_path), str(KILLS)]
    environment = {**os.environ, "TUNESMITH_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    alone, *killed = [tmp_path / str(number) for number in range(int(done.stdout) + 1)]
    assert killed
    for run in killed:
        for name in ("model/model.safetensors", "predictions/test.jsonl", "recipe.yaml"):
            assert (run / name).read_bytes() == (alone / name).read_bytes(), f"{run.name}: {name}"
        assert (run / "report.html").is_file()
        assert not list(run.rglob(".tmp-*"))
