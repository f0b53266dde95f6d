"""A pipeline that a commit can make slower, and that notes the device memory of its process."""

import json
import os
import time

import torch
from diffusers import EulerDiscreteScheduler

from pytest_diffspeed.pipelines.sources import parse_source

SLOWER = False
DEVICE_CYCLES = 150_000_000
SLEEP_S = 0.1
NOTED_CALLS = 6
"""Calls of a process that note its memory: asking the driver takes time, so later ones do not."""
_calls = 0


def note(**content):
    """Append a line for the part that started all this; one write, so that lines stay whole."""
    path = os.environ.get("GPU_CHECK_NOTES")
    if path is None:
        return
    line = json.dumps({"pid": os.getpid(), "at": time.monotonic(), **content}) + "\n"
    target = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(target, line.encode())
    finally:
        os.close(target)


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


make.call_defaults = {"steps": 4}
