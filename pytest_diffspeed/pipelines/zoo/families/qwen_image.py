"""Qwen-Image and Z-Image: language models encode the prompt."""

from ..inputs import image, mask
from ..parts import flow, language_model, model, qwen_vl, tokenizer, vae
from ..recipe import ZooRecipe
from .stable_diffusion_3 import SIZE, SQUARE

_QWEN_SHAPE = {
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 4,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 3,
    "joint_attention_dim": 16,
    "axes_dims_rope": (8, 4, 4),
}
_QWEN = {
    "text_encoder": qwen_vl(),
    "tokenizer": tokenizer(64),
    "transformer": model("QwenImageTransformer2DModel", **_QWEN_SHAPE, guidance_embeds=False),
    "vae": model(
        "AutoencoderKLQwenImage",
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 2, 4],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ),
    "scheduler": flow(),
}
_QWEN_CALL = {
    **SIZE,
    "negative_prompt": "blurred",
    "true_cfg_scale": 3.0,
    "max_sequence_length": 16,
}
_ZIMAGE = {
    "text_encoder": language_model("Qwen3Model"),
    "tokenizer": tokenizer(64, chat=True),
    "transformer": model(
        "ZImageTransformer2DModel",
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[8, 4, 4],
        axes_lens=[256, 32, 32],
    ),
    "vae": vae(16, scaling_factor=0.3611, shift_factor=0.1159),
    "scheduler": flow(),
}
_ZIMAGE_CALL = {**SQUARE, "max_sequence_length": 64}

PIPELINES = {
    "QwenImagePipeline": ZooRecipe("text to image", _QWEN, _QWEN_CALL),
    "QwenImageImg2ImgPipeline": ZooRecipe(
        "image to image", _QWEN, {**_QWEN_CALL, "image": image(), "strength": 1.0}
    ),
    "QwenImageInpaintPipeline": ZooRecipe(
        "inpainting",
        _QWEN,
        {**_QWEN_CALL, "image": image(), "mask_image": mask(), "strength": 1.0},
    ),
    "QwenImageControlNetPipeline": ZooRecipe(
        "ControlNet",
        {**_QWEN, "controlnet": model("QwenImageControlNetModel", **_QWEN_SHAPE)},
        {**_QWEN_CALL, "control_image": image()},
    ),
    "ZImagePipeline": ZooRecipe("text to image", _ZIMAGE, _ZIMAGE_CALL),
    "ZImageImg2ImgPipeline": ZooRecipe(
        "image to image", _ZIMAGE, {**_ZIMAGE_CALL, "image": image(), "strength": 1.0}
    ),
}
