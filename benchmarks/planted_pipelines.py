"""Small pipelines of diffusers with random weights, and changes that a pull request might make.

Each is a factory, so ``diffspeed cost planted_pipelines:rope_in_each_block`` counts it too.  The
line that costs ends in ``# planted``; what changes nothing has no such line.
"""

import functools

import torch

from pytest_diffspeed.pipelines.sources import parse_source

F = torch.nn.functional
BASES = {
    "flux": "FluxPipeline",
    "sd": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd3": "StableDiffusion3Pipeline",
    "sana": "SanaPipeline",
}
PLANTS = {}
"""The factory of each plant, and the name of what it is held against."""


def built(base):
    return parse_source(f"random:{BASES[base]}").build()


flux, sd, sdxl, sd3, sana = (functools.partial(built, base) for base in BASES)


def planted(base):
    """Makes a factory of a function that changes a pipeline."""

    def register(change):
        @functools.wraps(change)
        def factory():
            pipeline = built(base)
            change(pipeline)
            return pipeline

        PLANTS[change.__name__] = (factory, base)
        return factory

    return register


def first(model, kind):
    """The first module whose class has that name."""
    return next(module for module in model.modules() if type(module).__name__ == kind)


# --- what costs


@planted("flux")
def rope_in_each_block(pipeline):
    """Rotary tables are made anew in each block."""
    model, kept = pipeline.transformer, {}
    make = model.pos_embed.forward

    def keep(ids):
        kept["ids"] = ids
        return make(ids)

    def again(real):
        def forward(*args, **kwargs):
            kwargs["image_rotary_emb"] = make(kept["ids"])  # planted
            return real(*args, **kwargs)

        return forward

    model.pos_embed.forward = keep
    for block in model.transformer_blocks:
        block.forward = again(block.forward)


@planted("flux")
def attention_in_chunks(pipeline):
    """What an attention answers is taken apart by heads and put together again."""
    out = pipeline.transformer.transformer_blocks[0].attn.to_out[0]
    real = out.forward

    def forward(x):
        x = torch.cat([part * 1 for part in x.chunk(4, -1)], -1)  # planted
        return real(x)

    out.forward = forward


@planted("flux")
def norm_left_to_python(pipeline):
    """The last norm is kept out of the graph."""
    norm = pipeline.transformer.norm_out
    real = norm.forward

    @torch.compiler.disable
    def forward(*args, **kwargs):
        return real(*args, **kwargs)  # planted

    norm.forward = forward


@planted("sd")
def wide_shortcut(pipeline):
    """A shortcut's convolution of 1×1 becomes one of 3×3."""
    conv = first(pipeline.unet.up_blocks[0], "ResnetBlock2D").conv_shortcut
    conv.weight = torch.nn.Parameter(F.pad(conv.weight.data, (1, 1, 1, 1)))
    conv.forward = lambda x: F.conv2d(x, conv.weight, conv.bias, padding=1)  # planted


@planted("sd")
def doubled_batch(pipeline):
    """Half of what a doubled batch gives is thrown away."""
    resnet = pipeline.unet.mid_block.resnets[0]
    real = resnet.forward

    def forward(x, temb, *args, **kwargs):
        both = real(torch.cat([x, x]), torch.cat([temb, temb]), *args, **kwargs)  # planted
        return both.chunk(2)[0]

    resnet.forward = forward


@planted("sd")
def decoder_in_float32(pipeline):
    """The decoder's first convolution computes in float32."""
    conv = pipeline.vae.decoder.conv_in

    def forward(x):
        weight, bias = conv.weight.float(), conv.bias.float()  # planted
        return F.conv2d(x.float(), weight, bias, padding=1).to(x.dtype)  # planted

    conv.forward = forward


@planted("sd")
def detour_of_twice_the_size(pipeline):
    """Before it is upsampled, a latent is upsampled and pooled again."""
    up = first(pipeline.unet, "Upsample2D")
    real = up.forward

    def forward(x, *args, **kwargs):
        x = F.avg_pool2d(F.interpolate(x, scale_factor=2.0), 2)  # planted
        return real(x, *args, **kwargs)

    up.forward = forward


@planted("sdxl")
def projection_in_halves(pipeline):
    """A projection as two products of half the width."""
    linear = first(pipeline.unet, "BasicTransformerBlock").ff.net[2]

    def forward(x):
        halves = zip(linear.weight.chunk(2), linear.bias.chunk(2), strict=True)
        return torch.cat([F.linear(x, *half) for half in halves], -1)  # planted

    linear.forward = forward


@planted("sdxl")
def projection_in_float32(pipeline):
    """A projection computes in float32."""
    linear = first(pipeline.unet, "BasicTransformerBlock").ff.net[2]

    def forward(x):
        return F.linear(x.float(), linear.weight.float(), linear.bias.float()).to(x)  # planted

    linear.forward = forward


@planted("sd3")
def norm_by_hand(pipeline):
    """A layer norm is written out."""
    norm = pipeline.transformer.transformer_blocks[0].norm2

    def forward(x):
        x = x - x.mean(-1, keepdim=True)  # planted
        scale = torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + norm.eps)  # planted
        return x * scale.to(x.dtype)  # planted

    norm.forward = forward


@planted("sd3")
def time_embedded_again(pipeline):
    """The time is embedded once more, in a block."""
    model, kept = pipeline.transformer, {}
    embed, block = model.time_text_embed.forward, model.transformer_blocks[0]
    real = block.forward

    def keep(*args):
        kept["args"] = args
        return embed(*args)

    def forward(*args, **kwargs):
        kwargs["temb"] = embed(*kept["args"])  # planted
        return real(*args, **kwargs)

    model.time_text_embed.forward = keep
    block.forward = forward


@planted("sana")
def table_from_the_host(pipeline):
    """A table is made on the host in each call."""
    block = pipeline.transformer.transformer_blocks[0]
    real = block.forward

    def forward(x, *args, **kwargs):
        x = x * torch.linspace(1, 1, x.shape[-1]).to(x)  # planted
        return real(x, *args, **kwargs)

    block.forward = forward


@planted("sana")
def contiguous_patches(pipeline):
    """`contiguous()` of patches, which lie channel by channel: a copy."""
    block = pipeline.transformer.transformer_blocks[0]
    real = block.forward
    block.forward = lambda x, *args, **kwargs: real(x.contiguous(), *args, **kwargs)  # planted


# --- what costs nothing


@planted("flux")
def views_of_a_shift(pipeline):
    """Views of what a norm's linear layer gives, in each block."""
    for block in pipeline.transformer.transformer_blocks:
        add_behind(block.norm1.linear, lambda x: x.view_as(x).flatten(0, 0).to(x.dtype))


@planted("sd")
def identity_as_dropout(pipeline):
    """`Identity` in place of a dropout that drops nothing."""
    for module in pipeline.unet.modules():
        if type(module).__name__ == "ResnetBlock2D":
            module.dropout = torch.nn.Identity()


@planted("sdxl")
def functional_linears(pipeline):
    """Linear layers by their function."""
    for module in pipeline.unet.modules():
        if isinstance(module, torch.nn.Linear):
            module.forward = functools.partial(linear_of, module)


def linear_of(module, x):
    return F.linear(x, module.weight, module.bias)


@planted("sd3")
def wrapped_twice(pipeline):
    """Two wrappers around the denoiser."""
    real = pipeline.transformer.forward
    pipeline.transformer.forward = lambda *a, **k: (lambda *b, **m: real(*b, **m))(*a, **k)


@planted("sana")
def views_of_a_block(pipeline):
    """Views of what each block gives, and a conversion to the type that it has."""
    for block in pipeline.transformer.transformer_blocks:
        add_behind(block, lambda x: x.expand_as(x).to(x.dtype))


def add_behind(module, change):
    real = module.forward
    module.forward = lambda *args, **kwargs: change(real(*args, **kwargs))
