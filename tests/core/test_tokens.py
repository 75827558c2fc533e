"""Texts to token ids, and examples to padded batches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerBase

from tunesmith.core.errors import DataError, ModelError
from tunesmith.core.tokens import (
    IGNORED,
    around,
    batch_of,
    code_points,
    encode_both_orders,
    encode_texts,
    filled,
    glues,
    pad,
    parts_batch,
    texts_of,
    token_losses,
    unfit,
)
from tunesmith.models.builtin import find, tiny_tokenizer
from tunesmith.models.load import load_tokenizer


def shown(
    rows: list[dict[str, Any]], limit: int = 128, keep_pair: bool = False, tokenizer: Any = None
) -> list[tuple[str, bool]]:
    tokenizer = tokenizer or tiny_tokenizer()
    encoded = encode_texts(rows, tokenizer, limit, keep_pair)
    return [(tokenizer.decode(one["input_ids"]), one["cut"]) for one in encoded]


def gluing(pad: str = "</s>", before: str = "", end: str | None = "</s>") -> PreTrainedTokenizerBase:
    """A tokenizer of GPT-2's kind: nothing stands between two texts or after them, and the end token may pad."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{before} $A".strip(), pair=f"{before} $A $B".strip(), special_tokens=[("<s>", 1)]
    )
    tokenizer.pad_token, tokenizer.eos_token = pad, end
    return tokenizer


def test_texts_and_pairs() -> None:
    assert shown([{"text": "ab"}, {"text": "é"}]) == [("<s>ab</s>", False), ("<s>é</s>", False)]
    assert shown([{"text": "ab", "pair": "cd"}]) == [("<s>ab</s>cd</s>", False)]


def test_long_texts_are_cut_at_their_end_and_told() -> None:
    assert shown([{"text": "abcdef"}, {"text": "abcd"}, {"text": "x"}], limit=6) == [
        ("<s>abcd</s>", True),
        ("<s>abcd</s>", False),
        ("<s>x</s>", False),
    ]


def test_of_a_pair_the_longer_text_is_cut() -> None:
    assert shown([{"text": "abcdef", "pair": "xy"}], limit=8) == [("<s>abc</s>xy</s>", True)]
    assert shown([{"text": "ab", "pair": "uvwxyz"}], limit=8) == [("<s>ab</s>uvw</s>", True)]


def test_padding_by_hand() -> None:
    inputs = pad([{"input_ids": [5, 6, 7]}, {"input_ids": [8]}], tiny_tokenizer())
    assert inputs["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_padding_token_within_a_text_is_seen() -> None:
    # GPT-2's kind pads with a token that a text may hold: the mask follows the length, not the token.
    inputs = pad([{"input_ids": [5, 0, 7]}, {"input_ids": [0]}], tiny_tokenizer())
    assert inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_a_batch_knows_its_rows_and_its_cuts() -> None:
    examples = [{"input_ids": [5], "cut": True, "row": 9}, {"input_ids": [5], "cut": False, "row": 4}]
    batch = batch_of(examples, tiny_tokenizer(), {"targets": torch.tensor([1, 0])})
    assert (list(batch.rows), batch.cut, batch.fields["targets"].tolist()) == ([9, 4], 1, [1, 0])
    assert "row" not in batch.inputs and "cut" not in batch.inputs


@pytest.mark.parametrize("pair", [False, True])
def test_batches_are_those_of_the_tokenizer_itself(pair: bool) -> None:
    # The reference: the tokenizer's own padding and truncation, here of BERT's kind, with segment numbers for pairs.
    tokenizer = load_tokenizer(str(find("minilm")))
    texts = ["A short one.", "One that is a good deal longer than the limit allows it to be, so that it is cut.", "x"]
    pairs = (
        ["And what is said of it.", "y", "Something longer again, though not as long as all that."] if pair else None
    )
    rows = [{"text": text, **({"pair": pairs[n]} if pairs else {})} for n, text in enumerate(texts)]
    found = pad(encode_texts(rows, tokenizer, 16), tokenizer)
    expected = tokenizer(texts, pairs, padding=True, truncation=True, max_length=16, return_tensors="pt")
    assert set(found) == set(expected)
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_several_sequences_a_row_share_a_batch() -> None:
    tokenizer = tiny_tokenizer()
    encoded = encode_texts([{"text": text} for text in ("a", "bcd", "ef")], tokenizer, 128)
    examples = [{"parts": encoded[:2], "row": 7}, {"parts": encoded[2:], "row": 9, "cut": True}]
    batch = parts_batch(examples, tokenizer, {"targets": torch.tensor([1, 0])})
    assert batch.fields["owners"].tolist() == [0, 0, 1]
    assert batch.inputs["attention_mask"].sum(dim=1).tolist() == [3, 5, 4]
    assert (list(batch.rows), batch.cut) == ([7, 9], 1)


def test_losses_of_tokens_by_hand() -> None:
    # Two classes at equal odds: log 2; logits (log 3, 0) for the first class: log(4/3). The ignored position: 0.
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), 0.0], [5.0, 1.0]]])
    losses = token_losses(logits, torch.tensor([[1, 0, IGNORED]]))
    assert losses.tolist() == [pytest.approx([math.log(2), math.log(4 / 3), 0.0])]


def test_lists_are_filled_up() -> None:
    assert filled([[1], [2, 3]], 3, -1).tolist() == [[1, -1, -1], [2, 3, -1]]


def test_a_tokenizer_that_glues_gets_a_delimiter() -> None:
    row = {"text": "ab", "pair": "cd"}
    assert [glues(one) for one in (tiny_tokenizer(), gluing(), gluing(before="<s>"))] == [False, True, True]
    # Where the end token pads as well, a classifier would take it for padding: none is put at the end.
    assert shown([row], tokenizer=gluing()) == [("ab</s>cd", False)]
    assert shown([row], tokenizer=gluing(pad="<pad>")) == [("ab</s>cd</s>", False)]
    assert shown([row], tokenizer=gluing(pad="<pad>", before="<s>")) == [("<s>ab</s>cd</s>", False)]
    assert shown([row], tokenizer=gluing(pad="<pad>", end=None)) == [("ab\ncd", False)]
    assert shown([{"text": "ab"}], tokenizer=gluing(pad="<pad>")) == [("ab", False)]


def test_what_the_tokenizer_puts_behind_stays() -> None:
    tokenizer = gluing(pad="<pad>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    assert around(tokenizer) == ([1], [2], [2])
    assert shown([{"text": "a", "pair": "b"}], tokenizer=tokenizer) == [("<s>a</s>b</s>", False)]


def test_a_tokenizer_without_anything_to_put_between_is_told() -> None:
    def empty(text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [5] if text == "a" else []}

    class Wordless:
        eos_token_id = pad_token_id = None
        __call__ = staticmethod(empty)

    with pytest.raises(ModelError, match="neither an end-of-text token nor a newline"):
        around(Wordless())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "tokenizer", [tiny_tokenizer(), gluing(pad="<pad>"), gluing()], ids=["framed", "glued", "pads"]
)
def test_a_pair_is_cut_as_told(tokenizer: Any) -> None:
    row, other = {"text": "abcdefgh", "pair": "xyz"}, {"text": "ab", "pair": "uvwxyzuvw"}
    taken = len(encode_texts([{"text": "a", "pair": "b"}], tokenizer, 128)[0]["input_ids"]) - 2
    for rows, keep, told in (
        ([row], False, ("abc", "xyz")), ([row], True, ("abc", "xyz")), ([other], False, ("ab", "uvwx"))
    ):  # fmt: skip
        ((text, cut),) = shown(rows, taken + 6, keep, tokenizer)
        letters = text.replace("<s>", "").removesuffix("</s>")
        assert (letters, cut) == ("</s>".join(told), True)
    assert [cut for _, cut in shown([row, other], taken + 11, True, tokenizer)] == [False, False]


@pytest.mark.parametrize("tokenizer", [tiny_tokenizer(), gluing(pad="<pad>")], ids=["framed", "glued"])
def test_a_pair_that_must_stay_whole_and_does_not_fit_is_told(tokenizer: Any) -> None:
    taken = len(encode_texts([{"text": "a", "pair": "b"}], tokenizer, 128)[0]["input_ids"]) - 2
    rows = [{"text": "a", "pair": "b" * length, "line": length} for length in (9, 10, 30)]
    assert len(unfit(rows, tokenizer, taken + 10)) == 2
    with pytest.raises(
        DataError, match=r"line 10: 'b{10}…' has 10 tokens, is not to be cut, and only 9 fit\n.*line 30"
    ):
        encode_texts(rows, tokenizer, taken + 10, keep_pair=True)
    assert unfit(rows[:1], tokenizer, taken + 10) == []
    ((_, cut),) = shown([{"text": "abc", "pair": "b" * 9}], taken + 10, True, tokenizer)
    assert cut


def test_both_orders_are_those_of_the_swapped_row() -> None:
    tokenizer = tiny_tokenizer()
    (one,) = encode_both_orders([{"text": "ab", "pair": "c" * 20}], tokenizer, 12)
    (other,) = encode_both_orders([{"text": "c" * 20, "pair": "ab"}], tokenizer, 12)
    assert one == other
    told = [tokenizer.decode(part["input_ids"]) for part in one["parts"]]
    assert told == [f"<s>ab</s>{'c' * 7}</s>", f"<s>{'c' * 7}</s>ab</s>"]
    assert one["cut"] is True
    assert encode_both_orders([{"text": "a", "pair": "b"}], tokenizer, 12)[0]["cut"] is False


@pytest.mark.parametrize("pad_token", ["</s>", "<pad>"])
@pytest.mark.parametrize("backbone", ["tiny-gpt2", "tiny-llama"])
@torch.inference_mode()
def test_a_decoder_reads_the_last_token_of_the_text(backbone: str, pad_token: str) -> None:
    tokenizer = gluing(pad_token)
    config: Any = find(backbone)
    config.pad_token_id, config.num_labels = tokenizer.pad_token_id, 3
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    rows = [{"text": "amber", "pair": "basil wood"}, {"text": "x", "pair": "yz"}, {"text": "oak", "pair": "a"}]
    for given in (rows, [{"text": row["text"]} for row in rows]):
        examples = encode_texts(given, tokenizer, 128)
        whole = model(**pad(examples, tokenizer)).logits
        single = torch.cat([model(**pad([one], tokenizer)).logits for one in examples])
        states = model.base_model(input_ids=torch.tensor([examples[0]["input_ids"]])).last_hidden_state
        assert torch.allclose(whole, single, atol=1e-6)
        assert torch.allclose(model.score(states[0, -1]), whole[0], atol=1e-6)


@pytest.mark.parametrize("text", ["", "oak", "naïve – 🪑 chair", "a\0b", "\ud800 alone", "long " * 9])
def test_texts_travel_as_numbers(text: str) -> None:
    assert texts_of(code_points([text, "a longer text than it"])) == [text, "a longer text than it"]
