"""Modules that stand for trackers' libraries: they take what the real ones take, and keep what they were told."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tunesmith.core.tracker import Tracked

Call = tuple[str, Any]


class Fake:
    """Records every call of the functions that it was given, in their order."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def keep(self, signature: Callable[..., Any], gives: Any = None) -> Callable[..., Any]:
        """A function that takes what `signature` takes (else TypeError), as the library's own would."""

        def call(*given: Any, **named: Any) -> Any:
            signature(*given, **named)
            self.calls.append((signature.__name__, (*given, *([named] if named else []))))
            return gives

        return call

    def of(self, name: str) -> list[Any]:
        """What one function was given, call by call."""
        return [given for called, given in self.calls if called == name]


def install(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    """Let `import name` give a module with these contents."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


def run(folder: Path, known: str = "") -> Tracked:
    """A run to track."""
    return Tracked("runs-mine", folder, {"method": {"name": "lora", "rank": 2}, "schedules": [{"name": "x"}]}, known)


def wandb(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """wandb.init(project, entity, name, group, id, resume, config, dir, mode) and a Run, as of wandb 0.31."""
    fake = Fake()

    def init(**named: Any) -> None:
        known = ("project", "entity", "name", "group", "id", "resume", "config", "dir", "mode")
        assert set(named) <= set(known) and named["resume"] == "allow"

    def log(data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None: ...
    def update(d: dict[str, Any]) -> None: ...
    def log_artifact(artifact_or_path: str, name: str | None = None, type: str | None = None) -> None: ...
    def finish(exit_code: int | None = None) -> None: ...

    handle = SimpleNamespace(
        id="the-id", log=fake.keep(log), log_artifact=fake.keep(log_artifact), finish=fake.keep(finish),
        summary=SimpleNamespace(update=fake.keep(update)),
    )  # fmt: skip
    install(monkeypatch, "wandb", init=fake.keep(init, handle))
    return fake


def trackio(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """trackio.init and a Run, as of trackio 0.43."""
    fake = Fake()

    def init(project: str, **named: Any) -> None:
        assert set(named) <= {"name", "group", "space_id", "config", "resume", "embed", "auto_log_gpu", "auto_log_cpu"}

    def log(metrics: dict[str, Any], step: int | None = None) -> None: ...
    def log_artifact(artifact_or_path: str, name: str | None = None, type: str | None = None) -> None: ...
    def finish() -> None: ...

    handle = SimpleNamespace(log=fake.keep(log), log_artifact=fake.keep(log_artifact), finish=fake.keep(finish))
    install(monkeypatch, "trackio", init=fake.keep(init, handle))
    return fake


def mlflow(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """mlflow's fluent functions, as of MLflow 3.18."""
    fake = Fake()

    def set_tracking_uri(uri: str) -> None: ...
    def set_experiment(experiment_name: str | None = None) -> None: ...
    def start_run(run_id: str | None = None, experiment_id: str | None = None, run_name: str | None = None) -> None: ...
    def log_params(params: dict[str, Any]) -> None: ...
    def log_metrics(metrics: dict[str, float], step: int | None = None) -> None: ...
    def log_text(text: str, artifact_file: str) -> None: ...
    def log_artifact(local_path: str, artifact_path: str | None = None) -> None: ...
    def end_run(status: str = "FINISHED") -> None: ...

    plain = (set_tracking_uri, set_experiment, log_params, log_metrics, log_text, log_artifact, end_run)
    begun = SimpleNamespace(info=SimpleNamespace(run_id="the-id"))
    install(
        monkeypatch, "mlflow", start_run=fake.keep(start_run, begun), **{one.__name__: fake.keep(one) for one in plain}
    )
    return fake


def tensorboard(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """torch.utils.tensorboard.SummaryWriter."""
    fake = Fake()

    def writer(log_dir: str) -> None: ...
    def add_scalar(tag: str, scalar_value: float, global_step: int | None = None) -> None: ...
    def add_text(tag: str, text_string: str, global_step: int | None = None) -> None: ...
    def flush() -> None: ...
    def close() -> None: ...

    handle = SimpleNamespace(**{one.__name__: fake.keep(one) for one in (add_scalar, add_text, flush, close)})
    install(monkeypatch, "tensorboard")
    install(monkeypatch, "torch.utils.tensorboard", SummaryWriter=fake.keep(writer, handle))
    return fake
