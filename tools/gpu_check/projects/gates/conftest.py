"""Techniques that plant a fault into the candidate and leave the baseline alone."""

import math
import time

import torch

from pytest_diffspeed.techniques.catalog.compile import Compile
from pytest_diffspeed.techniques.technique import Family, Proof, Technique

DEVICE_CYCLES = 300_000_000
"""About 0.15 s at 2 GHz, in each step: several times what a step of the demo pipeline takes."""
SLEEP_S = 0.25
"""So much that a busy machine shows it."""
KEPT_BYTES = 2**26
"""Above the weights and activations of the demo pipeline together."""


class PlantedInScheduler(Technique):
    """Gives the scheduler's class another ``step``; the baseline has a scheduler of its own."""

    family = Family.SCHEDULER
    changes = frozenset({"scheduler"})
    summary = "a planted fault"

    def __init__(self, name, step):
        self.name = name
        self._step = step

    def apply(self, pipeline):
        plain, planted = type(pipeline.scheduler), self._step

        class Planted(plain):
            def step(self, model_output, timestep, sample, **rest):
                result = super().step(model_output, timestep, sample, **rest)
                return planted(self, sample, result)

        pipeline.scheduler.__class__ = Planted

    def prove(self, pipeline, seen):
        return Proof(self.name, "planted")


def not_numbers(scheduler, sample, result):
    return (result[0] * math.nan, *result[1:])


def other_images(scheduler, sample, result):
    return (-result[0], *result[1:])


def kept_tensor(scheduler, sample, result):
    # The old one is let go of when the new one is there, so both count at the highest moment.
    scheduler.kept = sample.new_zeros(KEPT_BYTES // sample.element_size())
    return result


def host_sleep(scheduler, sample, result):
    time.sleep(SLEEP_S)
    return result


def device_sleep(scheduler, sample, result):
    """The device is busy and the CPU goes on; without a GPU both are the same."""
    if sample.is_cuda:
        torch.cuda._sleep(DEVICE_CYCLES)
    else:
        time.sleep(SLEEP_S)
    return result


class CompileEager(Compile):
    """Dynamo without inductor: cheap, and all that the gates on compilation look at."""

    name = "compile_eager"
    summary = "torch.compile with the backend eager"
    backend = "eager"


class CompileQuick(Compile):
    """Inductor without its search of block sizes, which takes minutes on a GPU."""

    name = "compile_quick"
    summary = "torch.compile without the search of block sizes"
    # False and not left out: a mode could switch them on.
    flags = Compile.flags | {
        "coordinate_descent_tuning": False,
        "coordinate_descent_check_all_directions": False,
    }


def pytest_diffspeed_techniques():
    planted = (not_numbers, other_images, kept_tensor, host_sleep, device_sleep)
    return [
        CompileEager(),
        CompileQuick(),
        *(PlantedInScheduler(step.__name__, step) for step in planted),
    ]
