"""Denoisers of a few blocks that repeat, for the pipeline of ``two_experts``."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin


class Block(torch.nn.Module):
    """Two linear layers, and a number that its code may read."""

    reads_its_number = False

    def __init__(self, width, number):
        super().__init__()
        self.first, self.second = torch.nn.Linear(width, width), torch.nn.Linear(width, width)
        self.number = number

    def forward(self, x):
        x = x + 0.1 * self.second(torch.nn.functional.silu(self.first(x)))
        return x * (1 + self.number) if self.reads_its_number else x


class Repeating(ModelMixin, ConfigMixin):
    """Blocks of the widths ``WIDTHS``, each given that many of 64 channels; ``SKIPPED`` are not
    called.
    """

    WIDTHS = (16, 16, 16, 64)
    SKIPPED = ()
    BLOCK = Block

    @register_to_config
    def __init__(self, rank=4):
        super().__init__()
        self.conv_in = torch.nn.Conv2d(4, 64, 1)
        self.conv_out = torch.nn.Conv2d(64, 4, 1)
        blocks = [self.BLOCK(width, number) for number, width in enumerate(self.WIDTHS)]
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, sample, timestep):
        x = self.conv_in(sample).movedim(1, -1).contiguous()  # strides as of later blocks
        for number, block in enumerate(self.blocks):
            if number not in self.SKIPPED:
                width = block.first.in_features
                x = torch.cat([block(x[..., :width]), x[..., width:]], dim=-1)
        return self.conv_out(x.movedim(-1, 1)) * (timestep / 1000)


class Named(Repeating):
    """Names its blocks, as models of diffusers do."""

    _repeated_blocks = ("Block",)
