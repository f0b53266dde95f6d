"""Records of ``gpu_cost`` with made-up kernels: the gate's own verdicts, so its own figures."""

from pytest_diffspeed.arms.gpu_cost.result import CountedCalls, GpuCost
from pytest_diffspeed.gates.catalog.gpu_cost import GpuCostMarker, judged
from pytest_diffspeed.gates.marker import parse
from pytest_diffspeed.gpucost import Cost, Kernel
from tests.gates.made_up_context import Context

TEST = "tests/test_cost.py::test_step[bf16+channels_last]"
KEY = {"torch": "2.14.1", "triton": "3.8.0", "diffusers": "0.42.1", "gpu": "NVIDIA A100-SXM4-80GB"}
FILE = "diffusers/models/attention.py"
MB, G = 10**6, 10**9
ATTENTION = "_scaled_dot_product_flash_attention"


def kernels(blocks, *more, hidden=640, kind="b16"):
    """Of so many blocks of a transformer, about."""
    wide = (4096, hidden)
    of_block = (
        Kernel("convolution", "conv", 12 * MB, 9 * G, "b16", (2, hidden, 64, 64), f"{FILE}:41"),
        Kernel("addmm", "gemm", 9 * MB, 7 * G, kind, (1, 4096, hidden, hidden), f"{FILE}:57"),
        Kernel(ATTENTION, "attention", 6 * MB, 5 * G, "b16", (2, 10, 4096, 64), f"{FILE}:88"),
        Kernel("native_layer_norm", "reduction", 5 * MB, shape=wide, site=f"{FILE}:31"),
        Kernel("gelu", "pointwise", 5 * MB, shape=wide, site=f"{FILE}:60"),
        Kernel("copy_", "copy", 2 * MB, shape=wide, site=f"{FILE}:93"),
    )
    return (*of_block * blocks, *more)


ENCODER, DECODER = Cost(kernels(2, hidden=320)), Cost(kernels(3, hidden=512))


def cost(step, key=KEY):
    calls = (
        CountedCalls("text_encoder", "encoder", "eager", 2, (), ENCODER),
        CountedCalls("unet", "denoiser", "eager", 20, tuple(range(20)), Cost(kernels=step)),
        CountedCalls("vae.decode", "decoder", "eager", 1, (), DECODER),
    )
    return GpuCost("demo", "bf16", KEY["gpu"], 20, calls, key)


CAST, FUSED = "project/fast_attention.py", "project/fast.py"
CASTS = 5 * tuple(
    Kernel("_to_copy", "cast", 3 * MB, shape=(2, 4096, 640), site=f"{CAST}:{n}") for n in (34, 35)
)
OTHERS = tuple(
    Kernel(f"triton_poi_fused_{n}", "triton_pointwise", MB - n, shape=(2, n), site=f"{FUSED}:{n}")
    for n in range(18)
)


def gpu_cost(base, head, *, test=TEST, rootdir=None, **limits):
    """The line of a gate."""
    marker = parse(GpuCostMarker, (), limits)
    result = judged(marker, Context(test, rootdir), base, head, "main (fedcba98)", "renew it")
    return {"kind": "gate", **result.as_dict()}


def red_cost(**more):
    """Casts that came, and two blocks whose products left bfloat16."""
    lost = kernels(2, kind="f32")
    return gpu_cost(cost(kernels(12)), cost((*kernels(10), *lost, *CASTS, *OTHERS)), **more)


def green_cost(**more):
    return gpu_cost(cost(kernels(12)), cost(kernels(12)), **more)
