"""Generation: greedy text as transformers writes it, rooms, stops, drawing that can be repeated."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tunesmith.core.step import Step
from tunesmith.core.unpadded import unpadded
from tunesmith.models.builtin import tiny_configs, tiny_tokenizer
from tunesmith.tasks import generate_sequences as sequences
from tunesmith.tasks.generate_answers import answered, config, texts, written
from tunesmith.tasks.generate_sampling import Marks, Sampling

PROMPTS = [[1, 9, 8, 7], [1, 5], [1, 6, 6, 7, 30, 31], [1]]


def model(name: str, seed: int = 3) -> Any:
    torch.manual_seed(seed)
    auto = AutoModelForSeq2SeqLM if name == "tiny-t5" else AutoModelForCausalLM
    found = auto.from_config(tiny_configs()[name]).eval()
    # As in training: the cache is off in the configuration.
    found.config.use_cache = False
    return found


def by_hand(found: Any, prompt: list[int], room: int, stops: tuple[int, ...], start: int | None = None) -> list[int]:
    """The likeliest token each time, without a cache."""
    new: list[int] = []
    for _ in range(room):
        if start is None:
            logits = found(input_ids=torch.tensor([prompt + new])).logits
        else:
            logits = found(input_ids=torch.tensor([prompt]), decoder_input_ids=torch.tensor([[start, *new]])).logits
        token = int(logits[0, -1].argmax())
        if token in stops:
            break
        new.append(token)
    return new


@pytest.mark.parametrize(("name", "start"), [("tiny-gpt2", None), ("tiny-llama", None), ("tiny-t5", 0)])
def test_greedy_answers_are_the_likeliest_tokens_one_by_one(name: str, start: int | None) -> None:
    found = model(name)
    rooms = [9, 5, 9, 12]
    # A token that the model likes to say ends an answer, so that some end early.
    stop = by_hand(found, PROMPTS[0], 9, (), start)[3]
    for stops in ((), (stop,)):
        answers = written(found, PROMPTS, rooms, Sampling(), Marks(stops, 0, start))
        expected = [by_hand(found, one, room, stops, start) for one, room in zip(PROMPTS, rooms, strict=True)]
        assert answers == expected
    assert len(answers[0]) < 9


def test_padding_may_be_the_end_token() -> None:
    found = model("tiny-gpt2")
    told = [written(found, PROMPTS, [6] * 4, Sampling(), Marks((2,), padding)) for padding in (0, 2)]
    assert told[0] == told[1]


def test_drawn_answers_can_be_repeated() -> None:
    found, sampling = model("tiny-llama"), Sampling(temperature=2.0, top_k=50, top_p=0.95)
    before = torch.random.get_rng_state()
    first, again = (written(found, PROMPTS, [8] * 4, sampling, Marks((2,), 0)) for _ in range(2))
    assert first == again != written(found, PROMPTS, [8] * 4, Sampling(), Marks((2,), 0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_beam_finds_what_is_at_least_as_likely() -> None:
    found = model("tiny-llama")

    def likelihood(new: list[int]) -> float:
        ids = torch.tensor([PROMPTS[0] + new])
        logits = found(input_ids=ids).logits[0].log_softmax(-1).detach()
        return sum(float(logits[len(PROMPTS[0]) - 1 + at, token]) for at, token in enumerate(new))

    greedy, beam = (written(found, PROMPTS[:1], [5], Sampling(beams=beams), Marks((), 0))[0] for beams in (1, 8))
    assert likelihood(beam) >= likelihood(greedy) - 1e-6


def test_what_is_repeated_is_punished() -> None:
    found = model("tiny-gpt2")
    answer = written(found, [[1, 9]], [20], Sampling(repetition_penalty=100.0), Marks((), 0))[0]
    assert len(set(answer)) == 20


def test_transformers_is_told_all_that_a_recipe_says() -> None:
    told = config(Sampling(), 5, Marks((7, 2), 0))
    assert told.eos_token_id == [7, 2] and told.do_sample is False and told.use_cache is True


@pytest.mark.parametrize(("name", "start"), [("tiny-gpt2", None), ("tiny-t5", 0)])
def test_what_is_said_ahead_is_what_a_batch_would_say(name: str, start: int | None) -> None:
    found, tokenizer = model(name), tiny_tokenizer()
    marks, sampling = Marks((2,), 0, start), Sampling()
    base = {"input_ids": [1, 5], "loss": [False, True], "labels": [5, 2], "cut": False, "short": False}
    asked = [{"asked": True}, {}, {"chosen": True}, {"asked": True}]
    examples = [{**base, "prompt": prompt, "room": 5, **more} for prompt, more in zip(PROMPTS, asked, strict=True)]
    later = sequences.batch(examples, tokenizer, start)
    ahead = sequences.batch(answered(found, examples, sampling, marks), tokenizer, start)
    assert "prompts" in later.fields and "prompts" not in ahead.fields
    said = [texts(Step(found, cast(Any, None), batch), tokenizer, sampling, marks) for batch in (ahead, later)]
    assert said[0] == said[1] and list(said[0]) == [0, 2, 3] and any(said[0].values())
    # Nobody is asked: nothing is written.
    quiet = [{**example, "asked": False, "chosen": False} for example in examples]
    assert answered(found, quiet, sampling, marks) is quiet


@pytest.mark.parametrize(("name", "start"), [("tiny-gpt2", None), ("tiny-llama", None), ("tiny-t5", 0)])
def test_answers_are_the_same_where_blocks_run_without_padding(name: str, start: int | None) -> None:
    found, marks = model(name), Marks((2,), 0, start)
    outside = written(found, PROMPTS, [7] * 4, Sampling(), marks)
    with unpadded(found) as why:
        assert not why
        assert written(found, PROMPTS, [7] * 4, Sampling(), marks) == outside
