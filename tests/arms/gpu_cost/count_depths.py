"""Count a deep model eagerly, by all its blocks and by a few of them: JSON out."""

import json

import torch

from pytest_diffspeed.arms.gpu_cost.depth import count_few_blocks
from pytest_diffspeed.gpucost import FakeGpu, count_eager, named_gpu
from tests.arms.gpu_cost.sources import deep_flux


def main():
    model = deep_flux()
    fake = FakeGpu(named_gpu("a100")).install()
    fake.on_device(model)
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

    def count():
        return count_eager(model, (), fake.like(inputs), fake=fake)

    def flops():
        return count()[0].figures()["flops"]

    whole, few = count_few_blocks(None, count, flops), count_few_blocks(model, count, flops)
    doubted = count_few_blocks(model, count, lambda: flops() + 1)
    kept = [list(model.transformer_blocks), list(model.single_transformer_blocks)] == blocks
    figures = [one.cost.figures() for one in (whole, few)]
    print(
        "\n"
        + json.dumps(
            {"figures": figures, "depth": few.depth, "kept": kept, "doubted": doubted.depth}
        )
    )


if __name__ == "__main__":
    main()
