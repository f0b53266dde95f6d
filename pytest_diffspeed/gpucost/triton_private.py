"""What the fake GPU uses of triton, and of Inductor's way to it.  Seen in triton 3.6 and 3.8."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from . import sites
from .errors import GpuCostError
from .gpus import Gpu
from .torch_private import frames


def version() -> str:
    """Of triton.

    Raises:
        GpuCostError: where it is not installed.
    """
    try:
        import triton
    except ImportError:
        raise GpuCostError(
            "counting compiled GPU cost needs triton, which CUDA builds of torch for Linux bring "
            "along; install it with `pip install triton`"
        ) from None
    return str(triton.__version__)


def install(gpu: Gpu) -> None:
    """Triton's active driver is one that names ``gpu`` as its target and loads nothing.

    Raises:
        GpuCostError: where triton is missing or has moved what is replaced here.
    """
    try:
        from torch._inductor.runtime import triton_helpers
        from triton.backends.compiler import GPUTarget
        from triton.backends.driver import DriverBase
        from triton.runtime import driver

        driver.set_active  # noqa: B018  it is looked for
        triton_helpers.set_driver_to_gpu  # noqa: B018
    except (ImportError, AttributeError) as error:
        raise GpuCostError(
            f"counting compiled GPU cost replaces what triton {version()} does not have: {error}; "
            "it was tried with triton 3.6 and 3.8"
        ) from None
    major, minor = gpu.capability

    class Driver(DriverBase):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.utils = SimpleNamespace(
                get_device_properties=lambda index: {
                    "max_shared_mem": gpu.shared_per_block,
                    "multiprocessor_count": gpu.multiprocessors,
                    "warpSize": 32,
                    "max_num_regs": 65536,
                    "sm_clock_rate": 0,
                    "mem_clock_rate": 0,
                    "mem_bus_width": 0,
                }
            )

        @classmethod
        def is_active(cls) -> bool:
            return True

        def get_current_target(self) -> Any:
            return GPUTarget("cuda", 10 * major + minor, 32)

        def get_active_torch_device(self) -> Any:
            import torch

            return torch.device("cuda", 0)

        def get_device_interface(self) -> Any:
            import torch

            return torch.cuda

        def get_current_device(self) -> int:
            return 0

        def set_current_device(self, device: int) -> None: ...

        def get_current_stream(self, device: Any = None) -> int:
            return 0

        def launcher_cls(self, *args: Any) -> Any:
            site = sites.innermost(frames())
            raise GpuCostError(
                f"{site or 'the code'} launches a Triton kernel of its own eagerly, and there is "
                "nothing to launch it on: make it an op with `torch.library.triton_op`"
            )

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

        def get_benchmarker(self) -> Any:
            raise GpuCostError("there is no GPU to benchmark on")

        def get_empty_cache_for_benchmark(self) -> Any:
            return None

        def clear_cache(self, cache: Any) -> None: ...

    driver.set_active(Driver())
    # Inductor sets triton's own driver before it compiles, which looks for libcuda.
    triton_helpers.set_driver_to_gpu = lambda: None
    _forget_what_was_found()


class Binary(NamedTuple):
    """Machine code of one configuration of a kernel, and the shared memory of its blocks."""

    cubin: bytes
    shared_bytes: int


def binaries(name: str, source: str) -> list[Binary]:
    """The kernel of a module that Inductor wrote, for the fake GPU, in each of its configurations.

    Raises:
        GpuCostError: where it does not compile, or triton or Inductor have moved what is used here.
    """
    import torch._inductor.config as inductor_config
    from torch._inductor.codecache import PyCodeCache
    from torch._inductor.runtime import triton_heuristics

    try:
        # A launcher of Inductor's own would drop the machine code.
        with inductor_config.patch(use_static_triton_launcher=False):
            module = PyCodeCache.load(source)
            tuner = next(
                value
                for value in vars(module).values()
                if isinstance(value, triton_heuristics.CachingAutotuner)
            )
            made = [tuner._precompile_config(config).kernel for config in tuner.configs]
        return [Binary(kernel.asm["cubin"], int(kernel.metadata.shared)) for kernel in made]
    except Exception as error:
        said = str(error).strip().splitlines()
        raise GpuCostError(
            f"the Triton kernel {name} does not compile for the fake GPU: "
            f"{said[0] if said else type(error).__name__}"
        ) from error


def cuobjdump() -> Path:
    """NVIDIA's reader of machine code, which comes in triton's wheel.

    Raises:
        GpuCostError: where it is missing.
    """
    import triton

    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    if not tool.is_file():
        raise GpuCostError(
            f"triton {version()} comes without cuobjdump, which reads the registers of a kernel: "
            "install triton from its wheel"
        )
    return tool


def _forget_what_was_found() -> None:
    """Torch asks once a process whether triton works, and for which GPU; an import before this may
    have asked.
    """
    for name in ("torch.utils._triton", "torch._inductor.utils"):
        for function in list(vars(sys.modules.get(name, sys)).values()):
            if hasattr(function, "cache_clear"):
                function.cache_clear()
