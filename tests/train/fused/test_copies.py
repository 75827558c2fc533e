"""What is made of tensors, kept until one of them changes; what products make of it is in `test_products.py`."""

from __future__ import annotations

import torch

from tunesmith.train.fused.copies import Memory


def test_training_and_answering_may_take_turns() -> None:
    memory, weight, made = Memory(), torch.ones(2), []
    for settings in ("training", "answering") * 2:
        memory.of("one", [weight], settings, lambda settings=settings: made.append(settings))  # type: ignore[misc]
    assert made == ["training", "answering"]
    weight.add_(1)
    memory.of("one", [weight], "training", lambda: made.append("again"))
    assert made[2:] == ["again"] and len(memory._known["one"][2]) == 1


def test_what_trains_is_made_anew_after_a_step_of_an_optimizer() -> None:
    memory, made = Memory(), []
    trained, frozen = torch.nn.Parameter(torch.ones(2)), torch.ones(2)
    optimizer = torch.optim.SGD([trained], lr=0.0)
    for _ in range(2):
        memory.of("trained", [trained], None, lambda: made.append("trained"))
        memory.of("frozen", [frozen], None, lambda: made.append("frozen"))
        optimizer.step()
    assert made == ["trained", "frozen", "trained"]
