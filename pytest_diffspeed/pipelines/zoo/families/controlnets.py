"""Stable Diffusion with a second network in each step, with adapters, and with image prompts."""

from typing import Any

from ..inputs import image, mask
from ..parts import clip_image, clip_processor, controlnet, model, several, unet
from ..recipe import ZooRecipe
from .stable_diffusion import BASE, GUIDED, SQUARE, UNCHECKED_OPTION, VISION
from .stable_diffusion_xl import BASE as XL_BASE
from .stable_diffusion_xl import SQUARE as XL_SQUARE
from .stable_diffusion_xl import UNMARKED

_CONTROLLED = {**BASE, "controlnet": controlnet()}
_OPTIONS = {**UNCHECKED_OPTION, "image_encoder": None}
_ADAPTER = {
    "in_channels": 3,
    "channels": [8, 16],
    "num_res_blocks": 1,
    "downscale_factor": 2,
}


def _ip_adapter(pipeline: Any) -> None:
    """Load an IP-adapter with random weights, made for the width of the pipeline's image encoder.

    The file that a user would load holds a projection of the image embedding and, of each
    cross-attention, two more projections.
    """
    import torch

    unet = pipeline.unet
    width = unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        drawn = torch.randn(shape, generator=generator)
        return drawn * float(shape[-1] ** -0.5)

    attention: dict[str, torch.Tensor] = {}
    number = 1
    for name in unet.attn_processors:
        if not name.endswith("attn2.processor"):
            continue
        module = unet.get_submodule(name.rpartition(".")[0])
        for word in ("to_k_ip", "to_v_ip"):
            attention[f"{number}.{word}.weight"] = draw(module.to_q.out_features, width)
        number += 2
    tokens = 4
    projection = {
        "proj.weight": draw(tokens * width, pipeline.image_encoder.config.projection_dim),
        "proj.bias": draw(tokens * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    pipeline.load_ip_adapter(
        {"image_proj": projection, "ip_adapter": attention}, subfolder=None, weight_name=None
    )


PIPELINES = {
    "StableDiffusionControlNetPipeline": ZooRecipe(
        "ControlNet", _CONTROLLED, {**SQUARE, "image": image()}, _OPTIONS
    ),
    "StableDiffusionControlNetPipeline-two-controlnets": ZooRecipe(
        "ControlNet",
        {
            **BASE,
            "controlnet": several("MultiControlNetModel", "diffusers", controlnet(), controlnet()),
        },
        {**SQUARE, "image": lambda case: [image()(case), image()(case)]},
        _OPTIONS,
        pipeline_class="StableDiffusionControlNetPipeline",
    ),
    "StableDiffusionControlNetImg2ImgPipeline": ZooRecipe(
        "ControlNet",
        _CONTROLLED,
        {**GUIDED, "image": image(), "control_image": image(), "strength": 1.0},
        _OPTIONS,
    ),
    "StableDiffusionControlNetInpaintPipeline": ZooRecipe(
        "ControlNet",
        {**_CONTROLLED, "unet": unet(in_channels=9)},
        {**SQUARE, "image": image(), "control_image": image(), "mask_image": mask()},
        _OPTIONS,
    ),
    "StableDiffusionControlNetPAGPipeline": ZooRecipe(
        "ControlNet",
        _CONTROLLED,
        {**SQUARE, "image": image(), "pag_scale": 3.0},
        {**_OPTIONS, "pag_applied_layers": ["mid"]},
    ),
    "StableDiffusionAdapterPipeline": ZooRecipe(
        "T2I-adapter",
        {
            **BASE,
            "unet": unet(
                down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
                up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            ),
            "adapter": model("T2IAdapter", adapter_type="full_adapter", **_ADAPTER),
        },
        {**SQUARE, "image": image()},
        UNCHECKED_OPTION,
    ),
    "StableDiffusionXLAdapterPipeline": ZooRecipe(
        "T2I-adapter",
        {
            **XL_BASE,
            "adapter": model(
                "T2IAdapter", adapter_type="full_adapter_xl", **{**_ADAPTER, "downscale_factor": 4}
            ),
        },
        {**XL_SQUARE, "image": image()},
    ),
    "StableDiffusionPipeline-ip-adapter": ZooRecipe(
        "IP-adapter",
        {**BASE, **VISION},
        {**SQUARE, "ip_adapter_image": image()},
        UNCHECKED_OPTION,
        pipeline_class="StableDiffusionPipeline",
        adapted=_ip_adapter,
    ),
    "StableDiffusionXLPipeline-ip-adapter": ZooRecipe(
        "IP-adapter",
        {**XL_BASE, "image_encoder": clip_image(), "feature_extractor": clip_processor()},
        {**XL_SQUARE, "ip_adapter_image": image()},
        UNMARKED,
        pipeline_class="StableDiffusionXLPipeline",
        adapted=_ip_adapter,
    ),
}
