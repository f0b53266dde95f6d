"""Peak bytes of one call: as a GPU's allocator counts them, and as the simulated GPU does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from checks import Part

TOLERANCE = 0.2
PLANTED = "demo"
"""The source whose denoiser holds a copy of its weights where a fault is planted."""


def of_source(part: Part, source: str, check: Any) -> None:
    """``max_memory`` counts an arm on a GPU, or one on the CPU with a simulated GPU."""
    from product_arms import ArmBuilder

    from pytest_diffspeed.accelerators.registry import allocator_of
    from pytest_diffspeed.pipelines.components import denoiser, modules

    on_cpu = ArmBuilder("cpu", source, steps=2).prepared("fp32")
    simulated = on_cpu.simulated_peak()
    planted = part.planted and source == PLANTED
    if part.device == "cuda":
        builder = ArmBuilder("cuda", source, steps=2)
        arm = builder.prepared("fp32")
        with _copy_held(denoiser(arm.pipeline), planted):
            real = arm.peak_memory(allocator_of(builder.device))
    else:
        call = on_cpu.arm_of("call").untimed_call
        with _copy_held(denoiser(on_cpu.pipeline), planted):
            real = _with_stand_ins(call, modules(on_cpu.pipeline))
    _compare_bytes(check, real, simulated)


def of_block(part: Part, check: Any) -> None:
    """Without a pipeline around it: one forward of the SDXL block, its inputs made in the call."""
    import torch
    from profiled_block import build

    from pytest_diffspeed.accelerators.registry import allocator_of
    from pytest_diffspeed.timing.memory import bytes_of, peak_of
    from pytest_diffspeed.timing.simulated_memory import simulated_peak

    # In float32, which CPUs multiply fast.
    block = build("sdxl", part.small, "cpu", torch.float32)

    def call() -> None:
        device = next(block.parameters()).device
        with torch.no_grad():
            block(**block.inputs(device, torch.float32))

    simulated = simulated_peak(call, {"block": block})
    if part.device == "cuda":
        from pytest_diffspeed.accelerators.registry import resolve_device

        device = resolve_device("cuda")
        block.to(device.torch_device)
        call()  # workspaces of libraries stay
        allocator = allocator_of(device)
        assert allocator is not None, "unreachable because the device is CUDA"
        real = peak_of(call, bytes_of([block], device.torch_device), allocator)
    else:
        real = _with_stand_ins(call, {"block": block})
    _compare_bytes(check, real, simulated)


def _with_stand_ins(call: Any, parts: Mapping[str, Any]) -> Any:
    """The functions for a GPU's allocator, on what stands in for ``torch.cuda`` in a dry run."""
    from pytest_diffspeed.accelerators.catalog.cuda import CudaAllocator
    from pytest_diffspeed.accelerators.device import Device
    from pytest_diffspeed.accelerators.simulated import weights_replaced
    from pytest_diffspeed.simgpu import SimulatedGpu
    from pytest_diffspeed.timing.memory import bytes_of, peak_of

    with SimulatedGpu("cuda") as gpu, weights_replaced(parts, gpu.wrap):
        own = bytes_of(parts.values(), gpu.device)
        allocator = CudaAllocator(Device("cuda", 0, "stand-in", "stand-in"))
        return peak_of(call, own, allocator)


@contextlib.contextmanager
def _copy_held(module: Any, planted: bool) -> Iterator[None]:
    """What is planted: as many bytes again as the weights, held while ``module`` runs."""
    if not planted:
        yield
        return
    held: list[Any] = []

    def hold(*_: object) -> None:
        if not held:
            held.extend(parameter.detach().clone() for parameter in module.parameters())

    handle = module.register_forward_pre_hook(hold)
    try:
        yield
    finally:
        handle.remove()


def _compare_bytes(check: Any, real: Any, simulated: Any) -> None:
    ratio = real.allocated_bytes / simulated.allocated_bytes
    mib = [count / 2**20 for count in (real.allocated_bytes, simulated.allocated_bytes)]
    check.expect(
        abs(ratio - 1) <= TOLERANCE,
        f"{mib[0]:.2f} MiB on the device, {mib[1]:.2f} MiB counted: ratio {ratio:.3f}",
        ratio=ratio,
        real_allocated_bytes=real.allocated_bytes,
        real_reserved_bytes=real.reserved_bytes,
        simulated_allocated_bytes=simulated.allocated_bytes,
        simulated_weight_bytes=simulated.weight_bytes,
        simulated_peak_at=simulated.where,
    )
