"""Count deep models eagerly, by all their blocks and by a few of them: JSON out."""

import json

import torch

from pytest_diffspeed.arms.gpu_cost.depth import count_few_blocks
from pytest_diffspeed.gpucost import FakeGpu, count_eager, named_gpu
from tests.arms.gpu_cost.sources import deep_flux, deep_unet


def main():
    fake = FakeGpu(named_gpu("a100")).install()
    print("\n" + json.dumps({"flux": flux(fake), "unet": unet(fake)}))


def flux(fake):
    model = fake.on_device(deep_flux())
    blocks = [list(model.transformer_blocks), list(model.single_transformer_blocks)]
    config = model.config
    inputs = {
        "hidden_states": torch.empty(1, 64, config.in_channels, device="meta"),
        "encoder_hidden_states": torch.empty(1, 16, config.joint_attention_dim, device="meta"),
        "pooled_projections": torch.empty(1, config.pooled_projection_dim, device="meta"),
        "timestep": torch.empty(1, device="meta"),
        "img_ids": torch.empty(64, 3, device="meta"),
        "txt_ids": torch.empty(16, 3, device="meta"),
        "guidance": torch.empty(1, device="meta"),
    }
    found = counts(model, fake.like(inputs), fake)
    found["kept"] = [
        list(model.transformer_blocks),
        list(model.single_transformer_blocks),
    ] == blocks
    return found


def unet(fake):
    model = fake.on_device(deep_unet())
    inputs = {
        "sample": torch.empty(2, 4, 16, 16, device="meta"),
        "timestep": torch.empty(2, device="meta"),
        "encoder_hidden_states": torch.empty(2, 7, 32, device="meta"),
    }
    return counts(model, fake.like(inputs), fake)


def counts(model, inputs, fake):
    parts = []

    def count():
        return count_eager(model, (), inputs, fake=fake)

    def part(call):
        parts.append(type(call.module).__name__)
        return count_eager(call.module, call.args, call.kwargs, fake=fake)[0]

    def flops():
        return count()[0].figures()["flops"]

    whole, few = (count_few_blocks(one, count, flops, part) for one in (None, model))
    doubted = count_few_blocks(model, count, lambda: flops() + 1)
    return {
        "figures": [one.cost.figures() for one in (whole, few)],
        "depth": few.depth,
        "doubted": doubted.depth,
        "parts": parts,
        "without parts": count_few_blocks(model, count, flops).depth,
        "hooks": sum(len(part._forward_pre_hooks) for part in model.modules()),
    }


if __name__ == "__main__":
    main()
