"""Which module inside may be counted alone, in place of others that are called alike."""

import pytest
import torch

from pytest_diffspeed.arms.gpu_cost.inner_calls import inner_calls


class Pair(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = torch.nn.Identity(), torch.nn.Identity()


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ((torch.ones(2, 3), 1.0), (torch.zeros(2, 3), 1.0), True),
        ((torch.ones(2, 3),), (torch.ones(3, 2),), False),
        ((torch.ones(2, 3),), (torch.ones(3, 2).T,), True),  # the compiler chooses strides
        ((torch.ones(2, 3),), (torch.ones(2, 3, dtype=torch.float16),), False),
        ((torch.ones(2, 3), 1.0), (torch.ones(2, 3), 2.0), False),
        ((torch.ones(2, 3), object()), (torch.ones(2, 3), object()), False),
    ],
)
def test_inputs_are_alike_in_shape_and_in_plain_values(first, second, alike):
    pair = Pair()
    with inner_calls([pair.one, pair.two]) as calls:
        pair.one.forward = pair.two.forward = lambda *args: args
        pair.one(*first)
        pair.two(*second)
    found = calls.alike([pair.one, pair.two])
    assert (found is not None) == alike
    if found is not None:
        assert found.module is pair.one
        assert found.args == first


def test_a_module_that_is_called_twice_or_never_stands_for_no_other():
    pair = Pair()
    with inner_calls([pair.one, pair.two]) as calls:
        pair.one(torch.ones(1))
        pair.one(torch.ones(1))
    assert calls.alike([pair.one]) is None
    assert calls.alike([pair.two]) is None
    pair.one(torch.ones(1))
    assert len(calls.seen[id(pair.one)]) == 2
