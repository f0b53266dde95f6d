"""What two ways to carry compile caches between CI jobs save of a first call.

    python benchmarks/compile_cache.py

Each line is a fresh process that compiles the same two convolutions with inductor: with no cache,
with the file of `torch.compiler.save_cache_artifacts()`, and with a copy of the folder that
`--diffspeed-compile-cache` keeps.  Once each; prints seconds of the first call, and inductor's hits
and misses.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def job(artifacts: Path, *, load: bool) -> str:
    """One job: in inductor's folder as the environment names it."""
    import torch

    if load:
        torch.compiler.load_cache_artifacts(artifacts.read_bytes())
    convolutions = torch.nn.Sequential(
        torch.nn.Conv2d(4, 8, 3, padding=1),
        torch.nn.GroupNorm(4, 8),
        torch.nn.SiLU(),
        torch.nn.Conv2d(8, 8, 3, padding=1),
        torch.nn.Softmax(1),
    ).eval()
    compiled = torch.compile(convolutions, fullgraph=True)
    with torch.no_grad():
        image = torch.ones(1, 4, 16, 16)
        started = time.perf_counter()
        compiled(image)
        seconds = time.perf_counter() - started
    counts = torch._dynamo.utils.counters["inductor"]
    if not load:
        saved = torch.compiler.save_cache_artifacts()
        assert saved is not None
        artifacts.write_bytes(saved[0])
    hits, misses = counts["fxgraph_cache_hit"], counts["fxgraph_cache_miss"]
    return f"{seconds:6.1f} s   {hits} hits, {misses} misses"


def main() -> None:
    if len(sys.argv) == 3:
        print(job(Path(sys.argv[2]), load=sys.argv[1] == "load"))
        return
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        artifacts, folder, moved = here / "artifacts", here / "folder", here / "moved"
        for name, what, where in (
            ("no cache", "save", folder),
            ("save_cache_artifacts", "load", here / "unpacked"),
            ("a copy of the folder", "take", moved),
        ):
            if where is moved:
                shutil.copytree(folder, moved)
            done = subprocess.run(
                [sys.executable, __file__, what, str(artifacts)],
                env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(where)},
                capture_output=True,
                text=True,
                check=True,
            )
            print(f"{name:24}{done.stdout.splitlines()[-1]}", flush=True)


if __name__ == "__main__":
    main()
