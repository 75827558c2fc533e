"""Prompt tuning: its start, its shapes, and both ways between us and peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
)

from tests import toy
from tunesmith.core import delta, surgery
from tunesmith.core.errors import ModelError, RecipeError
from tunesmith.core.notes import listening
from tunesmith.methods.prompt import Prompt, PromptEmbedding
from tunesmith.models import artifact
from tunesmith.models.builtin import tiny_configs, tiny_tokenizer
from tunesmith.prepare import Prepared, load_backbone

INTEROP = ["builtin:tiny-bert", "builtin:tiny-gpt2", "builtin:tiny-llama", "builtin:minilm"]
SAME = 1e-5
IDS = torch.tensor([[1, 40, 50, 60, 70, 2]])
P = 5

# peft asks the model for a property under a name that transformers has since changed.
OF_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def built(backbone: str = "builtin:tiny-bert", **method: Any) -> Prepared:
    return toy.prepared({"model": backbone, "method": {"name": "prompt", "length": P, **method}})


def plain(toyed: Prepared, folder: Path) -> nn.Module:
    """The same backbone without our code: saved to a folder, and loaded by transformers alone."""
    load_backbone(toyed.recipe).model.save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def tiny(auto: Any, name: str, **settings: Any) -> Any:
    """A tiny model of another class; the same one for the same arguments."""
    torch.manual_seed(0)
    return auto.from_config(tiny_configs()[name], **settings).eval()


def prompted(model: Any, **settings: Any) -> Any:
    Prompt(length=P, **settings).modify(model, torch.Generator().manual_seed(0))
    return model


def rows(model: nn.Module) -> PromptEmbedding:
    return cast(PromptEmbedding, next(iter(surgery.wrappers(model).values())))


def set_words(model: Any, ids: Tensor) -> None:
    """Let the virtual tokens be these words."""
    with torch.no_grad():
        rows(model).prompt.copy_(rows(model).base(ids[0]))


def test_as_many_parameters_as_the_formula_says() -> None:
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig(num_labels=3))  # BERT-base
    method = Prompt(length=20)
    method.modify(model, torch.Generator().manual_seed(0))
    head = 768 * 3 + 3
    assert surgery.count(model)[0] == method.expected(model) == 15_360 + head


@OF_PEFT
@pytest.mark.parametrize("backbone", INTEROP)
def test_our_prompt_loads_in_peft(backbone: str, tmp_path: Path) -> None:
    toyed = built(backbone)
    folder = toy.save(toyed, tmp_path / "delta")
    theirs = PeftModel.from_pretrained(plain(toyed, tmp_path / "plain"), str(folder))
    for text in ("amber basil cedar", "delta"):  # one by one: peft's decoders read padding
        expected = toy.logits(toyed.training.model, toyed.backbone.tokenizer, [text])
        assert (toy.logits(theirs, toyed.backbone.tokenizer, [text]) - expected).abs().max() <= SAME


@OF_PEFT
@pytest.mark.parametrize("backbone", INTEROP)
def test_a_prompt_of_peft_loads_here(backbone: str, tmp_path: Path) -> None:
    toyed = built(backbone)
    config = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=P)
    theirs = get_peft_model(plain(toyed, tmp_path / "plain"), config).eval()
    for parameter in theirs.parameters():
        if parameter.requires_grad:
            nn.init.normal_(parameter, std=0.1)
    theirs.save_pretrained(tmp_path / "delta")
    head = "classifier" if "bert" in backbone or "minilm" in backbone else "score"
    assert {"prompt_embeddings", f"base_model.{head}.weight"} <= set(load_file(tmp_path / "delta" / delta.WEIGHTS))
    delta.read(toyed.training.model, toyed.recipe.method, tmp_path / "delta")
    expected = toy.logits(theirs, toyed.backbone.tokenizer, ["amber basil"])
    assert (toy.logits(toyed.training.model, toyed.backbone.tokenizer, ["amber basil"]) - expected).abs().max() <= SAME


@OF_PEFT
@pytest.mark.parametrize(
    ("auto", "name", "task"),
    [
        (AutoModelForSequenceClassification, "tiny-bert", TaskType.SEQ_CLS),
        (AutoModelForCausalLM, "tiny-gpt2", TaskType.CAUSAL_LM),
        (AutoModelForCausalLM, "tiny-llama", TaskType.CAUSAL_LM),
        (AutoModelForSeq2SeqLM, "tiny-t5", TaskType.SEQ_2_SEQ_LM),
    ],
)
def test_losses_and_gradients_are_pefts(auto: Any, name: str, task: TaskType) -> None:
    ours = prompted(tiny(auto, name)).double()
    config = PromptTuningConfig(task_type=task, num_virtual_tokens=P, num_transformer_submodules=1)
    theirs = get_peft_model(tiny(auto, name), config).double().eval()
    prompt = theirs.prompt_encoder["default"].embedding.weight
    with torch.no_grad():
        prompt.copy_(rows(ours).prompt)
    labels = torch.tensor([1]) if task == TaskType.SEQ_CLS else IDS % 2
    given = {"input_ids": IDS, "attention_mask": torch.ones_like(IDS), "labels": labels}
    losses = [model(**given).loss for model in (ours, theirs)]
    assert abs(losses[0] - losses[1]) <= 1e-6
    for loss in losses:
        loss.backward()
    assert prompt.grad is not None and prompt.grad.abs().max() > 0
    assert torch.allclose(cast(Tensor, rows(ours).prompt.grad), prompt.grad, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("auto", "name"),
    [(AutoModelForCausalLM, "tiny-gpt2"), (AutoModelForCausalLM, "tiny-llama"), (AutoModelForMaskedLM, "tiny-bert")],
)
def test_the_embeddings_of_words_are_those_words_before_the_text(auto: Any, name: str) -> None:
    words = torch.tensor([[1, 99, 98, 97, 96]])
    expected = tiny(auto, name)(torch.cat([words, IDS], dim=1)).logits[:, P:]
    model = prompted(tiny(auto, name))
    set_words(model, words)
    assert torch.allclose(model(IDS).logits, expected, atol=1e-6)
    # The same where the caller looked up the words.
    assert torch.allclose(model(inputs_embeds=rows(model).base(IDS)).logits, expected, atol=1e-6)


def test_in_an_encoder_decoder_they_are_those_words_before_the_encoders_text() -> None:
    words, mask = torch.tensor([[9, 99, 98, 97, 96]]), torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    ids, answers = torch.cat([IDS, IDS * mask[1]]), torch.tensor([[4, 5], [6, 7]])
    bare = tiny(AutoModelForSeq2SeqLM, "tiny-t5")
    longer = torch.cat([words.expand(2, -1), ids], dim=1)
    expected = bare(longer, attention_mask=nn.functional.pad(mask, (P, 0), value=1), labels=answers)
    model = prompted(tiny(AutoModelForSeq2SeqLM, "tiny-t5"))
    set_words(model, words)
    outputs = model(ids, attention_mask=mask, labels=answers)
    assert torch.allclose(outputs.logits, expected.logits, atol=1e-5)
    assert torch.allclose(outputs.loss, expected.loss)


def test_it_may_start_from_the_words_of_a_text(tmp_path: Path) -> None:
    # One token a byte: five letters fill five virtual tokens; three are repeated, eight are cut.
    for text, used in (("amber", "amber"), ("abc", "abcab"), ("abcdefgh", "abcde")):
        toyed = built(init="text", text=text)
        with listening() as notes:
            toyed.recipe.method.setup(toyed.training)
        assert any("method.text has" in told for told in notes) == (text != used)
        found = rows(toyed.training.model)
        ids = torch.tensor(toyed.backbone.tokenizer(used, add_special_tokens=False)["input_ids"])
        assert torch.equal(found.prompt, found.base(ids))


def test_it_starts_from_common_words_or_at_random() -> None:
    found = rows(built(init="vocabulary").training.model)
    words = {tuple(word.tolist()) for word in found.weight}
    assert all(tuple(row.tolist()) in words for row in found.prompt)
    random = rows(built().training.model).prompt
    assert 0.3 < random.abs().max() <= 0.5


def test_it_may_start_from_another_delta(tmp_path: Path) -> None:
    first = built(init="random")
    folder = toy.save(first, tmp_path / "delta")
    second = built(start=str(folder))
    second.recipe.method.setup(second.training)
    assert torch.equal(rows(first.training.model).prompt, rows(second.training.model).prompt)


@pytest.mark.parametrize(
    ("auto", "name"),
    [
        (AutoModelForTokenClassification, "tiny-bert"),
        (AutoModelForTokenClassification, "tiny-gpt2"),
        (AutoModelForTokenClassification, "tiny-t5"),
        (AutoModelForQuestionAnswering, "tiny-bert"),
        (AutoModelForCausalLM, "tiny-llama"),
        (AutoModelForSeq2SeqLM, "tiny-t5"),
    ],
)
def test_a_task_sees_the_shapes_that_it_knows(auto: Any, name: str) -> None:
    more = {"decoder_input_ids": IDS} if auto is AutoModelForSeq2SeqLM else {}
    asked = {"input_ids": IDS, "output_hidden_states": True, **more}
    bare = tiny(auto, name)(**asked)
    changed = prompted(tiny(auto, name))(**asked)
    assert set(bare) == set(changed)
    for key in set(bare) - {"past_key_values"}:
        if not key.startswith("encoder"):
            assert shapes(bare[key]) == shapes(changed[key]), key


def shapes(value: Any) -> Any:
    return [shapes(one) for one in value] if isinstance(value, tuple) else value.shape


@pytest.mark.parametrize(
    ("auto", "given", "moved"),
    [
        (
            AutoModelForTokenClassification,
            {"labels": IDS % 2},
            {"labels": nn.functional.pad(IDS % 2, (P, 0), value=-100)},
        ),
        (
            AutoModelForQuestionAnswering,
            {"start_positions": torch.tensor([1]), "end_positions": torch.tensor([3])},
            {"start_positions": torch.tensor([1 + P]), "end_positions": torch.tensor([3 + P])},
        ),
    ],
)
def test_labels_and_places_of_tokens_move_along(auto: Any, given: dict[str, Tensor], moved: dict[str, Tensor]) -> None:
    words = torch.tensor([[1, 99, 98, 97, 96]])
    expected = tiny(auto, "tiny-bert")(torch.cat([words, IDS], dim=1), **moved).loss
    model = prompted(tiny(auto, "tiny-bert"))
    set_words(model, words)
    assert torch.allclose(model(IDS, **given).loss, expected)


@pytest.mark.parametrize("backbone", toy.BACKBONES)
def test_padding_changes_no_answer(backbone: str) -> None:
    toyed = built(backbone, init="random")
    texts = ["amber basil cedar", "delta", "fjord grove"]
    together = toy.logits(toyed.training.model, toyed.backbone.tokenizer, texts)
    for text, expected in zip(texts, together, strict=True):
        alone = toy.logits(toyed.training.model, toyed.backbone.tokenizer, [text])[0]
        assert torch.allclose(alone, expected, atol=1e-5)


def test_texts_may_be_shorter_by_the_virtual_tokens(tmp_path: Path) -> None:
    toyed = built()
    assert toyed.backbone.limit == 128 - P
    recipe = toyed.recipe
    loaded = artifact.load(
        toy.save(toyed, tmp_path / "delta"), recipe.model, recipe.task, recipe.method, recipe.train.seed
    )
    assert loaded.limit == 128 - P
    longest = "x" * 500
    encoded = toyed.backbone.tokenizer(longest, truncation=True, max_length=loaded.limit, return_tensors="pt")
    assert toyed.training.model(**encoded).logits.shape == (1, 3)
    with pytest.raises(RecipeError, match="takes 121 of the 128 tokens"):
        built(length=121)


def test_what_it_can_not_do_is_refused() -> None:
    model = prompted(tiny(AutoModelForCausalLM, "tiny-gpt2"))
    with pytest.raises(ModelError, match="return_dict=False"):
        model(IDS, return_dict=False)
    with pytest.raises(ModelError, match="one entry a token"):
        model(IDS, attention_mask=torch.ones(1, 1, 6, 6))
    with pytest.raises(ModelError, match="no model of texts"):
        prompted(nn.Linear(2, 2))


@pytest.mark.parametrize(
    "settings", [{"init": "text"}, {"init": "text", "text": " "}, {"text": "words"}, {"length": 0}]
)
def test_settings_that_contradict_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"init 'text' needs the words|greater than or equal to 1"):
        Prompt(**settings)


def test_a_text_without_tokens_is_refused() -> None:
    with pytest.raises(RecipeError, match="has no tokens"):
        Prompt(init="text", text="x")._ids("", tiny_tokenizer())
