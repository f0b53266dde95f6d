"""What a component keeps between two calls, and which of it tells two calls apart."""

import functools
from enum import Enum
from types import SimpleNamespace

import pytest
import torch

from pytest_diffspeed.arms.gpu_cost.kept_values import changed, kept_values


class Way(Enum):
    UP = 1
    DOWN = 2


def module():
    made = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.SiLU())
    made[1].seen = 0
    made[1].cache = {"states": [None]}
    made[1].held = SimpleNamespace(way=Way.UP)
    made[1].held.again = made[1].held  # a circle
    return made


def closure(made):
    calls = 0

    def hook(module, args):
        nonlocal calls
        calls += 1

    made.register_forward_pre_hook(hook)
    return lambda: hook(made, ())


def of_a_partial(made):
    kept = []
    made[1].function = functools.partial(print, kept)
    return lambda: kept.append(1)


CHANGES = {
    "an attribute": lambda made: lambda: setattr(made[1], "seen", 1),
    "in a list in a dict": lambda made: lambda: made[1].cache["states"].append(torch.zeros(2)),
    "of an object": lambda made: lambda: setattr(made[1].held, "way", Way.DOWN),
    "in a closure of a hook": closure,
    "in what a function was given": of_a_partial,
    "another class": lambda made: lambda: setattr(made[1], "__class__", torch.nn.ReLU),
    "its mode": lambda made: lambda: made.eval(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_is_seen(name):
    made = module()
    change = CHANGES[name](made)
    before = kept_values(made)
    assert kept_values(made) == before
    change()
    assert changed(before, kept_values(made))


def test_weights_and_values_of_tensors_are_not_what_is_kept():
    made = module()
    made[1].table = torch.zeros(2)
    before = kept_values(made)
    with torch.no_grad():
        made[0].weight.fill_(3)
    made[1].table.fill_(3)
    made(torch.zeros(1, 2))
    assert kept_values(made) == before


def test_being_compiled_is_nothing_that_a_call_keeps():
    """Or each denoiser would be compiled twice for one count."""
    made = module()
    before = kept_values(made)
    torch.compile(made, backend="eager")(torch.zeros(1, 2))
    assert changed(before, kept_values(made)) == ""


def test_a_change_is_told_with_its_place():
    made = module()
    before = kept_values(made)
    made[1].seen = 5
    assert changed(before, kept_values(made)) == "1.seen: 0 → 5"
