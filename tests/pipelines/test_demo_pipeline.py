"""The demo pipeline that ships: complete, small, offline, trained, worth quantizing.

``examples/train_demo/evaluate.py`` judges it on all of its training emoji; here twelve of them,
kept in ``data/demo_emoji.png``, stand for the rest.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_diffspeed.common.quiet import third_party

with third_party():
    import torch

ROOT = Path(__file__).parents[2]
WEIGHTS = ROOT / "pytest_diffspeed" / "pipelines" / "demo_weights"
REFERENCE = Path(__file__).parent / "data" / "demo_emoji.png"

LOAD_WITHOUT_NETWORK = """
import json, socket, sys
def refuse(*_, **__):
    raise AssertionError("the demo pipeline asked for the network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained(sys.argv[1])
print(json.dumps({name: type(part).__name__ for name, part in pipeline.components.items()}))
"""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What diffusers warns of while it runs is not the subject here."""
    with third_party():
        yield


@pytest.fixture(scope="module")
def evaluate() -> Iterator[ModuleType]:
    """The evaluation script, for its metrics and its way to sample."""
    names = ("emoji_dataset", "model", "train", "evaluate")
    with pytest.MonkeyPatch.context() as patch, third_party():
        patch.syspath_prepend(ROOT / "examples" / "train_demo")
        yield importlib.import_module("evaluate")
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def pipeline(evaluate: ModuleType) -> Any:
    return evaluate.load_pipeline(WEIGHTS)


@pytest.fixture(scope="module")
def emoji(evaluate: ModuleType) -> tuple[list[str], torch.Tensor]:
    """Captions and pictures (``12 x 3 x 64 x 64`` in [0, 1]) of a few training emoji."""
    captions, pictures = evaluate.read_reference(REFERENCE)
    assert len(captions) == evaluate.REFERENCE_COUNT
    assert pictures.shape == (len(captions), 3, 64, 64)
    return captions, pictures


def test_it_loads_without_a_network_and_has_all_parts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD_WITHOUT_NETWORK, str(WEIGHTS)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    parts = json.loads(done.stdout.splitlines()[-1])
    assert {name: kind for name, kind in parts.items() if kind != "NoneType"} == {
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "tokenizer": "CLIPTokenizer",
        "tokenizer_2": "CLIPTokenizer",
        "unet": "UNet2DConditionModel",
        "vae": "AutoencoderKL",
        "scheduler": "EulerDiscreteScheduler",
    }


def test_it_is_small() -> None:
    sizes = {f: f.stat().st_size for f in WEIGHTS.rglob("*") if f.is_file()}
    assert sum(sizes.values()) < 10_000_000
    assert max(sizes.values()) < 4 * 1024**2
    assert {f.suffix for f in sizes} <= {".json", ".safetensors", ".txt"}, "pickles or leftovers"


def test_quantization_has_something_to_work_on(evaluate: ModuleType, pipeline: Any) -> None:
    flops = evaluate.count_linear_flops(pipeline, "red apple")
    print(f"layers wide enough for int8: {flops.wide_share:.1%} of the denoiser's linear FLOPs")
    assert flops.wide_share >= 0.5


def test_the_vae_reconstructs(
    evaluate: ModuleType, pipeline: Any, emoji: tuple[list[str], torch.Tensor]
) -> None:
    result = evaluate.judge_vae(pipeline.vae, *emoji)
    print(result)
    assert result.good, str(result)


def test_it_draws_what_the_caption_says(
    evaluate: ModuleType, pipeline: Any, emoji: tuple[list[str], torch.Tensor]
) -> None:
    captions, pictures = emoji
    own = list(range(len(captions)))
    result = evaluate.judge_samples(
        evaluate.sample(pipeline, captions, own), own, captions, pictures
    )
    print(result)
    assert result.good, str(result)


def test_the_seed_decides(evaluate: ModuleType, pipeline: Any) -> None:
    first, other, again = (
        evaluate.sample(pipeline, ["red apple"], [seed], steps=2) for seed in (0, 1, 0)
    )
    assert first.equal(again)
    assert not first.equal(other)
