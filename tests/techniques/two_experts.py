"""A text-to-image pipeline with two experts, as Wan 2.2 has them: one for the early steps, one for
the late ones.  Its models are a few layers, of images or of videos with one frame.
"""

import torch
from diffusers import AutoencoderKL, DiffusionPipeline, EulerDiscreteScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.image_processor import VaeImageProcessor
from diffusers.models.attention import AttentionMixin
from diffusers.models.attention_processor import Attention, AttnProcessor, FusedAttnProcessor2_0
from diffusers.models.modeling_utils import ModelMixin


class Expert(ModelMixin, ConfigMixin, AttentionMixin):
    """Three convolutions and one attention; ``rank`` 5 makes them those of a video."""

    @register_to_config
    def __init__(self, rank=4, channels=16):
        super().__init__()
        convolution = torch.nn.Conv2d if rank == 4 else torch.nn.Conv3d
        self.rank = rank
        self.conv_in = convolution(4, channels, 3, padding=1)
        self.conv_mid = convolution(channels, channels, 3, padding=1)
        self.conv_out = convolution(channels, 4, 3, padding=1)
        self.attention = Attention(channels, heads=2, dim_head=channels // 2)

    def fuse_qkv_projections(self):
        """As models of the older kind have it."""
        self.original_attn_processors = self.attn_processors
        self.attention.fuse_projections(fuse=True)
        self.set_attn_processor(FusedAttnProcessor2_0())

    def set_default_attn_processor(self):
        self.set_attn_processor(AttnProcessor())

    def forward(self, sample, timestep):
        # Of a video, two at once: for one, torch's kernel on a CPU knows contiguous tensors only.
        x = sample if self.rank == 4 else torch.cat([sample, sample])[:, :, None]
        x = torch.nn.functional.silu(self.conv_in(x))
        x = x + self.conv_mid(x) * 0.1
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens)
        x = x + 0.1 * tokens.transpose(1, 2).reshape(x.shape) * (timestep / 1000)
        x = self.conv_out(x)
        return x if self.rank == 4 else x[:1, :, 0]


class TwoExperts(DiffusionPipeline):
    """``transformer`` runs in the first half of the steps and ``transformer_2`` in the second."""

    def __init__(self, transformer, transformer_2, vae, scheduler):
        super().__init__()
        self.register_modules(
            transformer=transformer, transformer_2=transformer_2, vae=vae, scheduler=scheduler
        )
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    @torch.no_grad()
    def __call__(
        self,
        prompt="",
        num_inference_steps=4,
        height=16,
        width=16,
        generator=None,
        output_type="pil",
        return_dict=True,
    ):
        device, dtype = self.transformer.device, self.transformer.dtype
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        self.scheduler.set_begin_index(0)
        x = torch.randn(1, 4, height, width, generator=generator).to(device, dtype)
        x = x * self.scheduler.init_noise_sigma + (sum(map(ord, prompt)) % 97) / 97
        boundary = num_inference_steps // 2
        for i, t in enumerate(self.scheduler.timesteps):
            model = self.transformer if i < boundary else self.transformer_2
            noise = model(self.scheduler.scale_model_input(x, t), t.reshape(1).to(dtype))
            x = self.scheduler.step(noise, t, x, return_dict=False)[0]
        if output_type == "latent":
            return (x,)
        image = self.vae.decode(x / self.vae.config.scaling_factor, return_dict=False)[0]
        return (self.image_processor.postprocess(image, output_type=output_type),)


def build(rank=4, first=Expert, second=Expert):
    """In float32 and evaluation mode, with the same weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = AutoencoderKL(
            latent_channels=4,
            block_out_channels=(8,),
            norm_num_groups=4,
            layers_per_block=1,
            mid_block_add_attention=False,
        )
        pipe = TwoExperts(first(rank), second(rank), vae, EulerDiscreteScheduler())
    for part in (pipe.transformer, pipe.transformer_2, pipe.vae):
        part.eval().requires_grad_(False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call(pipe, steps=4):
    generator = torch.Generator("cpu").manual_seed(0)
    return pipe(
        prompt="an owl",
        num_inference_steps=steps,
        generator=generator,
        output_type="pt",
        return_dict=False,
    )[0]
