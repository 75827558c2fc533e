"""Deltas that stay below another one: put into any class of the backbone, kept beside it, and told from others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn

from tests import toy
from tests.serve import made
from tunesmith import api
from tunesmith.core import anatomy, sealed, sharing, surgery
from tunesmith.core.errors import ModelError, RecipeError, RunFolderError
from tunesmith.methods.bottleneck import Bottleneck
from tunesmith.methods.low_rank import LoraLinear
from tunesmith.models import artifact, load, stack
from tunesmith.prepare import Prepared, load_backbone
from tunesmith.serve import attach, session

BERT, GPT2 = "builtin:tiny-bert", "builtin:tiny-gpt2"
IDS = torch.tensor([[1, 70, 71, 72, 2], [1, 90, 91, 2, 0]])


def on(*folders: Path, model: str = BERT) -> dict[str, Any]:
    return {"name": model, "earlier": [str(folder) for folder in folders]}


def states(model: nn.Module) -> Tensor:
    """What the body gives for IDS."""
    model.eval()
    given = {"input_ids": IDS, "attention_mask": IDS.ne(0).long()}
    if getattr(model.config, "is_encoder_decoder", False):
        given["decoder_input_ids"] = IDS
    body = anatomy.backbone(model)
    with torch.inference_mode():
        # Where the class keeps its body's modules among its own: the state below the scores.
        found: Any = body(**given, output_hidden_states=True)
    return found["last_hidden_state"] if "last_hidden_state" in found else found["decoder_hidden_states"][-1]


def loaded(folder: Path) -> session.Session:
    return session.load(folder, "cpu")


@pytest.mark.parametrize(
    ("model", "first", "second"),
    [
        (BERT, "fill", "classify"),  # no pooler, then one
        (BERT, "classify", "fill"),
        (BERT, "embed", "tag"),  # the body alone, then a body within a model
        (BERT, "tag", "embed"),
        (GPT2, "generate", "classify"),
        ("builtin:tiny-llama", "classify", "answer_span"),  # where the body has another name
        ("builtin:tiny-t5", "generate", "classify"),
    ],
)
def test_the_next_task_starts_from_the_earlier_body(model: str, first: str, second: str, tmp_path: Path) -> None:
    model = in_a_file(tmp_path / "model", model)
    below = moved(tmp_path / "below", model=model, task=first, method="lora")
    own = moved(tmp_path / "own", model=on(tmp_path / "below", model=model), task=second, method="bottleneck")
    plain = states(toy.prepared({"model": model, "task": second}).backbone.model)
    earlier, now = states(below.backbone.model), states(own.backbone.model)
    recipe = own.recipe
    again = artifact.load(tmp_path / "own" / "model", recipe.model, recipe.task, recipe.method, 0)
    assert torch.equal(states(again.model), now)
    with surgery.switched_off(again.model):
        assert (states(again.model) - earlier).abs().max() <= 1e-6
    assert (earlier - plain).abs().max() > 1e-3 and (earlier - now).abs().max() > 1e-3


def in_a_file(folder: Path, model: str) -> str:
    """A tiny model with the same weights under every head."""
    made_from = toy.prepared({"model": model, "task": "generate" if "t5" in model else "classify"}).backbone
    made_from.model.save_pretrained(folder)
    made_from.tokenizer.save_pretrained(folder)
    return str(folder)


def moved(folder: Path, **values: Any) -> Prepared:
    """A training of which all that trains was moved, saved in the folder of a run."""
    toyed = toy.prepared(values)
    noise = torch.Generator().manual_seed(len(folder.name))
    with torch.no_grad():
        for parameter in surgery.trained(toyed.training.model).values():
            parameter += 0.05 * torch.randn(parameter.shape, generator=noise)
    toy.save(toyed, folder / "model")
    return toyed


def test_it_is_kept_beside_the_delta_and_needs_nothing_else(tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "1-first", method="lora")
    second, _ = made.run(tmp_path / "2-second", 1, model=on(first), method="ia3")
    below = [second / "model" / "earlier" / "1-first", second]
    third, expected = made.run(tmp_path / "third", 2, model=on(*below), method="bottleneck")
    kept = third / "model" / "earlier"
    assert {path.name for path in kept.iterdir()} == {"1-first", "2-second"}
    for name, made_in in (("1-first", first), ("2-second", second)):
        files = {path.name for path in (kept / name).iterdir()}
        assert files == {
            "delta.json", "backbone.json", "config.json", "adapter_config.json", "adapter_model.safetensors",
        }  # fmt: skip
        assert all((kept / name / file).read_bytes() == (made_in / "model" / file).read_bytes() for file in files)
    told = json.loads((third / "model" / "delta.json").read_text())
    assert told["earlier"] == ["1-first", "2-second"] and told["method"]["name"] == "bottleneck"
    identity = json.loads((third / "model" / "backbone.json").read_text())
    assert len(set(identity["earlier"])) == 2 and identity["name"] == BERT
    assert "earlier" not in json.loads((first / "model" / "backbone.json").read_text())
    shutil.rmtree(first)
    shutil.rmtree(second)
    shutil.move(third, tmp_path / "elsewhere")
    found = loaded(tmp_path / "elsewhere")
    assert made.same(artifact.outputs(found.backbone.model, found.probe()), expected)
    assert found.recipe.title == f"classify with bottleneck on {BERT} with 2 earlier deltas"


def test_copies_that_changed_are_refused(tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "first", method="lora")
    own, _ = made.run(tmp_path / "own", 1, model=on(first), method="lora")
    kept = own / "model" / "earlier" / "first"
    told = kept / "delta.json"
    whole = told.read_text()
    told.write_text(whole.replace('"alpha": 16.0', '"alpha": 17.0'))
    with pytest.raises(ModelError, match=r"was trained on top of earlier deltas \(.{12}\), and is not to stand on"):
        loaded(own)
    told.write_text(whole.replace('"lora"', '"lorra"'))
    with pytest.raises(ModelError, match=r"delta.json names no method: No method is called 'lorra'"):
        loaded(own)
    told.write_text("{}")
    with pytest.raises(RunFolderError, match=r"delta.json is damaged"):
        loaded(own)
    told.unlink()
    with pytest.raises(ModelError, match=r"holds no delta: it has no delta.json"):
        loaded(own)
    told.write_text(whole)
    assert loaded(own).predict(["amber"])
    own_told = own / "model" / "delta.json"
    own_told.write_text(own_told.read_text().replace('"first"', '"../../first"'))
    with pytest.raises(RunFolderError, match="are no names of folders"):
        loaded(own)


def test_deltas_in_another_order_or_of_another_backbone_are_refused(tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "first", method="lora")
    second, _ = made.run(tmp_path / "second", 1, model=on(first), method="ia3")
    for wrong in (on(second), on(second, first), on(first, first, second)):
        with pytest.raises(ModelError, match="was trained on top of"):
            toy.prepared({"model": wrong, "method": "lora"})
    other, _ = made.run(tmp_path / "other", model={"name": BERT, "dtype": "bfloat16"}, method="lora")
    with pytest.raises(ModelError, match="their weights differ"):
        toy.prepared({"model": on(other), "method": "lora"})
    with pytest.raises(ModelError, match=r"belongs to the backbone builtin:tiny-bert .* not to builtin:tiny-llama"):
        toy.prepared({"model": on(first, model="builtin:tiny-llama"), "method": "lora"})
    # The random weights of a tiny BERT without a pooler are others.
    moved(tmp_path / "fill", task="fill", method="lora")
    with pytest.raises(ModelError, match="as BertForMaskedLM, which has other weights than BertForSequenceClass"):
        toy.prepared({"model": on(tmp_path / "fill"), "method": "lora"})


@pytest.mark.parametrize(
    ("below", "method", "told"),
    [
        ("lora", "full", "'full' trains weights of the backbone itself"),
        ("bitfit", "lora", "'bitfit' trains weights of the backbone itself"),
        ("lora", "peft", "a delta of 'peft' can't be stacked: its layers are peft's own"),
        ("prompt", "prefix", "'prompt' and 'prefix' both put virtual tokens first before the text"),
        ("bottleneck", {"name": "dora", "targets": "all-linear"}, "an earlier delta put in After"),
        ({"name": "lora", "embeddings": True}, {"name": "lora", "embeddings": True}, "plain word embeddings"),
    ],
)
def test_what_can_not_stand_on_another_is_refused(below: Any, method: Any, told: str, tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "first", method=below)
    with pytest.raises((RecipeError, ModelError), match=told):
        toy.prepared({"model": on(first), "method": method})


def test_folders_without_a_delta_are_refused(tmp_path: Path) -> None:
    whole, _ = made.run(tmp_path / "whole", method="full")
    lora, _ = made.run(tmp_path / "lora", method="lora")
    api.merge(lora, tmp_path / "small", as_delta="exact")
    for folder in (whole, tmp_path / "small", tmp_path / "nothing"):
        with pytest.raises(ModelError, match=r"model.earlier: .* holds no delta") as caught:
            toy.prepared({"model": on(folder), "method": "lora"})
        assert "finished run" in caught.value.hint


def head(toyed: Prepared) -> Tensor:
    return toyed.backbone.model.get_parameter("classifier.weight").detach()


def test_the_head_goes_on_where_it_means_the_same(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, _ = made.run(tmp_path / "first", method="lora")
    with caplog.at_level("INFO", "tunesmith"):
        same = toy.prepared({"model": on(first), "method": "ia3"})
    assert "The head starts as that of first." in caplog.text
    assert torch.equal(head(same), loaded(first).backbone.model.get_parameter("classifier.weight"))
    # One number is no class, and other classes are no longer the same.
    config = first / "model" / "config.json"
    caplog.clear()
    config.write_text(config.read_text().replace('"maybe"', '"never"'))
    with caplog.at_level("INFO", "tunesmith"):
        other = toy.prepared({"model": on(first), "method": "ia3"})
        toy.prepared({"model": on(first), "method": "ia3", "task": "regress"})
    assert "The head starts" not in caplog.text
    assert torch.equal(head(other), head(toy.prepared({"model": BERT, "method": "ia3"})))


# peft asks the model for a property under a name that transformers has since changed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_plain_peft_gives_the_same(tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "first", method="lora")
    own, _ = made.run(tmp_path / "own", 1, model=on(first), method={"name": "lora", "targets": "all-linear"})
    found = loaded(own).backbone
    theirs: Any = toy.prepared({"model": BERT}).backbone.model
    for folder in (own / "model" / "earlier" / "first", own / "model"):
        theirs = PeftModel.from_pretrained(theirs, str(folder)).merge_and_unload()
    ours = toy.logits(found.model, found.tokenizer)
    assert torch.allclose(ours, toy.logits(theirs, found.tokenizer), atol=1e-5)
    # The upper delta alone gives other answers: nothing may load it by its backbone's name.
    told = json.loads((own / "model" / "adapter_config.json").read_text())
    assert told["base_model_name_or_path"] == f"{BERT} with earlier/first"


def test_runs_with_and_without_stand_side_by_side(tmp_path: Path) -> None:
    first, alone = made.run(tmp_path / "first", method="lora")
    own, stacked = made.run(tmp_path / "own", 1, model=on(first), method="bottleneck", task="regress")
    for order in ((first, own), (own, first)):
        found = loaded(order[0])
        found.attach("other", order[1])
        for name, folder in ((order[0].name, order[0]), ("other", order[1])):
            found.use(name)
            expected = stacked if folder is own else alone
            assert made.same(artifact.outputs(found.backbone.model, found.probe()), expected)
        found.use(None)
        plain = load_backbone(toy.prepared({"model": BERT}).recipe).model
        assert torch.equal(states(found.backbone.model), states(plain))


def test_it_merges_like_any_other_run(tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "first", method={"name": "lora", "init": "pissa"})
    own, _ = made.run(tmp_path / "own", 1, model=on(first), method="ia3")
    other, _ = made.run(tmp_path / "other", 2, method="lora")
    done = api.merge(own, tmp_path / "plain")
    assert done["largest_difference"] < 1e-5
    merged = [sharing.named(attach_and_fold(folder)) for folder in (own, other)]
    zero = sharing.named(toy.prepared({"model": BERT}).backbone.model)
    api.merge([own, other], tmp_path / "both", as_delta="exact")
    found = loaded(tmp_path / "both")
    name = "encoder.layer.0.attention.self.value.weight"
    mean = zero[name] + sum(0.5 * (one[name] - zero[name]) for one in merged)
    assert torch.allclose(sharing.named(found.backbone.model)[name], mean, atol=1e-7)
    assert found.predict(["amber"])


def attach_and_fold(folder: Path) -> nn.Module:
    found, _ = attach.first(folder, "cpu")
    artifact.merge(found.backbone.model, found.recipe.method.shipped(), found.backbone.below)
    return found.backbone.model


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("lora", "LoraLinear stands on another delta"),
        ({"name": "lora", "targets": "key"}, ""),  # beside the one below: all blocks as one function
        ("bottleneck", "Its norms are no plain layer norms"),
        ("head_only", ""),  # what the frozen blocks give is kept
        ("ia3", "ScaledLinear adds more than a low-rank product"),
    ],
    ids=str,
)
def test_shortcuts_change_nothing(method: Any, told: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, _ = made.run(tmp_path / "first", method="lora")
    trained = []
    for speed in ("plain", "auto"):
        train = {"steps": 6, "learning_rate": 0.01}
        toyed = toy.prepared({"model": on(first), "method": method, "train": train, "speed": {"shortcuts": speed}})
        toy.quiet(toyed.backbone.model)
        with caplog.at_level("INFO", "tunesmith"):
            toy.train(toyed, tmp_path / speed)
        trained.append(toy.weights(toyed))
    assert ("0 of 2 blocks run as one function" in caplog.text) == bool(told) and told in caplog.text
    plain, fast = trained
    assert all(torch.allclose(plain[name], fast[name], atol=1e-5) for name in plain)


def test_what_is_below_drops_nothing_out_and_is_not_listed(tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "first", method={"name": "lora", "dropout": 0.5})
    toyed = toy.prepared({"model": on(first), "method": {"name": "lora", "dropout": 0.3, "targets": "value"}})
    model = toyed.training.model
    every = {path: module for path, module in model.named_modules() if isinstance(module, LoraLinear)}
    assert len(every) == 6 and len(surgery.wrappers(model)) == 2
    for path, module in every.items():
        assert module.dropout.p == (0.0 if module.sealed else 0.3), path
        assert all(p.requires_grad == (not module.sealed) for p in (module.lora_A, module.lora_B))
    fresh = load_backbone(toyed.recipe).model
    linears = anatomy.linears(fresh)
    assert set(linears) == set(anatomy.linears(toy.prepared({"model": BERT}).backbone.model))
    place = linears["bert.encoder.layer.0.attention.self.query"]
    assert sealed.number(place) == 1 and type(sealed.core(place)) is nn.Linear
    assert anatomy.roles(fresh)["bert.encoder.layer.0.attention.self.query"] == "query"


def test_virtual_tokens_below_leave_texts_less_room(tmp_path: Path) -> None:
    first, _ = made.run(tmp_path / "first", method={"name": "prompt", "length": 7})
    assert toy.prepared({"model": on(first), "method": "lora"}).backbone.limit == 128 - 7
    own, _ = made.run(tmp_path / "own", 1, model=on(first), method="lora")
    assert loaded(own).backbone.limit == 128 - 7


def test_refusals_name_the_fault() -> None:
    lora = toy.prepared({"method": "lora"}).recipe.method
    assert stack.refusal([], Bottleneck()) == stack.refusal([lora, lora], Bottleneck()) == ""


def test_a_packed_backbone_stays_packed(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    packed = {"name": BERT, "quantize": "nf4"}
    first, _ = made.run(tmp_path / "first", model=packed, method="lora")
    own, expected = made.run(tmp_path / "own", 1, model={**packed, "earlier": [str(first)]}, method="dora")
    found = loaded(own)
    assert made.same(artifact.outputs(found.backbone.model, found.probe()), expected)
    assert found.merge(tmp_path / "merged") < 1e-4
    assert load.load_whole(tmp_path / "merged", found.recipe.task.auto_classes).dtype == torch.float32
