"""Several runs on one backbone in memory: each answers as by itself, and the backbone stays as it was."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from tests import toy
from tests.serve import made
from tunesmith.core import difference, registry, sharing
from tunesmith.core.errors import ModelError, RunFolderError
from tunesmith.models import artifact
from tunesmith.models.identity import Identity
from tunesmith.models.load import load as load_backbone
from tunesmith.models.settings import ModelSettings
from tunesmith.serve import attach, session
from tunesmith.serve.session import Session

Outputs = list[torch.Tensor]
METHODS = registry.names("methods")


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outputs]:
    return made.run(tmp_path_factory.mktemp("attach") / "lora", method="lora")


@pytest.fixture(scope="module")
def regress(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outputs]:
    return made.run(tmp_path_factory.mktemp("attach") / "regress", 1, method="head_only", task="regress")


@pytest.fixture
def loaded(lora: tuple[Path, Outputs]) -> Session:
    return session.load(lora[0], "cpu")


def outputs(found: Session) -> Outputs:
    return artifact.outputs(found.backbone.model, found.probe())


def bare(found: Session) -> tuple[dict[str, torch.Tensor], dict[str, int], list[str], torch.Tensor]:
    """All that could show a trace of a delta: the backbone's tensors, their places, its modules, what it gives."""
    before = found.used
    found.use(None)
    model = found.backbone.model
    state = model.state_dict(keep_vars=True)
    ids = found.backbone.tokenizer(made.TEXTS, padding=True, return_tensors="pt")
    hidden = model(**ids).last_hidden_state.detach()
    found.use(before)
    flags = [f"{name} {parameter.requires_grad}" for name, parameter in model.named_parameters()]
    told = [f"{name} {type(module)} {module.training}" for name, module in model.named_modules()]
    places = {name: tensor.data_ptr() for name, tensor in state.items()}
    return {name: tensor.detach().clone() for name, tensor in state.items()}, places, flags + told, hidden


def check_untouched(found: Session, before: Any) -> None:
    state, places, told, hidden = bare(found)
    assert all(sharing.same_bits(state[name], tensor) for name, tensor in before[0].items())
    assert places == before[1] and told == before[2] and torch.equal(hidden, before[3])


def test_without_a_delta_it_is_the_backbone(loaded: Session) -> None:
    assert loaded.names == ["lora"] and loaded.used == "lora"
    recipe = loaded.recipe
    state, _, told, hidden = bare(loaded)
    plain = load_backbone(recipe.model, recipe.task.auto_classes, recipe.task.head(), 5).model.base_model.eval()
    assert set(state) == set(plain.state_dict())
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())
    ids = loaded.backbone.tokenizer(made.TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(plain(**ids).last_hidden_state, hidden)
    assert not [line for line in told if "tunesmith" in line]
    loaded.use(None)
    assert loaded.used is None and loaded.backbone.name == "builtin:tiny-bert"
    for ask in (
        lambda: loaded.predict(["amber"]),
        loaded.probe,
        lambda: loaded.recipe,
        lambda: loaded.merge(Path("x")),
    ):
        with pytest.raises(ModelError, match=r"No delta is in use. Attached: lora\."):
            ask()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_attaches_or_refuses(
    method: str, loaded: Session, lora: tuple[Path, Outputs], tmp_path: Path
) -> None:
    try:
        folder, expected = made.run(tmp_path / "other", 2, method=method)
    except ModelError as refusal:
        pytest.skip(refusal.message)
    before = bare(loaded)
    loaded.attach("other", folder)
    assert loaded.used == "lora" and made.same(outputs(loaded), lora[1])
    check_untouched(loaded, before)
    loaded.use("other")
    assert made.same(outputs(loaded), expected)
    if not loaded.recipe.method.cannot_merge:
        assert loaded.merge(tmp_path / "merged") < 1e-4
        assert made.same(outputs(loaded), expected)
    loaded.use("lora")
    assert made.same(outputs(loaded), lora[1])
    check_untouched(loaded, before)


def numbers(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer in one level."""
    return {key: value for key, value in answer.items() if key != "scores"} | answer.get("scores", {})


def test_two_tasks_side_by_side_answer_as_by_themselves(
    lora: tuple[Path, Outputs], regress: tuple[Path, Outputs]
) -> None:
    alone = {"lora": session.load(lora[0], "cpu"), "regress": session.load(regress[0], "cpu")}
    expected = {name: found.predict(made.TEXTS) for name, found in alone.items()}
    assert expected["lora"][0].keys() != expected["regress"][0].keys()
    for first, second in (("lora", "regress"), ("regress", "lora")):
        found = session.load(alone[first].folder, "cpu")
        found.attach(second, alone[second].folder)
        for name in (first, second, first):
            found.use(name)
            answers = found.predict(made.TEXTS)
            assert [numbers(answer) for answer in answers] == [
                pytest.approx(numbers(answer), abs=1e-5) for answer in expected[name]
            ]
            assert found.recipe.task.word() == alone[name].recipe.task.word()
            assert found.backbone.model.config.id2label == alone[name].backbone.model.config.id2label


def test_the_backbone_is_in_memory_once(loaded: Session, regress: tuple[Path, Outputs], tmp_path: Path) -> None:
    bitfit = "bitfit" if "bitfit" in METHODS else "lora"
    for name, folder in (("regress", regress[0]), ("own", made.run(tmp_path / "own", method=bitfit)[0])):
        loaded.attach(name, folder)
    memory = {}
    for name in (None, *loaded.names):
        loaded.use(name)
        model = loaded.backbone.model
        memory[name] = {tensor.data_ptr(): tensor.nbytes for tensor in [*model.parameters(), *model.buffers()]}
    backbone = memory.pop(None)
    for found in memory.values():
        assert sum(size for place, size in found.items() if place not in backbone) < 0.2 * sum(backbone.values())


def test_a_switch_takes_microseconds(loaded: Session, lora: tuple[Path, Outputs], capsys: Any) -> None:
    loaded.attach("again", lora[0])
    times = []
    for name in ["again", None, "lora"] * 100:
        began = time.perf_counter()
        loaded.use(name)
        times.append(time.perf_counter() - began)
    with capsys.disabled():
        print(f"\n  a switch of deltas takes {1e6 * median(times):.2f} microseconds")
    assert median(times) < 1e-3


def test_whole_models_are_attached_and_attached_to(lora: tuple[Path, Outputs], loaded: Session, tmp_path: Path) -> None:
    folder, expected = made.run(tmp_path / "full", 3, method="full")
    head, of_head = made.run(tmp_path / "head", 4, method="head_only")
    loaded.attach("head", head)
    loaded.use("head")
    assert made.same(outputs(loaded), of_head)
    found = session.load(folder, "cpu")
    for _ in range(2):
        assert made.same(outputs(found), expected)
        found.use(None)
        found.use("full")
    found.attach("lora", lora[0])
    found.use("lora")
    assert made.same(outputs(found), lora[1])
    before = bare(found)
    found.use("full")
    assert made.same(outputs(found), expected)
    check_untouched(found, before)
    # With the run itself away the backbone is still known.
    later = session.load(folder, "cpu")
    later.detach("full")
    later.attach("lora", lora[0])
    later.use("lora")
    assert made.same(outputs(later), lora[1])


@pytest.mark.parametrize("backbone", toy.BACKBONES[1:])
def test_other_kinds_of_backbones(backbone: str, tmp_path: Path) -> None:
    folder, expected = made.run(tmp_path / "lora", method="lora", model=backbone)
    other, of_other = made.run(tmp_path / "other", 1, method="full", model=backbone, task="regress")
    third, of_third = made.run(tmp_path / "third", 2, method="lora", model=backbone, task="regress")
    found = session.load(folder, "cpu")
    before = bare_state(found)
    found.attach("other", other)
    found.attach("third", third)
    for name, wanted in (("other", of_other), ("third", of_third), ("lora", expected)):
        found.use(name)
        assert made.same(outputs(found), wanted)
    assert before == bare_state(found)


def bare_state(found: Session) -> list[tuple[str, int]]:
    used = found.used
    found.use(None)
    state = [(name, tensor.data_ptr()) for name, tensor in found.backbone.model.state_dict().items()]
    found.use(used)
    return state


def test_names_are_told(loaded: Session, lora: tuple[Path, Outputs]) -> None:
    loaded.attach("urgent", lora[0])
    with pytest.raises(ModelError, match=r"No delta called 'urgnt' is attached. Did you mean 'urgent'\? Known: lora,"):
        loaded.use("urgnt")
    assert loaded.used == "lora"
    with pytest.raises(ModelError, match="A delta called 'urgent' is attached already") as caught:
        loaded.attach("urgent", lora[0])
    assert "session.detach('urgent')" in caught.value.hint
    loaded.use("urgent")
    loaded.detach("urgent")
    assert loaded.names == ["lora"] and loaded.used is None
    with pytest.raises(ModelError, match="No delta called 'urgent'"):
        loaded.detach("urgent")


def damaged(folder: Path, made_from: Path) -> Iterator[tuple[str, type[Exception], str]]:
    """Runs that can't be attached, one after another in `folder`, with what is said."""
    weights = folder / "model" / "adapter_model.safetensors"
    yield "none", RunFolderError, "does not exist"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:100])
    yield "run", ModelError, "is damaged"
    weights.unlink()
    yield "run", ModelError, "is no such delta"
    weights.write_bytes(whole)
    config = folder / "model" / "config.json"
    text = config.read_text()
    config.write_text("{")
    yield "run", ModelError, "config.json is damaged"
    config.write_text(text)
    known = attach.identity.read(made_from / "model")
    Identity("elsewhere", "0" * 64, known.tokenizer).write(folder / "model")
    yield "run", ModelError, "belongs to the backbone elsewhere .* not to builtin:tiny-bert .*: their weights differ"
    (folder / "model" / "backbone.json").write_text("[]")
    yield "run", RunFolderError, "backbone.json is damaged"


def test_what_fails_leaves_no_trace(loaded: Session, lora: tuple[Path, Outputs], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    made.run(folder, method="lora")
    before = bare(loaded)
    for name, kind, says in damaged(folder, lora[0]):
        with pytest.raises(kind, match=says):
            loaded.attach("bad", tmp_path / name)
        assert loaded.names == ["lora"]
        assert made.same(outputs(loaded), lora[1])
    check_untouched(loaded, before)


def test_another_backbone_is_refused(loaded: Session, tmp_path: Path) -> None:
    for method in ("lora", "full"):
        folder, _ = made.run(tmp_path / method, method=method, model="builtin:tiny-gpt2")
        with pytest.raises(ModelError, match=r"belongs to the backbone builtin:tiny-gpt2 .*not to builtin:tiny-bert"):
            loaded.attach("other", folder)
    assert loaded.names == ["lora"]


def test_a_body_with_other_modules_is_joined(
    lora: tuple[Path, Outputs], loaded: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As where a task wants the backbone without its pooler: what can't be copied is loaded, and then kept once.
    monkeypatch.setattr(attach, "_shell", lambda *_: None)
    before = bare(loaded)
    loaded.attach("again", lora[0])
    loaded.use("again")
    assert made.same(outputs(loaded), lora[1])
    saved = {tensor.data_ptr() for tensor in loaded.backbone.model.base_model.state_dict().values()}
    assert set(before[1].values()) <= saved
    check_untouched(loaded, before)


def test_a_difference_is_attached(loaded: Session, lora: tuple[Path, Outputs], tmp_path: Path) -> None:
    folder, expected = made.run(tmp_path / "full", 3, method="full")
    model, base = session.load(folder, "cpu"), attach.first(lora[0], "cpu")[1]
    assert base is not None
    small = tmp_path / "small"
    (small / "model").mkdir(parents=True)
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            (small / path.relative_to(folder)).write_bytes(path.read_bytes())
    difference.write(model.backbone.model, base.model, small / "model", None)
    before = bare(loaded)
    loaded.attach("small", small)
    loaded.use("small")
    assert made.same(outputs(loaded), expected)
    assert loaded.recipe.method.word() == "full"
    check_untouched(loaded, before)


@pytest.mark.parametrize("first", ["AutoModelForSequenceClassification", "AutoModelForCausalLM"])
@pytest.mark.parametrize("backbone", ["builtin:tiny-gpt2", "builtin:tiny-llama", "builtin:tiny-t5"])
def test_bare_language_models(first: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # No task has such a model yet: classify is told that its model is one. Llama's output layer stands by itself, and
    # T5's body is the model itself.
    bare_class = "AutoModelForSeq2SeqLM" if backbone.endswith("t5") else "AutoModelForCausalLM"
    task: Any = registry.load("tasks", "classify")
    collate = task.collate

    def with_decoder(*given: Any) -> Any:
        batch = collate(*given)
        ids = (
            {"decoder_input_ids": batch.inputs["input_ids"]} if task.auto_classes == ("AutoModelForSeq2SeqLM",) else {}
        )
        return dataclasses.replace(batch, inputs={**batch.inputs, **ids})

    monkeypatch.setattr(task, "collate", with_decoder)
    plain = load_backbone(ModelSettings(name=backbone), (bare_class,), {}, 0)
    plain.model.save_pretrained(tmp_path / "backbone")
    plain.tokenizer.save_pretrained(tmp_path / "backbone")

    def of(auto_class: str, name: str, seed: int) -> tuple[Path, Outputs]:
        monkeypatch.setattr(task, "auto_classes", (bare_class if "Causal" in auto_class else auto_class,))
        return made.run(tmp_path / name, seed, method="lora", model=str(tmp_path / "backbone"))

    other, of_other = of("AutoModelForCausalLM", "other", 1)
    folder, expected = of(first, "lora", 0)
    found = session.load(folder, "cpu")
    before = bare_state(found)
    monkeypatch.setattr(task, "auto_classes", (bare_class,))
    found.attach("other", other)
    for name, auto_class, wanted in (("lora", first, expected), ("other", bare_class, of_other)):
        monkeypatch.setattr(task, "auto_classes", (bare_class if "Causal" in auto_class else auto_class,))
        found.use(name)
        assert made.same(outputs(found), wanted)
    assert before == bare_state(found)
    ours = {tensor.data_ptr() for name, tensor in found.backbone.model.state_dict().items() if "lora" not in name}
    shared = ours & {place for _, place in before}
    assert len(shared) >= len(ours) - 1  # the output layer, where the first has none
