"""Train the demo pipeline that ships in ``pytest_diffspeed/pipelines/demo_weights``.

    python examples/train_demo/train.py --work build/demo            # everything, about 85 minutes
    python examples/train_demo/train.py --work build/demo --vae-steps 20 --denoiser-steps 20

Three stages, each from what the one before left in ``--work``: the VAE, then the denoiser together
with both text encoders on the VAE's latents, then the export as a diffusers folder.  Every step's
randomness comes from (seed, step), so an interrupted run that is started again goes on from its
last checkpoint to the same weights.  Losses go to ``losses.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import emoji_dataset
import model as architecture
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionXLPipeline
from tqdm import tqdm
from transformers import CLIPTokenizer

CHECKPOINT_EVERY = 100
TIME_IDS = (64.0, 64.0, 0.0, 0.0, 64.0, 64.0)  # original size, crop corner, target size


class Ema:
    """Exponential moving average of parameters; warms up so that early steps do not linger."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.shadow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_model(self) -> None:
        for parameter, average in zip(self.parameters, self.shadow, strict=True):
            parameter.copy_(average)


def train_stage(
    name: str,
    parts: dict[str, torch.nn.Module],
    loss_of_step: Callable[[torch.Generator], torch.Tensor],
    *,
    steps: int,
    peak_lr: float,
    ema_decay: float,
    seed: int,
    work: Path,
) -> None:
    """Run one stage to its end, from its checkpoint if there is one; ``parts`` end as the EMA."""
    checkpoint = work / f"{name}.ckpt"
    parameters = [p for part in parts.values() for p in part.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, betas=(0.9, 0.99), weight_decay=1e-4)
    ema = Ema(parameters, ema_decay)
    first = 0
    if checkpoint.is_file():
        saved: dict[str, Any] = torch.load(checkpoint, weights_only=True)
        if saved["steps"] != steps or saved["seed"] != seed:
            raise SystemExit(f"{checkpoint} is of a run with other --steps or --seed; remove it")
        for key, part in parts.items():
            part.load_state_dict(saved["parts"][key])
        optimizer.load_state_dict(saved["optimizer"])
        ema.shadow = saved["ema"]
        first = saved["step"]
    started = time.monotonic()
    with (work / "losses.jsonl").open("a", encoding="utf-8") as log:
        for step in tqdm(range(first, steps), desc=name, initial=first, total=steps, mininterval=5):
            warm_up = min(1.0, (step + 1) / max(1, min(100, steps // 10)))
            cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
            for group in optimizer.param_groups:
                group["lr"] = peak_lr * warm_up * cosine
            generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
            loss = loss_of_step(generator)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update(step)
            if (step + 1) % 20 == 0 or step + 1 == steps:
                seconds = round(time.monotonic() - started, 1)
                line = {"stage": name, "step": step + 1, "loss": loss.item(), "seconds": seconds}
                log.write(json.dumps(line) + "\n")
                log.flush()
            if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
                state = {
                    "step": step + 1,
                    "steps": steps,
                    "seed": seed,
                    "parts": {key: part.state_dict() for key, part in parts.items()},
                    "optimizer": optimizer.state_dict(),
                    "ema": ema.shadow,
                }
                torch.save(state, checkpoint.with_suffix(".part"))
                checkpoint.with_suffix(".part").replace(checkpoint)
    ema.copy_to_model()


def train_vae(
    dataset: emoji_dataset.EmojiSet, *, steps: int, batch: int, seed: int, work: Path
) -> AutoencoderKL:
    torch.manual_seed(seed)
    vae = architecture.make_vae().to(memory_format=torch.channels_last)
    images = dataset.images

    def loss_of_step(generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randperm(len(images), generator=generator)[:batch]
        target = images[chosen].contiguous(memory_format=torch.channels_last)
        posterior = vae.encode(target).latent_dist
        decoded = vae.decode(posterior.sample(generator=generator), return_dict=False)[0]
        per_number = posterior.kl().mean() / posterior.mean[0].numel()
        return F.mse_loss(decoded, target) + 1e-4 * per_number

    train_stage(
        "vae",
        {"vae": vae},
        loss_of_step,
        steps=steps,
        peak_lr=3e-3,
        ema_decay=0.998,
        seed=seed,
        work=work,
    )
    return vae.eval()


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """Normalized latents of all images; writes mean and deviation into the VAE's config."""
    modes = [vae.encode(chunk).latent_dist.mode() for chunk in images.split(32)]
    latents = torch.cat(modes)
    mean = latents.mean((0, 2, 3))
    std = latents.std((0, 2, 3))
    vae.register_to_config(
        latents_mean=[round(v, 6) for v in mean.tolist()],
        latents_std=[round(v, 6) for v in std.tolist()],
        scaling_factor=1.0,
    )
    return (latents - mean[:, None, None]) / std[:, None, None]


def train_denoiser(
    dataset: emoji_dataset.EmojiSet,
    latents: torch.Tensor,
    tokenizer: CLIPTokenizer,
    *,
    steps: int,
    batch: int,
    seed: int,
    work: Path,
) -> dict[str, torch.nn.Module]:
    torch.manual_seed(seed)
    unet = architecture.make_denoiser().to(memory_format=torch.channels_last)
    text_encoder, text_encoder_2 = architecture.make_text_encoders(tokenizer)
    noise_schedule = architecture.make_scheduler().alphas_cumprod
    tokens = tokenizer(dataset.captions, padding="max_length", return_tensors="pt").input_ids

    def loss_of_step(generator: torch.Generator) -> torch.Tensor:
        copies = math.ceil(batch / len(latents))
        order = [torch.randperm(len(latents), generator=generator) for _ in range(copies)]
        chosen = torch.cat(order)[:batch]
        clean = latents[chosen]
        noise = torch.randn(clean.shape, generator=generator)
        # One timestep from each of `batch` equal slices: less variance than independent draws.
        slices = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
        timesteps = (slices * len(noise_schedule)).long()
        alpha = noise_schedule[timesteps].sqrt()[:, None, None, None]
        sigma = (1 - noise_schedule[timesteps]).sqrt()[:, None, None, None]
        # Classifier-free guidance: a tenth of the captions become the zeros that the SDXL
        # pipeline uses for an absent negative prompt.
        kept = (torch.rand(batch, generator=generator) >= 0.1).float()
        first = text_encoder(tokens[chosen], output_hidden_states=True)
        second = text_encoder_2(tokens[chosen], output_hidden_states=True)
        context = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        predicted = unet(
            (alpha * clean + sigma * noise).contiguous(memory_format=torch.channels_last),
            timesteps,
            context * kept[:, None, None],
            added_cond_kwargs={
                "text_embeds": second.text_embeds * kept[:, None],
                "time_ids": torch.tensor([TIME_IDS]).expand(batch, -1),
            },
            return_dict=False,
        )[0]
        return F.mse_loss(predicted, alpha * noise - sigma * clean)

    parts = {"unet": unet, "text_encoder": text_encoder, "text_encoder_2": text_encoder_2}
    train_stage(
        "denoiser",
        parts,
        loss_of_step,
        steps=steps,
        peak_lr=1.5e-3,
        ema_decay=0.998,
        seed=seed,
        work=work,
    )
    return {name: part.eval() for name, part in parts.items()}


def export(
    vae: AutoencoderKL, trained: dict[str, Any], tokenizer: CLIPTokenizer, folder: Path
) -> None:
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=architecture.make_scheduler(),
        add_watermarker=False,
        **trained,
    )
    # Half precision in the file only: it is read back as float32.  Shards keep each file small.
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, max_shard_size="3MB")
    architecture.make_readable_for_transformers_4(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="data, checkpoints, losses, model")
    parser.add_argument("--data", type=Path, help="where the emoji are (default: WORK/data)")
    parser.add_argument("--vae-steps", type=int, default=2400)
    parser.add_argument("--denoiser-steps", type=int, default=4000)
    parser.add_argument("--vae-batch", type=int, default=16)
    parser.add_argument("--denoiser-batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    work: Path = args.work
    work.mkdir(parents=True, exist_ok=True)
    dataset = emoji_dataset.load(args.data or work / "data")
    print(f"{len(dataset)} emoji, {torch.get_num_threads()} threads", flush=True)
    vae = train_vae(dataset, steps=args.vae_steps, batch=args.vae_batch, seed=args.seed, work=work)
    latents = encode_all(vae, dataset.images)
    tokenizer = architecture.train_tokenizer(dataset.captions, work / "tokenizer")
    trained = train_denoiser(
        dataset,
        latents,
        tokenizer,
        steps=args.denoiser_steps,
        batch=args.denoiser_batch,
        seed=args.seed,
        work=work,
    )
    export(vae, trained, tokenizer, work / "model")
    print(f"written: {work / 'model'}")


if __name__ == "__main__":
    main()
