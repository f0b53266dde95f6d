"""Which functions of the installed torch wait for the device, read from its machine code.

    python benchmarks/sync_sources.py

The table of ops that sync (`pytest_diffspeed/simgpu/rules.py`) names the function behind each row.
This disassembles those functions in the installed `libtorch_cpu.so` and `libtorch_cuda.so` and
prints which calls they make that read a value of the device (`item`, `memcpy_and_sync`, a copy by
`to_dtype_layout`, what `cpu()` calls), and which only let the device check (`_assert_async`).  A
function may hold one call for each data type or branch, so the calls of *one* branch are what one
op does; the table's rows were set from that.  Needs `nm` and `objdump` (binutils) and Linux; a
build without CUDA shows its CPU library only.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import torch

CPU, CUDA = "libtorch_cpu.so", "libtorch_cuda.so"
# Row of the table, library, start of the function's name below at::native::.
FUNCTIONS = (
    ("_local_scalar_dense", CUDA, "_local_scalar_dense_cuda_impl<float>("),
    ("nonzero", CUDA, "nonzero_cuda_out_impl<float>("),
    ("nonzero_static", CUDA, "nonzero_static_cuda_out_impl<float>("),
    ("masked_select", CUDA, "masked_select_cuda("),
    ("masked_fill, device value", CUDA, "masked_fill__cuda(at::Tensor&, at::Tensor const&, at::T"),
    ("index_put_, accumulate", CUDA, "index_put_with_sort_kernel("),
    ("repeat_interleave", CUDA, "repeat_interleave_cuda("),
    ("bincount", CUDA, "_bincount_cuda_template<long, float>("),
    ("histc", CUDA, "_histc_cuda_template<float>("),
    ("equal", CUDA, "cuda_equal("),
    ("unique", CUDA, "compute_unique<float"),
    ("unique_dim", CUDA, "unique_dim_cuda_template<float>("),
    ("searchsorted, sorter", CUDA, "searchsorted_out_cuda(at::Tensor const&, at::Tensor const&"),
    ("allclose", CPU, "allclose("),
    ("isin", CPU, "isin_sorting("),
    ("isin", CPU, "structured_isin_Tensor_Tensor_out::impl("),
    ("multinomial", CPU, "multinomial_out("),
    ("normal, std tensor", CPU, "normal(at::Tensor const&, at::Tensor const&"),
    ("linspace of tensors", CPU, "linspace_out(at::Tensor const&, at::Tensor const&"),
    ("_linalg_check_errors", CPU, "_linalg_check_errors("),
    ("one_hot", CPU, "one_hot("),
)
NAMESPACES = r"(native::)?(internal::)?(\(anonymous namespace\)::)?"
WAITS = re.compile(
    r"at::(?:Tensor|_ops)::(item)\b|(_local_scalar_dense)::|(memcpy_and_sync)|(_assert_async)"
    r"|at::_ops::(_unique2?)::|at::_ops::(aminmax)::|at::_ops::(nonzero)::|(stream_synchronize)"
    r"|at::_ops::(to_dtype_layout)::|(StreamSynchronize)|at::_ops::(index)_Tensor::|at::(_unique2?)\("
)


def symbols(library: Path) -> list[tuple[int, int, str]]:
    """Address, size and demangled name of each function."""
    text = subprocess.run(
        ["nm", "-CS", "--defined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    found = []
    for line in text.splitlines():
        parts = line.split(maxsplit=3)
        if len(parts) == 4 and parts[2] in "tTwW":
            found.append((int(parts[0], 16), int(parts[1], 16), parts[3]))
    return found


def calls(library: Path, address: int, size: int) -> Counter[str]:
    """How often the function calls what waits, by name."""
    text = subprocess.run(
        [
            "objdump",
            "-dC",
            "--no-show-raw-insn",
            f"--start-address={address:#x}",
            f"--stop-address={address + size:#x}",
            str(library),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    seen: Counter[str] = Counter()
    for line in text.splitlines():
        if re.search(r"\b(call|jmp)\b", line) and "<" in line:
            match = WAITS.search(line.partition("<")[2])
            if match is not None:
                seen[next(word for word in match.groups() if word)] += 1
    return seen


def main() -> int:
    folder = Path(torch.__file__).parent / "lib"
    print(f"torch {torch.__version__}")
    known: dict[str, list[tuple[int, int, str]]] = {}
    for row, name, start in FUNCTIONS:
        library = folder / name
        if not library.exists():
            print(f"{row:<26} {name} is not part of this build")
            continue
        if name not in known:
            known[name] = symbols(library)
        # The names of templates begin with their return type.
        matching = [
            symbol
            for symbol in known[name]
            if re.search(rf"at::{NAMESPACES}{re.escape(start)}", symbol[2])
            and not re.search(r"clone \.cold|device_stub|cub::|lambda|_wrapper_t", symbol[2])
        ]
        seen: Counter[str] = Counter()
        for address, size, _ in matching:
            seen |= calls(library, address, size)
        told = ", ".join(f"{n} × {what}" for what, n in sorted(seen.items())) or "none"
        if not matching:
            told = "no symbol of its own"
        print(f"{row:<26} {start.partition('(')[0]:<38} {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
