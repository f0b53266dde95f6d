"""Small pipelines of diffusers with more than one network in their steps, and some made here."""

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLWan,
    ControlNetModel,
    DDIMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusionControlNetPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.image_processor import VaeImageProcessor
from transformers import CLIPTextConfig, CLIPTextModel

from pytest_diffspeed.common.quiet import third_party

SIDE = 16


def _vae():
    return AutoencoderKL(
        latent_channels=4,
        block_out_channels=(8,),
        norm_num_groups=4,
        layers_per_block=1,
        mid_block_add_attention=False,
    )


def _ready(pipeline):
    pipeline.set_progress_bar_config(disable=True)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
    return pipeline


def with_controlnet():
    """Stable Diffusion with a ControlNet, called with embeddings: no tokenizer is needed."""
    shared = dict(
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=4,
        norm_num_groups=4,
        in_channels=4,
    )
    with third_party():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=8, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **shared
        )
        control = ControlNetModel(conditioning_embedding_out_channels=(4,), **shared)
        text = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=8,
                intermediate_size=16,
                num_attention_heads=2,
                num_hidden_layers=1,
                vocab_size=100,
            )
        )
        pipeline = StableDiffusionControlNetPipeline(
            vae=_vae(),
            text_encoder=text,
            tokenizer=None,
            unet=unet,
            controlnet=control,
            scheduler=DDIMScheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    return _ready(pipeline)


def call_with_controlnet(pipeline, *, steps=2, **others):
    """Guidance, and the text encoder run by the caller, as users with long prompts do."""
    ids = torch.arange(7)[None]
    with torch.no_grad():
        words = pipeline.text_encoder(ids)[0]
    side = 8 * pipeline.vae_scale_factor
    arguments = {
        "image": torch.zeros(1, 3, side, side),
        "prompt_embeds": words,
        "negative_prompt_embeds": torch.zeros_like(words),
        "num_inference_steps": steps,
        "output_type": "pt",
        "generator": torch.Generator().manual_seed(0),
        **others,
    }
    with third_party():
        return pipeline(**arguments)


class Expert(UNet2DModel):
    def forward(self, sample, timestep):
        return super().forward(sample, timestep).sample


class BreaksExpert(Expert):
    def forward(self, sample, timestep):
        torch._dynamo.graph_break()
        return super().forward(sample, timestep)


class TwoExperts(DiffusionPipeline):
    """What Wan 2.2 does, in pixels: one expert for the early steps, one for the late."""

    def __init__(self, transformer, transformer_2, vae, scheduler):
        super().__init__()
        self.register_modules(
            transformer=transformer, transformer_2=transformer_2, vae=vae, scheduler=scheduler
        )
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)
        self.early_steps = None

    @property
    def experts(self):
        return self.transformer, self.transformer_2

    @torch.no_grad()
    def __call__(
        self,
        prompt="",
        num_inference_steps=4,
        height=SIDE,
        width=SIDE,
        generator=None,
        output_type="pil",
        return_dict=True,
    ):
        self.scheduler.set_timesteps(num_inference_steps)
        x = torch.randn(1, 4, height, width, generator=generator).to(self.device, self.dtype)
        x = x * self.scheduler.init_noise_sigma
        early = num_inference_steps // 2 if self.early_steps is None else self.early_steps
        for i, t in enumerate(self.scheduler.timesteps):
            expert = self.experts[i >= early]
            scaled = self.scheduler.scale_model_input(x, t)
            x = self.scheduler.step(expert(scaled, t.reshape(1)), t, x, return_dict=False)[0]
        if output_type == "latent":
            return (x,)
        image = self.vae.decode(x, return_dict=False)[0]
        return (self.image_processor.postprocess(image, output_type=output_type),)


class OddNames(TwoExperts):
    def __init__(self, early, late, vae, scheduler):
        DiffusionPipeline.__init__(self)
        self.register_modules(early=early, late=late, vae=vae, scheduler=scheduler)
        self.image_processor = VaeImageProcessor(vae_scale_factor=1)

    @property
    def experts(self):
        return self.early, self.late


def _expert(kind):
    return kind(
        sample_size=SIDE,
        in_channels=4,
        out_channels=4,
        block_out_channels=(8,),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
        add_attention=False,
    )


def two_experts(second=Expert, early_steps=None, kind=TwoExperts):
    with third_party():
        torch.manual_seed(0)
        pipeline = kind(_expert(Expert), _expert(second), _vae(), EulerDiscreteScheduler())
    pipeline.early_steps = early_steps
    return _ready(pipeline)


two_experts.call_defaults = {
    "prompts": ["a fox", "an owl"],
    "steps": 4,
    "height": SIDE,
    "width": SIDE,
}


def second_breaks():
    return two_experts(BreaksExpert)


def odd_names():
    return two_experts(kind=OddNames)


second_breaks.call_defaults = odd_names.call_defaults = two_experts.call_defaults


def wan_2_2():
    """diffusers' own pipeline with two experts, called with embeddings."""

    def transformer():
        return WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=4,
            out_channels=4,
            text_dim=8,
            freq_dim=16,
            ffn_dim=16,
            num_layers=1,
            rope_max_seq_len=32,
        )

    with third_party():
        torch.manual_seed(0)
        pipeline = WanPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=AutoencoderKLWan(
                base_dim=4,
                z_dim=4,
                dim_mult=[1, 1, 1, 1],
                num_res_blocks=1,
                temperal_downsample=[False, True, True],
                latents_mean=[0.0] * 4,
                latents_std=[1.0] * 4,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
            transformer=transformer(),
            transformer_2=transformer(),
            boundary_ratio=0.875,
        )
    return _ready(pipeline)


def call_wan(pipeline, *, steps):
    with third_party():
        return pipeline(
            prompt_embeds=torch.zeros(1, 4, 8),
            height=16,
            width=16,
            num_frames=1,
            guidance_scale=1.0,
            num_inference_steps=steps,
            output_type="pt",
        )
