"""The training script of the demo pipeline really trains, resumes exactly and exports.

On six drawn pictures and a few steps; ``examples/train_demo/evaluate.py`` judges the real model.
"""

from __future__ import annotations

import importlib
import json
import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import pytest

from pytest_diffspeed.common.quiet import third_party

with third_party():
    import torch

SCRIPTS = Path(__file__).parents[2] / "examples" / "train_demo"
CAPTIONS = ["red apple", "green apple", "blue fish", "red fish", "yellow flower", "white owl"]
STEPS = 12
CHECKPOINT_EVERY = 5


def drawn_pictures() -> torch.Tensor:
    """A coloured disc or square on white for each caption, ``6 x 3 x 64 x 64`` in [-1, 1]."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    pictures = torch.ones(len(CAPTIONS), 3, 64, 64)
    for i, picture in enumerate(pictures):
        size = 0.3 + 0.1 * i
        shape = (x**2 + y**2 < size**2) if i % 2 else (x.abs().maximum(y.abs()) < size)
        colour = torch.tensor([(i & 1) * 2 - 1, (i & 2) - 1, (i & 4) / 2 - 1])
        picture[:, shape] = colour[:, None]
    return pictures


@dataclass
class Training:
    """The scripts, with the drawn pictures as their data set, and what they did."""

    train: ModuleType
    model: ModuleType
    evaluate: ModuleType
    emoji_dataset: ModuleType
    losses: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    interrupt: Callable[[str, int], bool] = lambda stage, call: False

    def run(self, work: Path) -> None:
        """``python train.py --work WORK`` with few steps, in this process."""
        options = {
            "--work": work,
            "--vae-steps": STEPS,
            "--denoiser-steps": STEPS,
            "--vae-batch": 3,
            "--denoiser-batch": 6,
        }
        with pytest.MonkeyPatch.context() as patch:
            words = [str(word) for option in options.items() for word in option]
            patch.setattr(sys, "argv", ["train.py", *words])
            self.losses.clear()
            self.train.main()


@pytest.fixture(scope="module")
def training() -> Iterator[Training]:
    names = ("emoji_dataset", "model", "train", "evaluate")
    with pytest.MonkeyPatch.context() as patch, third_party(), torch.random.fork_rng(devices=[]):
        patch.syspath_prepend(SCRIPTS)
        emoji_dataset, model, train, evaluate = (importlib.import_module(name) for name in names)
        result = Training(train, model, evaluate, emoji_dataset)
        dataset = emoji_dataset.EmojiSet(CAPTIONS, drawn_pictures())
        patch.setattr(emoji_dataset, "load", lambda _: dataset)
        patch.setattr(train, "CHECKPOINT_EVERY", CHECKPOINT_EVERY)
        real = train.train_stage

        def watched(name: str, parts: Any, loss_of_step: Any, **options: Any) -> None:
            def loss_of_watched_step(generator: torch.Generator) -> torch.Tensor:
                if result.interrupt(name, len(result.losses[name])):
                    raise KeyboardInterrupt
                loss: torch.Tensor = loss_of_step(generator)
                result.losses[name].append(loss.item())
                return loss

            real(name, parts, loss_of_watched_step, **options)

        patch.setattr(train, "train_stage", watched)
        yield result
    for name in names:
        del sys.modules[name]


@pytest.fixture(scope="module")
def trained(training: Training, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working folder of an uninterrupted run."""
    work = tmp_path_factory.mktemp("uninterrupted")
    training.run(work)
    (work / "seen.json").write_text(json.dumps(training.losses))
    return work


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What diffusers warns of while it runs is not the subject here."""
    with third_party():
        yield


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("this must not need a network")

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("stage", ["vae", "denoiser"])
def test_the_loss_falls(trained: Path, stage: str) -> None:
    losses = json.loads((trained / "seen.json").read_text())[stage]
    assert len(losses) == STEPS
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])
    last = [json.loads(line) for line in (trained / "losses.jsonl").read_text().splitlines()]
    logged = [line for line in last if line["stage"] == stage]
    assert logged[-1]["step"] == STEPS
    assert logged[-1]["loss"] == losses[-1]


def test_an_interrupted_run_goes_on_to_bit_identical_weights(
    training: Training, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stage in ("vae", "denoiser"):
        monkeypatch.setattr(
            training, "interrupt", lambda name, call, at=stage: (name, call) == (at, 7)
        )
        with pytest.raises(KeyboardInterrupt):
            training.run(tmp_path)
    monkeypatch.setattr(training, "interrupt", lambda name, call: False)
    training.run(tmp_path)
    # The last run did what was left after the denoiser's checkpoint and nothing else.
    assert {name: len(seen) for name, seen in training.losses.items()} == {
        "denoiser": STEPS - CHECKPOINT_EVERY
    }
    whole, pieces = (
        {
            file.relative_to(work): file.read_bytes()
            for file in sorted((work / "model").rglob("*"))
            if file.is_file()
        }
        for work in (trained, tmp_path)
    )
    assert whole.keys() == pieces.keys()
    assert [file for file in whole if whole[file] != pieces[file]] == []


def test_a_checkpoint_of_other_settings_is_refused(training: Training, trained: Path) -> None:
    dataset = training.emoji_dataset.load(None)
    with pytest.raises(SystemExit, match=r"vae\.ckpt is of a run with other --steps or --seed"):
        training.train.train_vae(dataset, steps=STEPS + 1, batch=3, seed=0, work=trained)


def test_the_tokenizer_is_the_same_each_time(training: Training, tmp_path: Path) -> None:
    # Every pair of letters that ends a word occurs once: only ties.
    letters = "abcdefghij"
    captions = [f"{a}{b} {b}{a}" for a in letters for b in letters if a < b]
    trained = [
        training.model.train_tokenizer(captions, tmp_path / str(i)).get_vocab() for i in range(4)
    ]
    assert all(vocab == trained[0] for vocab in trained)


@pytest.mark.usefixtures("no_network")
def test_the_export_loads_and_has_the_averaged_weights(training: Training, trained: Path) -> None:
    pipeline = training.evaluate.load_pipeline(trained / "model")
    for checkpoint, parts in (
        ("vae.ckpt", [pipeline.vae]),
        ("denoiser.ckpt", [pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2]),
    ):
        average = torch.load(trained / checkpoint, weights_only=True)["ema"]
        loaded = [parameter for part in parts for parameter in part.parameters()]
        for parameter, wanted in zip(loaded, average, strict=True):
            assert parameter.dtype == torch.float32
            assert parameter.equal(wanted.half().float())
    image = training.evaluate.sample(pipeline, CAPTIONS[:1], [0], steps=2)
    assert image.shape == (1, 3, 64, 64)
    assert image.isfinite().all()


def test_the_pipeline_undoes_the_normalization_of_the_latents(
    training: Training, trained: Path
) -> None:
    """What ``encode_all`` subtracts and divides by is what the pipeline multiplies and adds."""
    vae = training.evaluate.load_vae_checkpoint(trained / "vae.ckpt")
    pictures = drawn_pictures()
    latents = training.train.encode_all(vae, pictures)
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-4)
    config = training.evaluate.load_pipeline(trained / "model").vae.config
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.latents_mean, config.latents_std))
    with torch.no_grad():
        raw = vae.encode(pictures).latent_dist.mode()
    assert config.scaling_factor == 1.0
    assert torch.allclose(latents * std + mean, raw, atol=1e-3)


def test_psnr(training: Training) -> None:
    black = torch.zeros(2, 3, 4, 4)
    grey = torch.stack([torch.full((3, 4, 4), 0.1), torch.zeros(3, 4, 4)])
    assert training.evaluate.psnr_db(grey, black).tolist() == pytest.approx([20.0, float("inf")])


def test_nearest(training: Training) -> None:
    gallery = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    images = torch.tensor([0.9, 0.1, 0.4, 0.6]).view(4, 1, 1, 1).expand(4, 3, 4, 4)
    assert training.evaluate.nearest(images, gallery).tolist() == [2, 0, 1, 1]


def test_the_captions_are_drawn_by_a_fixed_seed(training: Training) -> None:
    drawn = training.evaluate.draw(166, 64)
    assert drawn == training.evaluate.draw(166, 64) == sorted(set(drawn))
    assert len(drawn) == 64
    assert drawn != training.evaluate.draw(166, 64, seed=1)
    assert training.evaluate.draw(5, 64) == [0, 1, 2, 3, 4]


def test_a_sample_of_another_emoji_is_a_miss(training: Training) -> None:
    gallery = (drawn_pictures() / 2 + 0.5)[:3]
    captions = CAPTIONS[:3]
    good = training.evaluate.judge_samples(gallery, [0, 1, 2], captions, gallery)
    assert good.good
    bad = training.evaluate.judge_samples(gallery[[0, 0]], [0, 1], captions, gallery)
    assert not bad.good
    assert bad.share == 0.5
    assert str(bad).splitlines() == [
        "rank-1: 1 of 2 samples are nearest to their own emoji: 50.0% (required 95%)",
        "  'green apple' is nearest to 'red apple'",
    ]


def test_the_reference_file_brings_back_captions_and_pictures(
    training: Training, tmp_path: Path
) -> None:
    pictures = drawn_pictures() / 2 + 0.5
    training.evaluate.write_reference(CAPTIONS, pictures, tmp_path / "some" / "r.png")
    captions, read = training.evaluate.read_reference(tmp_path / "some" / "r.png")
    assert captions == CAPTIONS
    assert torch.allclose(read, pictures, atol=1 / 255)


def test_the_evaluation_of_a_bad_model_says_so(
    training: Training,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(training.evaluate, "STEPS", 2)
    where = ["--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert training.evaluate.main([str(trained / "model"), *where]) == 1
    printed = capsys.readouterr().out
    assert "dB on average (required 24)" in printed
    assert "samples are nearest to their own emoji" in printed
    results = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert results["rank1"]["count"] == len(CAPTIONS)
    assert (tmp_path / "out" / "contact_sheet.png").stat().st_size < 200_000
    checkpoint = ["--vae-checkpoint", str(trained / "vae.ckpt")]
    assert training.evaluate.main([*checkpoint, *where]) == 1
    assert "dB on average" in capsys.readouterr().out
