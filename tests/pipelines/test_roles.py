"""Roles from times alone: what is in a loop, and what comes before and after."""

import pytest

from pytest_diffspeed.pipelines.observed import Role
from pytest_diffspeed.pipelines.roles import Ran, StepSpan, roles

TIMED = ("unet", "expert", "control")


def seen(story):
    """Roles of a story in words: ``a`` runs, ``.s`` is a step of scheduler ``s``, ``=`` scales,
    ``:s`` sets the timesteps of ``s``."""
    ran, steps, scaled, tables, now = [], [], [], {}, 0
    schedulers = {}
    for word in story.split():
        begin, now = now + 1, now + 2
        if word == "=":
            scaled.append(begin)
        elif word[0] == ":":
            tables[word[1:]] = object()
        elif word[0] == ".":
            scheduler = schedulers.setdefault(word[1:], [word])
            steps.append(StepSpan(scheduler, tables.get(word[1:]), begin, now))
        else:
            ran.append(Ran(word, "forward", begin, now))
    found = roles(ran, steps, scaled, lambda name: name in TIMED)
    return found.steps, {
        name: (role.value, *steps) if role is Role.DENOISER else role.value
        for name, (role, steps) in found.by_name.items()
    }


@pytest.mark.parametrize(
    ("story", "steps", "expected"),
    [
        (
            "text unet .s unet .s vae",
            2,
            {"text": "encoder", "unet": ("denoiser", 0, 1), "vae": "decoder"},
        ),
        (  # a network without a timestep, in the first step only: it ran last before the step
            "text net .s vae",
            1,
            {"text": "encoder", "net": ("denoiser", 0), "vae": "decoder"},
        ),
        (  # in early steps only, and not last
            "text control unet .s unet .s vae",
            2,
            {
                "text": "encoder",
                "control": ("denoiser", 0),
                "unet": ("denoiser", 0, 1),
                "vae": "decoder",
            },
        ),
        (  # a helper that takes no timestep, after the input was scaled
            "text = pose unet .s = unet .s vae",
            2,
            {
                "text": "encoder",
                "pose": ("denoiser", 0),
                "unet": ("denoiser", 0, 1),
                "vae": "decoder",
            },
        ),
        (  # image to image: one component encodes and decodes
            "vae unet .s unet .s vae",
            2,
            {"vae": "decoder", "unet": ("denoiser", 0, 1)},
        ),
        (  # a preview in each step
            "unet .s vae unet .s vae",
            2,
            {"unet": ("denoiser", 0, 1), "vae": ("denoiser", 1)},
        ),
        (  # video and audio step in turn, in one step
            "unet .v .a unet .v .a vae",
            2,
            {"unet": ("denoiser", 0, 1), "vae": "decoder"},
        ),
        (  # two loops with a scheduler each, a decoder of the first and an encoder of the second
            "text prior .p prior .p text unet .s unet .s vqgan",
            4,
            {
                "text": "encoder",
                "prior": ("denoiser", 0, 1),
                "unet": ("denoiser", 2, 3),
                "vqgan": "decoder",
            },
        ),
        (  # two stages with one scheduler, whose timesteps are set anew
            ":s unet .s unet .s upsampler :s unet .s unet .s vae",
            4,
            {"unet": ("denoiser", 0, 1, 2, 3), "upsampler": "encoder", "vae": "decoder"},
        ),
        (  # no scheduler steps: what takes a timestep denoises
            "text unet unet vae",
            0,
            {"text": "encoder", "unet": ("denoiser",), "vae": "encoder"},
        ),
    ],
)
def test_roles(story, steps, expected):
    assert seen(story) == (steps, expected)
