"""Single ops that wait for the device or do not: as a GPU says it, and as the simulated one does.

The rows are those that the tests of the simulated GPU hold it to (``tests/simgpu``), and some more
that nobody has checked against a GPU.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from profiler_traces import Recording, Work, profiled

from pytest_diffspeed.accelerators.cuda_syncs import record_cuda
from pytest_diffspeed.common.quiet import third_party
from pytest_diffspeed.simgpu import SyncLog

TABLE = Path(__file__).parents[3] / "tests/simgpu/test_sync_table.py"
Program = Callable[[Any], object]

MORE: dict[str, Program] = {
    "print": lambda t: _print(t.x),
    "isfinite().all().item()": lambda t: torch.isfinite(t.x).all().item(),
    "isfinite().all()": lambda t: torch.isfinite(t.x).all(),
    "if any": lambda t: 1 if (t.x > 0).any() else 0,
    "max of Python": lambda t: max(t.x),
    "cholesky": lambda t: torch.linalg.cholesky(t.square),
    "cholesky_ex": lambda t: torch.linalg.cholesky_ex(t.square),
    "inv_ex": lambda t: torch.linalg.inv_ex(t.square),
    "eigh": lambda t: torch.linalg.eigh(t.square),
    "eigvals": lambda t: torch.linalg.eigvals(t.square),
    "svd": lambda t: torch.linalg.svd(t.square),
    "lstsq": lambda t: torch.linalg.lstsq(t.square, t.square),
    "qr": lambda t: torch.linalg.qr(t.square),
    "det": lambda t: torch.linalg.det(t.square),
    "solve_triangular": lambda t: torch.linalg.solve_triangular(t.square, t.square, upper=True),
    "matrix_exp": lambda t: torch.linalg.matrix_exp(t.square),
    "put CPU mask, number": lambda t: t.put(t.mask_cpu, 1.0),
    "put device mask, values": lambda t: t.put(t.mask, t.x[:2] + 0),
    "masked_scatter": lambda t: t.x.masked_scatter(t.mask, t.x),
    "nonzero as_tuple": lambda t: t.x.nonzero(as_tuple=True),
    "count_nonzero": lambda t: torch.count_nonzero(t.x),
    "unique with counts": lambda t: torch.unique(t.ind, return_counts=True),
    "unique by rows": lambda t: torch.unique(t.square, dim=0),
    "multinomial, many with replacement": lambda t: torch.multinomial(t.x + 1, 9, replacement=True),
    "bernoulli": lambda t: torch.bernoulli(t.x),
    "topk": lambda t: t.x.topk(2),
    "kthvalue": lambda t: t.x.kthvalue(2),
    "median": lambda t: t.x.median(),
    "mode": lambda t: t.ind.mode(),
    "cumsum": lambda t: t.x.cumsum(0),
    "searchsorted": lambda t: torch.searchsorted(t.x.sort().values, t.x),
    "clamp by device tensor": lambda t: t.x.clamp(max=t.y),
    "embedding": lambda t: torch.nn.functional.embedding(t.ind, t.x[:, None]),
    "interpolate": lambda t: torch.nn.functional.interpolate(t.x[None, None], scale_factor=2),
    "noise of a CPU generator": lambda t: torch.randn(
        4, generator=torch.Generator("cpu").manual_seed(0)
    ).to(t.device),
    "noise of the device": lambda t: torch.randn(4, device=t.device),
    "split by list": lambda t: t.x.split([1, 3]),
    "split by values": lambda t: t.x.split(torch.full((2,), 2, device=t.device).tolist()),
    "pinned, copy_": lambda t: t.x.copy_(t.pinned(), non_blocking=True),
    "copy_ to pinned": lambda t: t.pinned().copy_(t.x, non_blocking=True),
    "large pageable, non_blocking": lambda t: torch.ones(1 << 20).to(t.device, non_blocking=True),
    "deepcopy": lambda t: __import__("copy").deepcopy(t.x),
    "to another dtype and the CPU": lambda t: t.x.to("cpu", torch.float16),
    "not contiguous to the CPU": lambda t: t.square.t().cpu(),
    "attention": lambda t: torch.nn.functional.scaled_dot_product_attention(
        *[t.x.expand(1, 1, 4, 4)] * 3
    ),
}


def _print(tensor: torch.Tensor) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        print(tensor)


def load() -> tuple[type[Any], dict[str, Program]]:
    """The inputs of a row, and all rows by name."""
    spec = importlib.util.spec_from_file_location("gpu_check_sync_table", TABLE)
    assert spec is not None and spec.loader is not None
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    programs: dict[str, Program] = {**table.PYTORCH_NO_SYNC, **table.PYTORCH_SYNC}
    programs |= {name: program for name, (program, _) in table.OURS.items()}
    return table.Inputs, programs | MORE


def names() -> list[str]:
    return list(load()[1])


@dataclass(frozen=True)
class Row:
    """``real`` and ``simulated``: kinds of the syncs in order, or what the op raised."""

    name: str
    real: Sequence[str] | Exception
    simulated: Sequence[str] | Exception
    profiled: Work | None

    @property
    def same(self) -> bool:
        """As ``diffspeed compare syncs`` means it: kinds count where the driver told them."""
        real, simulated = _kinds(self.real), _kinds(self.simulated)
        if "unclassified" in real:
            return _weights(real) == _weights(simulated)
        return sorted(real) == sorted(simulated)

    @property
    def only_profiler(self) -> int:
        """Waits of CUDA calls that neither the sync debug mode nor our wrappers saw."""
        if self.profiled is None or isinstance(self.real, Exception):
            return 0
        waits = sum(self.profiled.waits.values())
        return max(0, waits - sum(kind != "may_block" for kind in self.real))

    def told(self) -> str:
        text = f"real {_told(self.real)}; simulated {_told(self.simulated)}"
        if self.profiled is not None:
            text += f"; profiler {_counts(self.profiled.waits) or 'no wait'}"
            copies = Counter(name for name in self.profiled.copies if "Device ->" in name)
            copies += Counter(name for name in self.profiled.copies if "-> Device" in name)
            text += f", {_counts(copies)}" if copies else ""
        return text

    def figures(self) -> dict[str, Any]:
        found = {"real": _plain(self.real), "simulated": _plain(self.simulated)}
        if self.profiled is not None:
            work = self.profiled
            found |= {
                "waits": dict(work.waits),
                "calls": dict(work.calls),
                "copies": list(work.copies),
                "kernels": [name[:120] for name in work.kernels],
            }
        return found


def _kinds(side: Sequence[str] | Exception) -> list[str]:
    if isinstance(side, Exception):
        raise side
    return list(side)


def _weights(kinds: Sequence[str]) -> tuple[int, int]:
    may = sum(kind == "may_block" for kind in kinds)
    return len(kinds) - may, may


def _told(side: Sequence[str] | Exception) -> str:
    if isinstance(side, Exception):
        return f"raised {type(side).__name__}"
    return _counts(Counter(side)) or "none"


def _counts(counts: Mapping[str, int]) -> str:
    return " + ".join(f"{count} {name}" for name, count in counts.items())


def _plain(side: Sequence[str] | Exception) -> Any:
    return f"{type(side).__name__}: {side}"[:500] if isinstance(side, Exception) else list(side)


def kinds(log: SyncLog) -> list[str]:
    return [str(event.kind) for event in log.events]


def watched(
    device: torch.device, record: Callable[[], contextlib.AbstractContextManager[SyncLog]]
) -> dict[str, list[str] | Exception]:
    """Every row's syncs as ``record`` sees them."""
    inputs, programs = load()
    found: dict[str, list[str] | Exception] = {}
    for name, program in programs.items():
        try:
            with third_party(), torch.no_grad():
                program(inputs(device))  # libraries make their handles and workspaces once
                given = inputs(device)
                with record() as log:
                    program(given)
            found[name] = kinds(log)
        except Exception as error:  # one row must not hide the others
            found[name] = error
    return found


def real(device: torch.device, planted: str | None = None) -> dict[str, list[str] | Exception]:
    """As a real GPU is watched; ``planted`` names a row that waits once more."""
    found = watched(device, record_cuda)
    kinds_of = found.get(planted or "")
    if isinstance(kinds_of, list):
        inputs, programs = load()
        given = inputs(device)
        with third_party(), torch.no_grad(), record_cuda() as log:
            programs[str(planted)](given)
            given.x.sum().item()
        found[str(planted)] = kinds(log)
    return found


def profile(device: torch.device, folder: Path) -> dict[str, Work]:
    """What the profiler sees of each row that ran."""
    inputs, programs = load()
    recording: Recording
    with third_party(), torch.no_grad():
        given = {name: inputs(device) for name in programs}
        torch.cuda.synchronize()
        with profiled(folder / "rows.json", "cuda") as recording:
            for name, program in programs.items():
                with contextlib.suppress(Exception), torch.profiler.record_function(f"row:{name}"):
                    program(given[name])
    trace = recording.trace
    if not trace.saw_the_device:
        raise RuntimeError("the profiler saw nothing of the GPU: CUPTI gave no event")
    return {label.name.removeprefix("row:"): trace.work_of(label) for label in trace.named("row:")}
