"""What one call asks of a GPU: its kernels, and figures of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import GpuCostError
from .gpus import UNITS

KINDS = (
    "triton_pointwise",
    "triton_reduction",
    "triton_template",
    "pointwise",
    "reduction",
    "gemm",
    "conv",
    "attention",
    "copy",
    "cast",
    "layout",
    "opaque",
    "h2d",
    "d2h",
)
"""What a kernel does.  ``copy`` keeps type and layout, ``cast`` changes the type and nothing else,
``layout`` the order in memory; ``opaque`` is an op whose own kernels no count sees; ``h2d`` and
``d2h`` are copies between host and device, which no kernel does."""
TRANSFERS = ("h2d", "d2h")
JOINS = "+"
FUSED_ATTENTION = {
    "_scaled_dot_product_flash_attention": "flash",
    "_scaled_dot_product_cudnn_attention": "cudnn",
    "_scaled_dot_product_efficient_attention": "efficient",
}


@dataclass(frozen=True)
class Kernel:
    """One launch.

    ``bytes``: what it must read and write at least, each buffer once (not what DRAM moves).
    ``flops``: of products only, two per multiply and add; ``unit`` says in which type
    (:data:`~.gpus.UNITS`).  ``shape``: batch, rows, columns and depth of a GEMM; the output's of a
    conv; batch, heads, queries, width, keys of an attention; elements, and elements reduced to one,
    of other kernels.  ``site``: "file:line" of the innermost line that is not torch's or another
    translator's; ``also`` the other lines that were fused into it; ``called_from`` the innermost
    line around ``site`` that is of no installed package, where that is another one.  ``route`` and
    ``path`` stand for all lines around it (:func:`~.sites.way`), and are for comparing only; of a
    fused kernel there may be several, with :data:`JOINS` between them.
    ``hidden_launches`` and ``hidden_bytes``: what the library does around it that no graph shows;
    they are always modelled.  ``evidence`` says what this kernel itself is: ``counted`` by Inductor
    or the dispatcher, or ``modelled`` (which attention a GPU would have chosen).
    """

    name: str
    kind: str
    bytes: int = 0
    flops: int = 0
    unit: str = ""
    shape: tuple[int, ...] = ()
    site: str = ""
    also: tuple[str, ...] = ()
    called_from: str = ""
    route: str = ""
    path: str = ""
    hidden_launches: int = 0
    hidden_bytes: int = 0
    evidence: str = "counted"

    @property
    def lines(self) -> tuple[str, ...]:
        """All lines that it comes from, ``site`` first."""
        return ((self.site,) if self.site else ()) + self.also

    @property
    def what(self) -> tuple[str, str, tuple[int, ...]]:
        """Kind, name and shape: by these two counts are compared."""
        return self.kind, self.name, self.shape


@dataclass(frozen=True)
class Cost:
    """Kernels in the order of their launch, and what stands around them.

    ``graphs``: compiled graphs that ran; ``breaks``: each graph break, with its line; ``notes``:
    sentences of what was counted otherwise than asked; ``launches_in_code``: launches found in the
    code that Inductor wrote (``None`` in eager mode).  Costs add up, and ``cost.times(20)`` is that
    of twenty equal calls.
    """

    kernels: tuple[Kernel, ...] = ()
    graphs: int = 0
    breaks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    launches_in_code: int | None = None

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        found = [c for c in (self.launches_in_code, other.launches_in_code) if c is not None]
        return Cost(
            kernels=self.kernels + other.kernels,
            graphs=self.graphs + other.graphs,
            breaks=self.breaks + other.breaks,
            notes=self.notes + tuple(n for n in other.notes if n not in self.notes),
            launches_in_code=sum(found) if found else None,
        )

    def times(self, number: int) -> Cost:
        """Of ``number`` equal calls, one behind the other."""
        code = self.launches_in_code
        return dataclasses.replace(
            self,
            kernels=self.kernels * number,
            graphs=self.graphs * number,
            breaks=self.breaks * number,
            launches_in_code=None if code is None else code * number,
        )

    @property
    def host_to_device(self) -> tuple[Kernel, ...]:
        """The copies from the host."""
        return tuple(kernel for kernel in self.kernels if kernel.kind == "h2d")

    def figures(self) -> dict[str, int]:
        """Every figure by name, the same names in the same order for every cost.

        ``kernels`` (without copies from and to the host), ``bytes``, ``flops``, ``flops.UNIT``
        for each unit, ``casts``, ``layout``, ``opaque``, ``attention`` (fused ones) and
        ``attention.BACKEND`` for each, ``graphs``, ``breaks``, ``h2d``, ``d2h``, ``hidden`` and
        ``hidden_bytes`` (modelled), and ``kind.KIND`` for each kind.
        """
        kinds = Counter(kernel.kind for kernel in self.kernels)
        launched = [kernel for kernel in self.kernels if kernel.kind not in TRANSFERS]
        flops: Counter[str] = Counter()
        backends: Counter[str] = Counter()
        for kernel in launched:
            flops[kernel.unit] += kernel.flops
            if kernel.kind == "attention":
                backends[FUSED_ATTENTION.get(kernel.name, "other")] += 1
        return {
            "kernels": len(launched),
            "bytes": sum(kernel.bytes for kernel in launched),
            "flops": sum(kernel.flops for kernel in launched),
            **{f"flops.{unit}": flops[unit] for unit in UNITS},
            "casts": kinds["cast"],
            "layout": kinds["layout"],
            "opaque": kinds["opaque"],
            "attention": kinds["attention"],
            **{
                f"attention.{name}": backends[name] for name in (*FUSED_ATTENTION.values(), "other")
            },
            "graphs": self.graphs,
            "breaks": len(self.breaks),
            "h2d": kinds["h2d"],
            "d2h": kinds["d2h"],
            "hidden": sum(kernel.hidden_launches for kernel in launched),
            "hidden_bytes": sum(kernel.hidden_bytes for kernel in launched),
            **{f"kind.{kind}": kinds[kind] for kind in KINDS},
        }

    def fingerprint(self) -> str:
        """The same for the same kernels in the same order, with what is hidden around each; lines
        do not count.
        """
        text = "\n".join(
            f"{k.name}|{k.kind}|{k.bytes}|{k.flops}|{k.unit}|{k.shape}|{k.hidden_launches}|"
            f"{k.hidden_bytes}"
            for k in self.kernels
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> dict[str, Any]:
        """JSON's types only.  Equal kernels are written once: ``order`` has their numbers."""
        numbers: dict[Kernel, int] = {}
        order = [numbers.setdefault(kernel, len(numbers)) for kernel in self.kernels]
        return {
            "kernels": [dataclasses.asdict(kernel) for kernel in numbers],
            "order": order,
            "graphs": self.graphs,
            "breaks": list(self.breaks),
            "notes": list(self.notes),
            "launches_in_code": self.launches_in_code,
        }

    @classmethod
    def from_json(cls, written: Mapping[str, Any] | str) -> Cost:
        """What :meth:`to_json` wrote, as an object or as its text.

        Raises:
            GpuCostError: for anything else.
        """
        try:
            fields = json.loads(written) if isinstance(written, str) else written
            kernels = [
                Kernel(
                    **{
                        **kernel,
                        "shape": tuple(kernel["shape"]),
                        "also": tuple(kernel["also"]),
                    }
                )
                for kernel in fields["kernels"]
            ]
            return cls(
                kernels=tuple(kernels[number] for number in fields["order"]),
                graphs=fields["graphs"],
                breaks=tuple(fields["breaks"]),
                notes=tuple(fields["notes"]),
                launches_in_code=fields["launches_in_code"],
            )
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise GpuCostError(
                f"this is not a GPU cost as `to_json` writes it: {error!r}"
            ) from None
