"""Answers by real generation: prompts in batches of bounded size, each answer with the room that its row has."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from tunesmith.core import anatomy
from tunesmith.core.step import Step
from tunesmith.tasks import generate_sequences as sequences
from tunesmith.tasks.generate_batches import together
from tunesmith.tasks.generate_lessons import Example
from tunesmith.tasks.generate_rows import padded
from tunesmith.tasks.generate_sampling import Marks, Sampling

SEQUENCES = 32
"""Most sequences (beams counted) that are written at once in a batch that ends together."""


def answered(model: Any, examples: list[Example], sampling: Sampling, marks: Marks) -> list[Example]:
    """The examples with what was `said`: the ids of the answer of each that is to be answered, none of the others."""
    places = [place for place, example in enumerate(examples) if sequences.wants(example)]
    if not places:
        return examples
    prompts, rooms = ([examples[place][name] for place in places] for name in ("prompt", "room"))
    said = dict(zip(places, written(model, prompts, rooms, sampling, marks), strict=True))
    return [{**example, "said": said.get(place, [])} for place, example in enumerate(examples)]


def texts(step: Step, tokenizer: PreTrainedTokenizerBase, sampling: Sampling, marks: Marks) -> dict[int, str]:
    """The answers of a batch, by the places of those that are to be answered (see `generate_sequences.asked`)."""
    fields = step.batch.fields
    if "places" not in fields:
        return {}
    if "said" in fields:
        found = [[one for one in ids if one >= 0] for ids in fields["said"].tolist()]
    else:
        lengths, rooms = fields["lengths"].tolist(), fields["rooms"].tolist()
        prompts = [ids[:length] for ids, length in zip(fields["prompts"].tolist(), lengths, strict=True)]
        found = written(step.model, prompts, rooms, sampling, marks)
    said = [str(tokenizer.decode(ids, skip_special_tokens=True)) for ids in found]
    return dict(zip(fields["places"].tolist(), said, strict=True))


def written(
    model: Any, prompts: Sequence[Sequence[int]], rooms: Sequence[int], sampling: Sampling, marks: Marks
) -> list[list[int]]:
    """The ids that a model writes behind each prompt, without what ends an answer: at most `rooms` of them.

    Greedy answers do not depend on what stands beside them, nor do drawn ones where the batch may change; where it ends
    together, drawn ones follow from the prompts that are written together.
    """
    if (written := together(model, prompts, rooms, sampling, marks)) is not None:
        return [_ended(one, marks.stops) for one in written]
    found: list[list[int]] = [[] for _ in prompts]
    for places in _portions(rooms, max(1, SEQUENCES // sampling.beams)):
        some = [prompts[place] for place in places]
        ids = _generated(model, some, rooms[places[0]], sampling, marks)
        for place, one in zip(places, ids, strict=True):
            found[place] = _ended(one, marks.stops)
    return found


def _portions(rooms: Sequence[int], most: int) -> Iterator[list[int]]:
    # Rows with the same room go together: so none is written longer than it may be.
    for room in sorted(set(rooms), reverse=True):
        alike = [place for place, own in enumerate(rooms) if own == room]
        for at in range(0, len(alike), most):
            yield alike[at : at + most]


def _generated(
    model: Any, prompts: Sequence[Sequence[int]], room: int, sampling: Sampling, marks: Marks
) -> list[list[int]]:
    device = anatomy.device_of(model)
    ids, mask = padded(prompts, marks.padding, left=marks.start is None)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(zlib.crc32(ids.numpy().tobytes()))
        found = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), generation_config=config(sampling, room, marks)
        )
    begun = ids.shape[1] if marks.start is None else 1
    new: list[list[int]] = found[:, begun:].tolist()
    return new


def config(sampling: Sampling, room: int, marks: Marks) -> GenerationConfig:
    """What transformers is told: all that a recipe can say, so that no habit of the backbone's takes its place."""
    drawing = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
    return GenerationConfig(
        max_new_tokens=room,
        do_sample=sampling.temperature > 0,
        num_beams=sampling.beams,
        repetition_penalty=sampling.repetition_penalty,
        eos_token_id=list(marks.stops) or None,
        pad_token_id=marks.padding,
        decoder_start_token_id=marks.start,
        # Training switches the cache off in the model's own configuration.
        use_cache=True,
        **(drawing if sampling.temperature > 0 else {}),
    )


def _ended(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    end = next((at for at, one in enumerate(ids) if one in stops), len(ids))
    return list(ids[:end])
