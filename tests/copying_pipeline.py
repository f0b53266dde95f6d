"""A pipeline that copies its scheduler in each call and steps both, as LTX-2 does for its audio."""

import copy

import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UNet2DModel


class TwoModalities(DiffusionPipeline):
    """``used`` holds the indices that both schedulers had after each step of the last call."""

    def __init__(self, unet, scheduler):
        super().__init__()
        self.register_modules(unet=unet, scheduler=scheduler)
        self.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def __call__(self, num_inference_steps=3, generator=None, output_type="pt", return_dict=False):
        device = self.unet.device
        self.scheduler.set_timesteps(num_inference_steps, device=device)
        audio_scheduler = copy.deepcopy(self.scheduler)
        noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        video = noise.to(device)
        audio = video.clone()
        self.used = []
        for timestep in self.scheduler.timesteps:
            predicted = self.unet(video, timestep * 0 + 1).sample
            video = self.scheduler.step(predicted, timestep, video, return_dict=False)[0]
            audio = audio_scheduler.step(predicted, timestep, audio, return_dict=False)[0]
            self.used.append((self.scheduler.step_index, audio_scheduler.step_index))
        return (video.clamp(0, 1),)


def small_unet():
    """A call takes a few milliseconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DModel(
            sample_size=8,
            block_out_channels=(4, 8),
            norm_num_groups=2,
            layers_per_block=1,
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=4,
        )
    return unet.eval()


def build():
    """With a scheduler that looks its first timestep up."""
    return TwoModalities(small_unet(), FlowMatchEulerDiscreteScheduler())
