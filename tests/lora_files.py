"""Tiny LoRA adapters of small pipelines, made by peft and saved as diffusers saves them."""

from pathlib import Path

import torch

from pytest_diffspeed.common.quiet import third_party


def swaps_any_rank():
    """Whether the installed peft swaps in a higher rank that nobody prepared: since 0.19."""
    import peft

    return tuple(map(int, peft.__version__.split(".")[:2])) >= (0, 19)


def save_lora(
    pipeline,
    folder,
    *,
    component="unet",
    rank=4,
    alpha=None,
    targets=("to_q", "to_v"),
    size=1.0,
    seed=0,
):
    """Make an adapter of ``component`` and save it in ``folder``; its second products have values
    of about ``size``.
    """
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    alpha = rank if alpha is None else alpha
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))
    with third_party(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(pipeline, component)
        model.add_adapter(config, "made")
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                torch.nn.init.normal_(weight, std=size)
        layers = get_peft_model_state_dict(model, adapter_name="made")
        about = {"r": rank, "lora_alpha": alpha, "target_modules": list(targets)}
        about |= {"rank_pattern": {}, "alpha_pattern": {}}  # diffusers 0.39 reads them unasked
        type(pipeline).save_lora_weights(
            str(folder),
            **{
                f"{component}_lora_layers": layers,
                f"{component}_lora_adapter_metadata": about,
            },
        )
        model.unload_lora()
    (found,) = Path(folder).glob("*.safetensors")
    return found
