"""Copies of a component's inputs: tensors of their own, everything else as compiled code saw it."""

import dataclasses
from collections import OrderedDict, UserDict
from types import SimpleNamespace

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

from pytest_diffspeed.pipelines.copied_inputs import bytes_in, copied, tensors_in


@dataclasses.dataclass(frozen=True)
class Conditions:
    image: torch.Tensor
    scale: float


class Extra(dict): ...


def test_no_write_to_the_one_reaches_the_other():
    first = torch.zeros(2, 3)
    inputs = (
        [first, {"a": torch.ones(2)}],
        Conditions(torch.ones(3), 0.5),
        Extra(b=torch.ones(1)),
        OrderedDict(c=torch.ones(1)),
        UserDict(d=torch.ones(1)),
        UNet2DConditionOutput(sample=torch.ones(2)),
    )
    own = copied(inputs)
    assert [type(one) for one in own[:4]] == [list, Conditions, Extra, OrderedDict]
    assert own[1].scale == 0.5
    for before, after in zip(tensors_in(inputs), tensors_in(own), strict=True):
        assert torch.equal(before, after)
        after.add_(1)
        assert not torch.equal(before, after)
    own[0].append("more")
    assert len(inputs[0]) == 2


def test_strides_and_aliases_stay_since_compiled_code_asks_for_them():
    base = torch.arange(24.0).reshape(2, 3, 4)
    for tensor in (
        base.permute(2, 0, 1),
        base[:, ::2],
        torch.tensor(3.0).expand(4),
        base[:1].expand(5, 3, 4),
        torch.ones(1, 4, 2, 2).contiguous(memory_format=torch.channels_last),
    ):
        own = copied([tensor])[0]
        assert torch.equal(own, tensor)
        assert own.stride() == tensor.stride()
    first, second = copied((base, base))
    assert first is second
    generator = torch.Generator()
    assert copied({"generator": generator})["generator"] is generator


def test_tensors_on_an_object_that_is_no_container_are_found():
    distribution = SimpleNamespace(mean=torch.ones(4), name="of a VAE")
    assert [tensor.shape for tensor in tensors_in({"latent_dist": distribution})] == [(4,)]
    both = torch.ones(8)
    assert bytes_in([both, both[:4]]) == 32
