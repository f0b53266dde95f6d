"""A pipeline that a commit can make slower, and that notes the device memory of its process."""

import time

import torch
from diffusers import EulerDiscreteScheduler
from shared_notes import note

from pytest_diffspeed.pipelines.sources import parse_source

SLOWER = False
DEVICE_CYCLES = 300_000_000
"""About 0.15 s at 2 GHz, in each step."""
SLEEP_S = 0.4
"""So much that a busy machine shows it."""
NOTED_CALLS = 6
"""Calls of a process that note its memory: asking the driver takes time, so later ones do not."""
_calls = 0


def note_memory(device):
    global _calls
    _calls += 1
    if _calls > NOTED_CALLS:
        return
    figures = {}
    if torch.device(device).type == "cuda" and torch.cuda.is_available():  # not on a simulated one
        free, total = torch.cuda.mem_get_info(device)
        figures = {
            "allocated": torch.cuda.memory_allocated(device),
            "reserved": torch.cuda.memory_reserved(device),
            "used_on_device": total - free,
        }
    note(kind="memory", call=_calls, **figures)


class SharedScheduler(EulerDiscreteScheduler):
    def set_timesteps(self, num_inference_steps=None, device=None, **rest):
        note_memory(device or "cpu")
        return super().set_timesteps(num_inference_steps, device=device, **rest)

    def step(self, model_output, timestep, sample, **rest):
        if SLOWER and sample.is_cuda:
            torch.cuda._sleep(DEVICE_CYCLES)
        elif SLOWER:
            time.sleep(SLEEP_S)
        return super().step(model_output, timestep, sample, **rest)


def make():
    pipe = parse_source("random:sdxl-tiny").build()
    pipe.scheduler = SharedScheduler.from_config(pipe.scheduler.config)
    return pipe


make.call_defaults = {"steps": 2}
