"""What techniques in 8 bits ask of an H100, counted in this one process: JSON out.

python -m tests.arms.gpu_cost.count_8_bits
"""

import json

import torch

from pytest_diffspeed.adapters import torchao_internals
from pytest_diffspeed.arms.gpu_cost.in_worker import count_here
from pytest_diffspeed.arms.gpu_cost.order import CountOrder
from pytest_diffspeed.gpucost import FakeGpu, named_gpu

SOURCE = "tests.techniques.wide_flux:build"
STACKS = ("bf16", "bf16+fp8_dynamic", "bf16+fp8_weight_only", "bf16+layerwise_casting")


def settings(weight):
    """All that torchao's float8 tensors are told, but which library multiplies."""
    of_inputs = weight.act_quant_kwargs
    return [
        str(weight.qdata.dtype),
        list(weight.scale.shape),
        list(weight.block_size),
        str(weight.mm_config),
        str(of_inputs.float8_dtype),
        str(of_inputs.granularity),
        [of_inputs.mm_config, of_inputs.hp_value_lb, of_inputs.hp_value_ub],
    ]


def float8_on(device, granularity):
    layer = torch.nn.Linear(64, 32, dtype=torch.bfloat16, device=device).requires_grad_(False)
    torchao_internals.quantize_float8_dynamic(layer, {""}, granularity)
    return settings(layer.weight)


def main():
    on_cpu = {how: float8_on("cpu", how) for how in ("tensor", "row")}
    costs = {}
    for stack in STACKS:
        cost = count_here(CountOrder(SOURCE, stack, "h100", steps=2))
        kernels = [
            k for call in cost.calls if call.component == "transformer" for k in call.cost.kernels
        ]
        costs[stack] = {
            "figures": cost.of("transformer").figures(),
            "scaled_mm": sum(kernel.name == "_scaled_mm" for kernel in kernels),
            "casts": sum(kernel.kind == "cast" for kernel in kernels),
        }
    with FakeGpu(named_gpu("h100")).install().tensors():
        on_gpu = {how: float8_on("cuda", how) for how in ("tensor", "row")}
    print("\n" + json.dumps({"costs": costs, "on_cpu": on_cpu, "on_gpu": on_gpu}))


if __name__ == "__main__":
    main()
