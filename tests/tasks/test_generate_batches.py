"""Batches that change while they are written: the answers of each prompt alone, in places that are given away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    MistralConfig,
    PreTrainedConfig,
)

from tunesmith.core import registry
from tunesmith.core.notes import listening
from tunesmith.core.seeding import generator
from tunesmith.models.builtin import tiny_configs
from tunesmith.tasks import generate_batches as batches
from tunesmith.tasks.generate_answers import written
from tunesmith.tasks.generate_batches import together
from tunesmith.tasks.generate_sampling import Marks, Sampling

STORIES = Path(__file__).parents[3] / "shared" / "models" / "stories260k"
REAL = pytest.param("stories", None, marks=pytest.mark.skipif(not STORIES.is_dir(), reason=f"no {STORIES}"))


def model(name: str, **changed: Any) -> Any:
    torch.manual_seed(3)
    if name == "stories":
        return AutoModelForCausalLM.from_pretrained(STORIES).eval()
    auto = AutoModelForSeq2SeqLM if name == "tiny-t5" else AutoModelForCausalLM
    config = tiny_configs()[name]
    config.update(changed)
    return auto.from_config(config).eval()


def prompts(count: int, least: int = 1) -> list[list[int]]:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(least, 14, (count,), generator=draw).tolist()
    return [[1, *torch.randint(5, 60, (length,), generator=draw).tolist()] for length in lengths]


def alone(found: Any, prompt: list[int], room: int, marks: Marks, **settings: Any) -> list[int]:
    """The reference: transformers' own generation of one prompt."""
    told = GenerationConfig(
        max_new_tokens=room, do_sample=False, eos_token_id=list(marks.stops) or None, pad_token_id=0, **settings
    )
    ids = found.generate(torch.tensor([prompt]), generation_config=told)[0].tolist()
    return ids[len(prompt) if marks.start is None else 1 :]


def rooms_of(count: int) -> list[int]:
    return [1 + 7 * n % 19 for n in range(count)]


@pytest.mark.parametrize("slots", [3, 64])
@pytest.mark.parametrize(("name", "start"), [("tiny-gpt2", None), ("tiny-llama", None), ("tiny-t5", 0), REAL])
def test_answers_are_those_of_each_prompt_alone(
    name: str, start: int | None, slots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "SLOTS", slots)
    found, given, rooms = model(name), prompts(9), rooms_of(9)
    free = alone(found, given[0], 8, Marks((), 0, start))
    for stops in ((), (free[3], free[5])):
        marks = Marks(stops, 0, start)
        said = together(found, given, rooms, Sampling(), marks)
        assert said == [alone(found, one, room, marks) for one, room in zip(given, rooms, strict=True)]


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-llama"])
def test_what_is_repeated_is_punished_as_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "SLOTS", 3)
    found, given, marks = model(name), prompts(7), Marks((2,), 0)
    said = together(found, given, [9] * 7, Sampling(repetition_penalty=1.8), marks)
    assert said == [alone(found, one, 9, marks, repetition_penalty=1.8) for one in given]
    assert said != together(found, given, [9] * 7, Sampling(), marks)


def test_places_are_given_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: one answer of 9 tokens beside eight of 1, in two places."""
    monkeypatch.setattr(batches, "SLOTS", 2)
    found = model("tiny-llama")
    shapes: list[torch.Size] = []
    found.register_forward_pre_hook(lambda _, __, named: shapes.append(named["input_ids"].shape), with_kwargs=True)
    given = [[1, 5, 6, 7]] + [[1, 8]] * 8
    together(found, given, [9] + [1] * 8, Sampling(), Marks((), 0))
    # The first two are read; seven more prompts are read alone as places come free. Of the 8 tokens that are left to
    # the long answer each takes one pass, beside what ended and before it is written alone.
    assert shapes[0] == (2, 4) and shapes.count(torch.Size([1, 2])) == 7
    assert len([shape for shape in shapes if shape[1] == 1]) == 8


@pytest.mark.parametrize("name", ["tiny-gpt2", "tiny-t5"])
def test_rows_that_ended_leave(name: str) -> None:
    found, shapes = model(name), []
    key = "decoder_input_ids" if name == "tiny-t5" else "input_ids"
    found.register_forward_pre_hook(lambda _, __, named: shapes.append(len(named[key])), with_kwargs=True)
    together(found, prompts(16), [2] * 12 + [20] * 4, Sampling(), Marks((), 0, 0 if name == "tiny-t5" else None))
    assert shapes[:2] == [16, 16] and shapes[2:] == [4] * 18


def test_no_position_is_taken_that_the_model_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    # 16 positions, learned: a row that ended there must not go on to the next while another still runs.
    monkeypatch.setattr(batches, "SLOTS", 12)
    found = model("tiny-gpt2", n_positions=16)
    given = [[1, *range(5, 14)], [1, 5]] * 6
    rooms = [6, 14] * 6
    said = together(found, given, rooms, Sampling(), Marks((), 0))
    assert said == [alone(found, one, room, Marks((), 0)) for one, room in zip(given, rooms, strict=True)]


def test_drawn_answers_depend_on_no_company() -> None:
    found, given, marks = model("tiny-llama"), prompts(9), Marks((2,), 0)
    sampling = Sampling(temperature=1.5, top_k=40, top_p=0.95)
    every = together(found, given, [8] * 9, sampling, marks)
    assert every is not None
    assert together(found, given[::-1], [8] * 9, sampling, marks) == every[::-1]
    assert [together(found, [one], [8], sampling, marks) for one in given] == [[one] for one in every]
    # The same prompt again is another draw.
    twice = together(found, [given[0]] * 2, [8] * 2, sampling, marks)
    assert twice is not None and twice[0] == every[0] != twice[1]


def test_nothing_to_answer_is_nothing() -> None:
    assert together(model("tiny-llama"), [], [], Sampling(), Marks((), 0)) == []


@pytest.mark.parametrize("method", ["prefix", "prompt"])
@pytest.mark.parametrize(("name", "start"), [("tiny-llama", None), ("tiny-t5", 0)])
def test_virtual_tokens_are_left_to_transformers(method: str, name: str, start: int | None) -> None:
    found, given, marks = model(name), prompts(4), Marks((), 0, start)
    registry.build("methods", method).modify(found, generator(0, method))  # type: ignore[attr-defined]
    with listening() as notes:
        assert together(found, given, [4] * 4, Sampling(), marks) is None
    assert any("virtual tokens stand before its texts" in text for text in notes)
    expected = [alone(found.double(), one, 4, marks) for one in given]
    assert written(found, given, [4] * 4, Sampling(), marks) == expected


def windowed() -> PreTrainedConfig:
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8}
    return MistralConfig(**sizes, **heads, sliding_window=4, max_position_embeddings=64)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda found: setattr(found.generation_config, "no_repeat_ngram_size", 2), "has no_repeat_ngram_size"),
        (lambda found: setattr(found.generation_config, "min_new_tokens", 5), "has min_new_tokens"),
    ],
)
def test_habits_of_the_backbone_are_left_to_transformers(change: Any, told: str) -> None:
    found = model("tiny-gpt2")
    change(found)
    with listening() as notes:
        assert together(found, prompts(2), [6, 6], Sampling(), Marks((), 0)) is None
    assert any(told in text for text in notes)


def test_a_cache_that_forgets_is_left_to_transformers() -> None:
    torch.manual_seed(0)
    found = AutoModelForCausalLM.from_config(windowed()).eval()
    given, marks = prompts(4, least=6), Marks((), 0)
    with listening() as notes:
        said = written(found, given, [6] * 4, Sampling(), marks)
    assert any("its cache holds more than the keys and values of all tokens" in text for text in notes)
    assert said == [alone(found, one, 6, marks) for one in given]


def test_a_beam_search_is_left_to_transformers() -> None:
    assert together(model("tiny-llama"), prompts(2), [6, 6], Sampling(beams=2), Marks((), 0)) is None
