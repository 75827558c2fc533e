"""Masked language modelling: what is hidden, its loss and perplexity by hand, masks that are filled, blocks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from datasets import Dataset
from torch.nn import functional
from transformers import AutoModelForMaskedLM, BertModel

from tests import toy
from tests.serve import made
from tests.toy import outputs_of
from tunesmith import api
from tunesmith.core import anatomy, registry, surgery
from tunesmith.core.column import Row
from tunesmith.core.errors import DataError, ModelError
from tunesmith.core.notes import listening
from tunesmith.core.panel import Bars
from tunesmith.core.rows import take
from tunesmith.core.tokens import IGNORED
from tunesmith.evaluate.predict import Predictor
from tunesmith.models import artifact
from tunesmith.models.builtin import tiny_configs, tiny_tokenizer
from tunesmith.serve import merge, session
from tunesmith.tasks.fill import Fill

SYLLABLES = ["oak", "elm", "fir", "ash"]


def toy_rows(count: int) -> list[Row]:
    """Texts of one syllable, said as often as makes each text another."""
    return [{"text": " ".join([SYLLABLES[number % 4]] * (number + 2))} for number in range(count)]


def rows_of(*texts: str) -> Dataset:
    return Dataset.from_list([{"line": number + 1, "text": text} for number, text in enumerate(texts)])


def encoded(task: Fill, *texts: str) -> list[dict[str, Any]]:
    return task.encode([{"text": text} for text in texts], tiny_tokenizer(), 128)


def test_training_hides_anew_in_every_epoch_and_measuring_does_not() -> None:
    task, tokenizer = Fill(), tiny_tokenizer()
    (example,) = encoded(task, "the old oak table by the window wobbles on its four thin legs")

    def hidden(**extra: int) -> list[Any]:
        batch = task.collate([{**example, **extra}], tokenizer)
        return [batch.inputs["input_ids"].tolist(), batch.fields["targets"].tolist()]

    epochs = [hidden(seed=seed) for seed in range(6)]
    assert len({json.dumps(one) for one in epochs}) == 6
    assert hidden(seed=3) == epochs[3]
    assert (
        hidden() == hidden()
        and task.collate([example, *encoded(task, "x y")], tokenizer).fields["targets"][0].tolist() == hidden()[1][0]
    )


def test_every_hidden_word_is_whole_and_has_its_tokens_as_targets() -> None:
    task, tokenizer = Fill(share=0.4), tiny_tokenizer()
    text = "oak elm, fir"
    (example,) = encoded(task, text)
    whole = tokenizer(text)["input_ids"]
    for seed in range(20):
        batch = task.collate([{**example, "seed": seed}], tokenizer)
        targets = batch.fields["targets"][0].tolist()
        places = [place for place, target in enumerate(targets) if target != IGNORED]
        assert [targets[place] for place in places] == [whole[place] for place in places]
        # Words of the tokenizer: "oak", " elm", ",", " fir"; of 4 words 1.6 are asked for, so 2.
        units = [set(range(1, 4)), set(range(4, 8)), {8}, set(range(9, 13))]
        assert sum(set(places) >= unit for unit in units) == 2 and batch.fields["words"].tolist() == [2]
        assert sum(len(unit) for unit in units if set(places) >= unit) == len(places)
        inputs = batch.inputs["input_ids"][0].tolist()
        assert all(inputs[place] == whole[place] for place in range(len(whole)) if place not in places)


def test_single_tokens_are_hidden_where_words_need_not_be_whole() -> None:
    task = Fill(whole_words=False, share=0.5)
    (example,) = encoded(task, "oak elm")
    batch = task.collate([example], tiny_tokenizer())
    assert task.targets(batch) == 4  # round(0.5 * 7)
    assert set(task.metrics(np.ones((2, 4)), np.ones((2, 4)))) == {"perplexity", "accuracy"}


def test_measuring_masks_every_chosen_token() -> None:
    task, tokenizer = Fill(share=0.5), tiny_tokenizer()
    batch = task.collate(encoded(task, "oak elm fir ash", "birch and beech"), tokenizer)
    chosen = batch.fields["targets"] != IGNORED
    assert (batch.inputs["input_ids"][chosen] == tokenizer.mask_token_id).all()
    assert batch.inputs["attention_mask"][chosen].all()


def test_loss_answers_and_metrics_by_hand() -> None:
    # Two rows, the first in two parts. Logits are 0 but where said, over a vocabulary of 4.
    targets = torch.tensor([[IGNORED, 1, IGNORED], [2, IGNORED, IGNORED], [IGNORED, 0, 3]])
    logits = torch.zeros(3, 3, 4)
    logits[0, 1, 1] = math.log(3)  # p = 3 / 6: a loss of log 2, and right
    logits[1, 0, 0] = math.log(5)  # p = 1 / 8: a loss of log 8, and wrong
    logits[2, 1, 0] = math.log(9)  # p = 9 / 12: a loss of log 4/3, and right
    logits[2, 2, 0] = math.log(5)  # p = 1 / 8: a loss of log 8, and wrong
    fields = {"targets": targets, "owners": torch.tensor([0, 0, 1]), "words": torch.tensor([1, 1, 1])}
    inputs = {"input_ids": torch.full((3, 3), 5), "attention_mask": torch.ones(3, 3)}
    step: Any = SimpleNamespace(
        outputs=SimpleNamespace(logits=logits), batch=SimpleNamespace(inputs=inputs, fields=fields, rows=[0, 1])
    )
    task = Fill()
    assert task.targets(step.batch) == 4
    total = math.log(2) + math.log(8) + math.log(4 / 3) + math.log(8)
    assert task.loss(step).item() == pytest.approx(total, rel=1e-6)
    answers, lines = task.decode(step, tiny_tokenizer())
    assert answers == pytest.approx(np.array([[math.log(16), 2, 2, 1], [math.log(32 / 3), 2, 1, 1]]))
    assert [line["prediction"] for line in lines] == [4.0, round(math.sqrt(32 / 3), 4)]
    found = task.metrics(task.truths([{}, {}]), answers)
    # exp(log(512 / 3) / 4) a token, exp(log(512 / 3) / 3) a word, 2 of 4 right.
    expected = {"perplexity": (512 / 3) ** 0.25, "accuracy": 0.5, "word_perplexity": (512 / 3) ** (1 / 3)}
    assert found == pytest.approx(expected)
    assert task.metrics(answers, task.truths([{}, {}])) == {"perplexity": 1, "accuracy": 1, "word_perplexity": 1}
    assert task.mistakes(task.truths([{}, {}]), answers, np.array([math.nan] * 2)).tolist() == [0, 1]
    (bars,) = task.panels(task.truths([{}, {}]), answers)
    assert isinstance(bars, Bars) and sum(bars.series["rows"]) == 2


def test_the_loss_is_that_of_transformers() -> None:
    toyed = toy.prepared({"task": "fill"})
    task, backbone = toyed.recipe.task, toyed.backbone
    examples = task.encode(take(toyed.batches.rows, list(range(8))), backbone.tokenizer, backbone.limit)
    batch = task.collate([{**one, "seed": 1} for one in examples], backbone.tokenizer)
    outputs = backbone.model.eval()(**batch.inputs, labels=batch.fields["targets"])
    step: Any = SimpleNamespace(outputs=outputs, batch=batch)
    assert (task.loss(step) / task.targets(batch)).item() == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_losses_of_low_precision_logits_are_computed_in_float32() -> None:
    batch = SimpleNamespace(fields={"targets": torch.tensor([[1, IGNORED]])})
    logits = torch.randn(1, 2, 9).bfloat16()
    found = Fill().loss(SimpleNamespace(outputs=SimpleNamespace(logits=logits), batch=batch))  # type: ignore[arg-type]
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(functional.cross_entropy(logits[0, :1].float(), torch.tensor([1])).item())


def test_a_text_longer_than_the_limit_is_measured_over_all_its_parts() -> None:
    task, tokenizer = Fill(max_length=10), tiny_tokenizer()
    (example,) = task.encode([{"text": "abcdefgh" * 3}], tokenizer, 128)
    assert [len(part["input_ids"]) for part in example["parts"]] == [10, 10, 10] and example["cut"] is False
    batch = task.collate([example, *task.encode([{"text": "xy"}], tokenizer, 128)], tokenizer)
    assert batch.fields["owners"].tolist() == [0, 0, 0, 1]
    answers, _ = task.decode(outputs_of(torch.zeros(4, 10, 259), batch), tokenizer)
    assert answers[0, :2] == pytest.approx([24 * math.log(259), 24])  # one word: all of it is hidden


def test_rows_become_blocks_and_it_is_said() -> None:
    with listening() as said:
        found = Fill(max_length=10).arrange(rows_of("abcdefgh" * 2, "xy"), tiny_tokenizer(), 128)
    assert [row["line"] for row in take(found, slice(0, 3))] == [1, 1, 2]
    assert "2 rows of text make 3 blocks of at most 10 tokens." in said


def test_blocks_without_a_word_are_counted_and_left_out() -> None:
    with listening() as said:
        found = Fill().arrange(rows_of("<s></s>", "oak", "<mask>"), tiny_tokenizer(), 128)
    assert len(found) == 1
    assert any("2 of 3 blocks hold no token that could be hidden" in text and "line 1" in text for text in said)
    with pytest.raises(DataError, match=r"nothing to learn: none of 2 blocks .* begins in line 1"):
        Fill().arrange(rows_of("<s></s>", "<mask>"), tiny_tokenizer(), 128)


def test_a_tokenizer_without_a_mask_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.mask_token = None
    with pytest.raises(ModelError, match="has no mask token") as told:
        Fill().arrange(rows_of("oak"), tokenizer, 128)
    assert "generate" in told.value.hint
    with pytest.raises(ModelError, match="has no AutoModelForMaskedLM"):
        toy.prepared({"task": "fill", "model": "builtin:tiny-gpt2"})


def test_masks_in_a_row_are_filled_where_a_user_asks() -> None:
    task, tokenizer = Fill(), tiny_tokenizer()
    (example,) = encoded(task, "o<mask>k el<mask>")
    batch = task.collate([{**example, "asked": True}], tokenizer)
    assert task.targets(batch) == 0
    logits = torch.zeros(1, 9, 259)
    a, m = tokenizer("am", add_special_tokens=False)["input_ids"]
    logits[0, 2, a], logits[0, 7, m] = math.log(258), math.log(129)  # p = 1 / 2, and 129 / 387 = 1 / 3
    answers, (line,) = task.decode(outputs_of(logits, batch), tokenizer)
    assert line["prediction"] == "oak elm" and answers.tolist() == [[0, 0, 0, 0]]
    assert [one[0] for one in line["candidates"]] == [{"word": "a", "score": 0.5}, {"word": "m", "score": 0.333333}]
    assert [len(one) for one in line["candidates"]] == [5, 5] and line["confidence"] == 0.333333
    # Where it is measured, its other words are hidden, so that it is no row without a loss.
    assert task.targets(task.collate([example], tokenizer)) > 0


def test_a_row_without_any_word_has_no_perplexity() -> None:
    task, tokenizer = Fill(), tiny_tokenizer()
    batch = task.collate(encoded(task, "</s>"), tokenizer)
    answers, (line,) = task.decode(outputs_of(torch.zeros(1, 3, 259), batch), tokenizer)
    assert answers.tolist() == [[0, 0, 0, 0]] and line == {"prediction": None}
    assert all(math.isnan(value) for value in task.metrics(answers, answers).values())
    assert task.panels(answers, answers) == [] and len(task.mistakes(answers, answers, answers[:, 0])) == 0


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["text"], {"text": "text"}),
        (["Text"], {"text": "Text"}),
        (["text", "label"], None),
        (["prompt"], None),
        (["text", "id"], None),
    ],
)
def test_columns_that_suit(names: list[str], expected: dict[str, Any] | None) -> None:
    assert Fill.suits(names, []) == expected


def test_what_is_seen_carries_loss_where_words_were_chosen() -> None:
    task, tokenizer = Fill(share=0.5), tiny_tokenizer()
    (example,) = encoded(task, "oak elm fir ash")
    (seen,) = task.seen(example, tokenizer)
    assert sum(seen.loss) == task.targets(task.collate([example], tokenizer))
    kept = [token for token, loss in zip(seen.tokens, seen.loss, strict=True) if not loss]
    assert kept[0] == "<s>" and kept[-1] == "</s>" and "<mask>" not in kept


def test_a_saved_model_fills_masks_in_a_plain_pipeline(tmp_path: Path) -> None:
    toyed = toy.prepared({"task": "fill", "train": {"steps": 20, "learning_rate": 3e-3, "batch_size": 8}})
    toy.train(toyed, tmp_path / "run")
    folder = toy.save(toyed, tmp_path / "model")
    backbone, lines = toyed.backbone, list[dict[str, Any]]()
    predictor = Predictor(backbone.model, backbone.tokenizer, toyed.recipe.task, backbone.limit, asked=True)
    predictor.predict(rows_of("oak o<mask>k oak", "fir"), each=lines.append)
    pipeline = transformers.pipeline("fill-mask", model=str(folder), device="cpu")
    expected = pipeline("oak o<mask>k oak", top_k=5)
    assert [one["word"] for one in lines[0]["candidates"][0]] == [one["token_str"].strip() for one in expected]
    scores = [one["score"] for one in lines[0]["candidates"][0]]
    assert scores == pytest.approx([one["score"] for one in expected], abs=2e-6)
    assert lines[0]["prediction"] == expected[0]["sequence"]
    assert isinstance(lines[1]["prediction"], float)


def test_perplexity_falls_when_it_trains(tmp_path: Path) -> None:
    toyed = toy.prepared({"task": "fill", "train": {"steps": 30, "learning_rate": 5e-3, "batch_size": 8}}, count=8)
    task, backbone, rows = toyed.recipe.task, toyed.backbone, toy.rows_for(toyed.recipe.task)
    predictor = Predictor(backbone.model, backbone.tokenizer, task, backbone.limit)
    before = task.metrics(task.truths(rows), predictor.predict(rows).answers)
    toy.train(toyed, tmp_path)
    after = task.metrics(task.truths(rows), predictor.predict(rows).answers)
    assert before["perplexity"] == pytest.approx(259, rel=0.3)  # nearly every token is equally likely
    assert after["perplexity"] < 0.3 * before["perplexity"]


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone whose file holds no weights of a language model's head, as those of sentence encoders do."""
    folder = tmp_path_factory.mktemp("fill") / "body"
    torch.manual_seed(0)
    BertModel(tiny_configs()["tiny-bert"], add_pooling_layer=False).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


SETTINGS = {"peft": {"name": "peft", "type": "lora", "settings": {"target_modules": "all-linear"}}}


@pytest.mark.parametrize("method", registry.names("methods"))
def test_a_head_that_starts_fresh_trains_under_every_method_and_travels(
    method: str, body: Path, tmp_path: Path
) -> None:
    values = {"task": "fill", "model": str(body), "method": SETTINGS.get(method, method)}
    folder, expected = made.run(tmp_path / "run", **values)
    run = session.load(folder, "cpu")
    assert made.same(artifact.outputs(run.backbone.model, run.probe()), expected)
    toyed = toy.prepared(values)
    trains = surgery.trained(toyed.training.model)
    assert {"cls.predictions.transform"} == set(anatomy.head(toyed.training.model))
    assert {f"cls.predictions.transform.{name}" for name in ("dense.weight", "LayerNorm.weight")} <= set(trains)
    assert surgery.count(toyed.training.model)[0] == toyed.recipe.method.expected(toyed.training.model)


def test_two_runs_with_fresh_heads_share_a_backbone(body: Path, tmp_path: Path) -> None:
    values = {"task": "fill", "model": str(body)}
    first, expected = made.run(tmp_path / "first", 0, method="lora", **values)
    second, others = made.run(tmp_path / "second", 1, method="head_only", **values)
    third, classes = made.run(tmp_path / "third", 2, method="lora", model=str(body), task="classify")
    run = session.load(first, "cpu")
    for name, folder, outputs in (("second", second, others), ("third", third, classes)):
        run.attach(name, folder)
        run.use(name)
        assert made.same(artifact.outputs(run.backbone.model, run.probe()), outputs)
    run.use(run.names[0])
    assert made.same(artifact.outputs(run.backbone.model, run.probe()), expected)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_plain_peft_reads_a_fresh_head(body: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder, (expected,) = made.run(tmp_path / "run", task="fill", model=str(body), method="lora")
    plain = peft.PeftModel.from_pretrained(AutoModelForMaskedLM.from_pretrained(body), str(folder / "model"))
    run = session.load(folder, "cpu")
    (batch,) = run.probe()
    with torch.inference_mode():
        assert torch.allclose(plain.eval()(**batch.inputs).logits, expected, atol=2e-6)


def test_a_merged_run_has_the_head_that_it_trained(body: Path, tmp_path: Path) -> None:
    folder, (expected,) = made.run(tmp_path / "run", task="fill", model=str(body), method="lora")
    api.merge(folder, tmp_path / "merged", merge.Mix(weights=(1.0,)))
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "merged").eval()
    (batch,) = session.load(folder, "cpu").probe()
    with torch.inference_mode():
        assert torch.allclose(model(**batch.inputs).logits, expected, atol=1e-5)


def test_a_fresh_head_of_a_quantised_backbone_is_not_packed(body: Path) -> None:
    pytest.importorskip("bitsandbytes")
    values = {"task": "fill", "model": {"name": str(body), "quantize": "nf4"}, "method": "lora"}
    transform = toy.prepared(values).training.model.cls.predictions.transform
    assert type(transform.dense) is torch.nn.Linear and transform.dense.weight.requires_grad
