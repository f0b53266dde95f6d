"""One resnet–transformer–resnet block of SDXL, and changes that a pull request might make to it."""

import types

import torch
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import (
    Attention,
    AttnProcessor,
    AttnProcessor2_0,
    FusedAttnProcessor2_0,
)
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel

F = torch.nn.functional
# SDXL's widths, whose GEMMs are what its own are; a latent of 32×32 is SDXL's at 256².
IN, WIDTH, TEMB, CONTEXT, TOKENS, SIDE = 320, 640, 1280, 2048, 77, 32


class Block(torch.nn.Module):
    """The second stage of SDXL's encoder."""

    def __init__(self):
        super().__init__()
        self.first = ResnetBlock2D(in_channels=IN, out_channels=WIDTH, temb_channels=TEMB)
        self.middle = Transformer2DModel(
            num_attention_heads=WIDTH // 64,
            attention_head_dim=64,
            in_channels=WIDTH,
            num_layers=1,
            cross_attention_dim=CONTEXT,
            use_linear_projection=True,
        )
        self.last = ResnetBlock2D(in_channels=WIDTH, out_channels=WIDTH, temb_channels=TEMB)

    def forward(self, x, temb, context):
        x = self.first(x, temb)
        x = self.middle(x, encoder_hidden_states=context, return_dict=False)[0]
        return self.last(x, temb)


def make(fake):
    """On the fake GPU, in bfloat16 and channels last, and the arguments of a call with guidance."""
    with torch.device("meta"):
        block = Block().eval().to(torch.bfloat16)
    fake.on_device(block)
    with fake.tensors():
        block.to(memory_format=torch.channels_last)

        def new(*shape):
            return torch.empty(shape, device="cuda", dtype=torch.bfloat16)

        x = new(2, IN, SIDE, SIDE).to(memory_format=torch.channels_last)
        return block, (x, new(2, TEMB), new(2, TOKENS, CONTEXT))


def parts(block, cls):
    return [part for part in block.modules() if isinstance(part, cls)]


def wrap(module, before=None, after=None):
    """``module`` with something done to its first input, or to its output."""
    real = module.forward

    def forward(x, *args, **kwargs):
        out = real(x if before is None else before(x), *args, **kwargs)
        return out if after is None else after(out)

    module.forward = forward


# --- what changes nothing


def nothing(block):
    """The block as it is."""


def wrapped(block):
    """A wrapper that does nothing, around each resnet."""
    for resnet in parts(block, ResnetBlock2D):
        wrap(resnet, after=lambda out: out)


def refactored(block):
    """The same arithmetic of the resnets, written otherwise."""

    def forward(self, x, temb):
        hidden = self.conv1(F.silu(self.norm1(x)))
        shift = self.time_emb_proj(F.silu(temb))[:, :, None, None]
        hidden = self.conv2(F.silu(self.norm2(hidden + shift)))
        skip = x if self.conv_shortcut is None else self.conv_shortcut(x)
        return (skip + hidden) / self.output_scale_factor

    for resnet in parts(block, ResnetBlock2D):
        resnet.forward = types.MethodType(forward, resnet)


def already_contiguous(block):
    """`contiguous()` of what is."""
    wrap(block.middle, before=lambda x: x.contiguous(memory_format=torch.channels_last))


# --- what costs


def graph_break(block):
    """A graph break."""

    def stop(x):
        torch._dynamo.graph_break()
        return x

    wrap(block.middle, before=stop)


def transposed(block):
    """A copy into another order, and back."""

    def turn(x):
        return x.transpose(1, 2).contiguous().transpose(1, 2)

    wrap(parts(block, BasicTransformerBlock)[0], before=turn)


def there_and_back(block):
    """To float32 and back."""
    wrap(parts(block, BasicTransformerBlock)[0], before=lambda x: x.float().to(x.dtype))


def float32_linear(block):
    """One linear layer in float32."""
    linear = parts(block, BasicTransformerBlock)[0].attn1.to_q
    linear.forward = lambda x: F.linear(x.float(), linear.weight.float()).to(x.dtype)


def float32_norm(block):
    """One group norm in float32."""
    norm = block.first.norm1

    def forward(x):
        weight, bias = norm.weight.float(), norm.bias.float()
        return F.group_norm(x.float(), norm.num_groups, weight, bias, norm.eps).to(x.dtype)

    norm.forward = forward


@torch.library.custom_op("planted::group_norm", mutates_args=())
def opaque_group_norm(
    x: torch.Tensor, groups: int, weight: torch.Tensor, bias: torch.Tensor, eps: float
) -> torch.Tensor:
    return F.group_norm(x, groups, weight, bias, eps)


@opaque_group_norm.register_fake
def _(x, groups, weight, bias, eps):
    return torch.empty_like(x)


def opaque_norm(block):
    """One group norm by an op whose kernels nobody sees."""
    norm = block.first.norm1

    def forward(x):
        return opaque_group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps)

    norm.forward = forward


def one_more_norm(block):
    """A layer norm in front of a block that begins with one."""
    part = parts(block, BasicTransformerBlock)[0]
    extra = torch.nn.LayerNorm(WIDTH, device="cuda", dtype=torch.bfloat16).requires_grad_(False)
    wrap(part, before=extra)


def plain_attention(block):
    """One attention by plain products."""
    parts(block, Attention)[0].set_processor(AttnProcessor())


class Masked(AttnProcessor2_0):
    """With a mask of zeros, which the flash kernel does not take."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *args, **kwargs):
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        mask = hidden_states.new_zeros(hidden_states.shape[0] * attn.heads, 1, keys.shape[1])
        return super().__call__(attn, hidden_states, encoder_hidden_states, mask)


def masked_attention(block):
    """One attention with a mask of zeros."""
    parts(block, Attention)[0].set_processor(Masked())


def weights_not_channels_last(block):
    """Convolutions whose weights are in the usual order."""
    for conv in parts(block, torch.nn.Conv2d):
        usual = torch.empty(conv.weight.shape, device="cuda", dtype=conv.weight.dtype)
        conv.weight = torch.nn.Parameter(usual, requires_grad=False)


def input_not_channels_last(block):
    """Activations in the usual order between resnet and transformer."""
    wrap(block.last, before=lambda x: x.contiguous())


def all_in_usual_order(block):
    """Nothing is channels last: weights and input."""
    weights_not_channels_last(block)
    wrap(block.first, before=lambda x: x.contiguous())


def fused_projections(block):
    """Query, key and value by one product: an improvement."""
    for attention in parts(block, Attention):
        attention.fuse_projections(fuse=True)
        attention.set_processor(FusedAttnProcessor2_0())


def gelu_by_hand(block):
    """GELU written out."""
    gate = parts(block, BasicTransformerBlock)[0].ff.net[0]
    gate.gelu = lambda x: 0.5 * x * (1.0 + torch.erf(x / 1.4142135))


def table_on_the_cpu(block):
    """A table is made on the CPU in each call."""

    def scaled(x):
        return x * torch.tensor([1.0, 2.0]).to(x.device).to(x.dtype).sum()

    wrap(block.middle, before=scaled)


def item(block):
    """A value is read."""
    wrap(block.middle, before=lambda x: x * float(x.max().item() > 0))


def int8(block, leave=()):
    """The linear layers in int8."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    def chosen(module, name):
        few_rows = "time_emb" in name
        return isinstance(module, torch.nn.Linear) and not few_rows and name not in leave

    quantize_(block, Int8DynamicActivationInt8WeightConfig(set_inductor_config=False), chosen)


def int8_but_one(block):
    """The filter leaves one more layer out."""
    int8(block, leave=("middle.transformer_blocks.0.attn1.to_q",))


# --- of our own choice


def no_fusion(block):
    """A pointwise chain cut in two by an op that cannot be fused into."""
    wrap(block.first.norm2, after=lambda x: torch.ops.planted.same(x))


@torch.library.custom_op("planted::same", mutates_args=())
def same(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


@same.register_fake
def _(x):
    return torch.empty_like(x)


def guidance_twice(block):
    """The two halves of guidance in two calls, not one of twice the batch."""
    real = block.forward

    def forward(x, temb, context):
        halves = zip(x.chunk(2), temb.chunk(2), context.chunk(2), strict=True)
        return torch.cat([real(*half) for half in halves])

    block.forward = forward


def tile_copies(block):
    """Tiles of the input are cut out and put together again, as a tiled VAE does."""

    def tiled(x):
        left, right = x[..., : SIDE // 2].clone(), x[..., SIDE // 2 :].clone()
        return torch.cat([left, right], dim=-1)

    wrap(block.first, before=tiled)


class Rotated(AttnProcessor2_0):
    """Queries and keys turned by tables in float32, to which they are promoted."""

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, *args, **kwargs):
        batch, tokens, width = hidden_states.shape

        def heads(x):
            return x.view(batch, tokens, attn.heads, -1).transpose(1, 2)

        angles = torch.arange(tokens, device=hidden_states.device, dtype=torch.float32)[:, None]
        query, key = (
            heads(project(hidden_states)) * angles.cos() for project in (attn.to_q, attn.to_k)
        )
        value = heads(attn.to_v(hidden_states)).to(query.dtype)
        out = F.scaled_dot_product_attention(query, key, value).to(hidden_states.dtype)
        return attn.to_out[0](out.transpose(1, 2).reshape(batch, tokens, width))


def rotary_promotes(block):
    """Rotary tables in float32 promote an attention."""
    parts(block, Attention)[0].set_processor(Rotated())


def context_twice(block):
    """The text is projected once more than is needed."""
    attention = parts(block, BasicTransformerBlock)[0].attn2
    real = attention.forward

    def forward(hidden_states, encoder_hidden_states=None, **kwargs):
        unused = attention.to_k(encoder_hidden_states) + attention.to_v(encoder_hidden_states)
        bias = unused.mean(dim=(1, 2), keepdim=True)
        return real(hidden_states, encoder_hidden_states=encoder_hidden_states, **kwargs) + bias

    attention.forward = forward


PLANTS = {
    plant.__name__: plant
    for plant in (
        nothing,
        wrapped,
        refactored,
        already_contiguous,
        graph_break,
        transposed,
        there_and_back,
        float32_linear,
        float32_norm,
        opaque_norm,
        one_more_norm,
        plain_attention,
        masked_attention,
        weights_not_channels_last,
        input_not_channels_last,
        all_in_usual_order,
        fused_projections,
        gelu_by_hand,
        table_on_the_cpu,
        item,
        int8,
        int8_but_one,
        no_fusion,
        guidance_twice,
        tile_copies,
        rotary_promotes,
        context_twice,
    )
}
