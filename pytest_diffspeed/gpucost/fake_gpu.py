"""A process that believes it has a GPU, far enough for Inductor to write its code."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from . import attention_choice, cuda_private, launches, triton_private
from . import torch_private as private
from .errors import GpuCostError
from .gpus import Gpu


class FakeGpu:
    """``gpu``, which this process believes to have once :meth:`install` was called.

    Its tensors have shape, strides, type and device, and no memory; nothing is ever run.  It cannot
    be undone: afterwards ``torch.cuda.is_available()`` lies for good.  So it belongs into a worker
    process that counts and ends.
    """

    def __init__(self, gpu: Gpu, folder: Path | None = None) -> None:
        """What compilers write lies in ``folder``, for its owner to remove, or among temporary
        files, which a process that is killed leaves behind.
        """
        self.gpu = gpu
        self._where = folder
        self._mode: Any = None
        self._attention: Any = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.elsewhere: list[str] = []
        """Lines that computed in other threads, where nothing is counted."""

    def install(self) -> FakeGpu:
        """Make this process believe it; once more for the same GPU does nothing.

        Raises:
            GpuCostError: for a torch or triton that cannot, a process that already uses a GPU, or
                one that already believes in another.
        """
        before = cuda_private.installed()
        if before is not None:
            if before.gpu != self.gpu:
                raise GpuCostError(
                    f"this process already believes in {before.gpu.name}, which cannot be undone: "
                    f"count for {self.gpu.name} in another process"
                )
            self.__dict__.update(before.__dict__)
            return self
        private.require()
        # Inductor and triton write where these say, and start compile workers as they are imported.
        self._folder = tempfile.TemporaryDirectory(prefix="gpucost-", dir=self._where)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(self._folder.name, "inductor")
        os.environ["TRITON_CACHE_DIR"] = os.path.join(self._folder.name, "triton")
        os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
        cuda_private.install(self.gpu, self, self.elsewhere)
        triton_private.install(self.gpu)
        choice = attention_choice.attention_for(self.gpu.capability, private.VERSION)
        self._attention = private.replace_attention(choice)
        self._mode = private.fake_mode()
        return self

    @contextmanager
    def tensors(self) -> Iterator[None]:
        """New tensors are fake while it is open; gradients are off.  May be nested."""
        self._check()
        self.elsewhere.clear()
        with torch.no_grad(), self._mode:
            yield

    def on_device(self, module: torch.nn.Module) -> torch.nn.Module:
        """``module`` itself, its parameters and buffers now fake tensors on the GPU.

        They may be real or ``meta``; shared ones stay shared.  No memory is held.

        Raises:
            GpuCostError: for a parameter that is a tensor of a kind of its own (quantized): apply
                such techniques after this call, in :meth:`tensors`.
        """
        self._check()
        made: dict[int, torch.Tensor] = {}
        kept: list[torch.Tensor] = []  # an id is a tensor's own while the tensor lives
        for prefix, part in module.named_modules():
            for name, tensor in list(part.named_parameters(recurse=False, remove_duplicate=False)):
                fake = self._once(made, kept, tensor, f"{prefix}.{name}".lstrip("."))
                part.register_parameter(name, fake)
            persistent = set(part.state_dict(keep_vars=True))
            for name, tensor in list(part.named_buffers(recurse=False, remove_duplicate=False)):
                fake = self._once(made, kept, tensor, f"{prefix}.{name}".lstrip("."))
                part.register_buffer(name, fake, persistent=name in persistent)
        return module

    def _once(
        self, made: dict[int, torch.Tensor], kept: list[torch.Tensor], tensor: Any, name: str
    ) -> torch.Tensor:
        if id(tensor) not in made:
            if private.is_foreign_subclass(type(tensor)):
                raise GpuCostError(
                    f"{name} is a {type(tensor).__name__}, which a fake GPU cannot copy: put the "
                    "module on the fake GPU first and quantize it there"
                )
            fake = private.on_cuda(self._mode, tensor)
            if isinstance(tensor, torch.nn.Parameter):
                fake = torch.nn.Parameter(fake, requires_grad=False)
            made[id(tensor)] = fake
            kept.append(tensor)
        return made[id(tensor)]

    def like(self, tree: Any, *, keep_scalars: bool = False) -> Any:
        """``tree`` (a tensor, or lists, tuples and dicts of them) with fake CUDA copies.

        Shapes, strides and types are kept, other values are left as they are.  ``keep_scalars``
        leaves CPU tensors without dimensions too, as pipelines keep timesteps.
        """
        self._check()

        def copy(leaf: Any) -> Any:
            if not isinstance(leaf, torch.Tensor):
                return leaf
            if keep_scalars and leaf.dim() == 0 and leaf.device.type == "cpu":
                return leaf
            return private.on_cuda(self._mode, leaf)

        return private.tree_map(copy, tree)

    def key(
        self, inductor_options: Mapping[str, Any] | None = None, *, compiles: bool = False
    ) -> dict[str, str]:
        """What counts depend on beside the code that is counted: compare only under equal keys.

        ``compiles``: with what is set of Inductor beside these options, by modules and variables of
        the environment; nothing is added where nothing is.
        """
        first = attention_choice.prefers_cudnn(self.gpu.capability, private.VERSION, os.environ)
        major, minor = self.gpu.capability
        return {
            "torch": torch.__version__,
            "triton": triton_private.version(),
            "gpu": self.gpu.name,
            "capability": f"{major}.{minor}",
            "attention": "cudnn first" if first else "flash first",
            "rules": launches.RULES,
            "inductor_options": repr(sorted((inductor_options or {}).items())),
            **(_settings() if compiles else {}),
        }

    def _check(self) -> None:
        if self._mode is None:
            raise GpuCostError("call `install()` before counting with a FakeGpu")


def _settings() -> dict[str, str]:
    from . import inductor_private

    found = sorted(inductor_private.settings().items())
    text = ", ".join(f"{name}={value}" for name, value in found)
    return {"inductor_settings": text} if text else {}
