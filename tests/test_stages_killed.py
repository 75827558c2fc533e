"""Three stages that are killed in each of them, and between, end as if nobody had touched them, bit for bit."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from tests import toy

PLACES = ("1-fill", "2-classify", "3-regress", "2-classify-alone", "3-regress-alone")


def test_kills_in_every_stage_leave_no_trace(tmp_path: Path) -> None:
    rows = toy.write_csv(tmp_path / "rows.csv", 32).read_text(encoding="utf-8").splitlines()
    scored = [f"{line},{number % 5}" if number else f"{line},score" for number, line in enumerate(rows)]
    (tmp_path / "rows.csv").write_text("\n".join([*scored, ""]), encoding="utf-8")
    shares = {"validation": 0.2, "test": 0.2, "near_duplicates": False}
    recipe = {
        "model": "builtin:tiny-bert",
        "data": {"train": str(tmp_path / "rows.csv"), **shares},
        "train": {"steps": 8, "batch_size": 4, "log_every": 1, "checkpoint_every": 3, "device": "cpu"},
        "alone": True,
        "stages": [
            {"task": {"name": "fill", "text": "text"}, "method": "lora"},
            {
                "task": {"name": "classify", "text": "text", "label": "label"},
                "regularizers": ["replay", {"name": "ewc", "examples": 2}],
            },
            {
                "task": {"name": "regress", "text": "text", "score": "score"},
                "regularizers": ["distill", {"name": "replay", "share": 0.5}],
            },
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    program = Path(__file__).parent / "kill_stages.py"
    environment = {**os.environ, "TUNESMITH_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, str(program), str(tmp_path / "recipe.yaml"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    begun = [len(line.split(",")) for line in done.stdout.split()]
    assert begun == [1, 2, 2, 3, 3, 4]  # the kills were in the first, second and third stage, and in one alone
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    files = [f"{place}/{name}" for place in PLACES for name in ("model", "predictions/test.jsonl")]
    for name in [*files, "continual.json"]:
        found = sorted(path for path in (whole / name).rglob("*.safetensors")) or [whole / name]
        for path in found:
            other = killed / path.relative_to(whole)
            assert path.read_bytes() == other.read_bytes(), path
    assert not list(killed.rglob(".tmp-*"))
