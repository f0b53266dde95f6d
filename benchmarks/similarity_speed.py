"""How fast image metrics are beside other implementations, whether they agree, and their memory.

    python benchmarks/similarity_speed.py              # the tables of docs/image_similarity.md
    python benchmarks/similarity_speed.py --images 2 --side 512 --rounds 3

All implementations get the same pictures in float32 and take turns in each round, in another order
each time. Figures are medians over rounds, of the wall clock and of processor time (all threads of
this process). Processor time decides, since other processes on the same cores disturb it less.
Ends with 1 where SSIM differs from scikit-image's
by more than 1e-4 or is less than 3 times as fast, where MS-SSIM differs from pytorch-msssim's by
more than 1e-3, or where comparing 64 images takes more than 2 GiB. Implementations that are not
installed are named: scikit-image and pytorch-msssim come with the extra [dev], torchmetrics does
not.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_diffspeed.accelerators.catalog.cpu import cpu_name
from pytest_diffspeed.evidence.key import installed_version
from pytest_diffspeed.similarity import as_images, compare_images, ms_ssim, ssim

Arrays = np.ndarray[Any, np.dtype[np.float32]]
Scores = Sequence[float]
LEAST_SPEEDUP, SSIM_TOLERANCE, MS_SSIM_TOLERANCE, MOST_GIB = 3.0, 1e-4, 1e-3, 2.0


def pictures(number: int, side: int) -> tuple[Arrays, Arrays]:
    """``number × side × side × 3`` photographs, and the same with noise, a blur or other tones."""
    from scipy.ndimage import gaussian_filter
    from skimage import data, transform

    photographs = (data.astronaut, data.chelsea, data.coffee, data.rocket)
    made, changed = [], []
    rng = np.random.default_rng(0)
    for index in range(number):
        photograph = photographs[index % len(photographs)]()
        turned = np.rot90(photograph, index // len(photographs))
        image = transform.resize(turned, (side, side, 3), anti_aliasing=True).astype(np.float32)
        other = (
            image + rng.normal(0, 0.03, image.shape),
            gaussian_filter(image, (1.5, 1.5, 0)),
            image**1.2,
        )[index % 3]
        made.append(np.clip(image, 0, 1))
        changed.append(np.clip(other, 0, 1).astype(np.float32))
    return np.stack(made), np.stack(changed)


def scikit_image(x: Arrays, y: Arrays) -> Scores:
    from skimage.metrics import structural_similarity

    return [
        float(
            structural_similarity(
                a,
                b,
                channel_axis=-1,
                data_range=1.0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
        )
        for a, b in zip(x, y, strict=True)
    ]


def implementations(x: Arrays, y: Arrays) -> tuple[dict[str, Callable[[], Scores]], list[str]]:
    """By "metric, implementation", and those that are not installed."""
    a, b = (as_images(images) for images in (x, y))
    ways: dict[str, Callable[[], Scores]] = {
        "SSIM, ours": lambda: ssim(a, b).tolist(),
        "SSIM, scikit-image": lambda: scikit_image(x, y),
    }
    absent = [name for name in ("pytorch_msssim", "torchmetrics") if not find_spec(name)]
    # One image at a time for these, as scikit-image has it: whole batches take gigabytes.
    pairs = list(zip(a.split(1), b.split(1), strict=True))
    if "pytorch_msssim" not in absent:
        import pytorch_msssim

        ways["SSIM, pytorch-msssim"] = lambda: [
            float(pytorch_msssim.ssim(p, q, data_range=1.0)) for p, q in pairs
        ]
    if "torchmetrics" not in absent:
        from torchmetrics.functional.image import structural_similarity_index_measure

        ways["SSIM, torchmetrics"] = lambda: [
            float(structural_similarity_index_measure(p, q, data_range=1.0)) for p, q in pairs
        ]
    ways["MS-SSIM, ours"] = lambda: ms_ssim(a, b).tolist()
    if "pytorch_msssim" not in absent:
        ways["MS-SSIM, pytorch-msssim"] = lambda: [
            float(pytorch_msssim.ms_ssim(p, q, data_range=1.0)) for p, q in pairs
        ]
    ways["all metrics, compare_images"] = lambda: compare_images(x, y).images["ssim_full"]
    return ways, absent


def seconds_and_scores(
    ways: dict[str, Callable[[], Scores]], rounds: int
) -> tuple[dict[str, float], dict[str, float], dict[str, Scores]]:
    """Wall clock, processor time, and what came out."""
    scores = {name: list(way()) for name, way in ways.items()}  # warms up, too
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    order, shuffle = list(ways), random.Random(0).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            started, used = time.perf_counter(), time.process_time()
            ways[name]()
            wall[name].append(time.perf_counter() - started)
            processor[name].append(time.process_time() - used)
    medians = (
        {name: statistics.median(times) for name, times in taken.items()}
        for taken in (wall, processor)
    )
    first, second = medians
    return first, second, scores


def peak_memory(images: int, side: int, dtype: str) -> dict[str, float]:
    """In GiB, of a new process that compares as many images: its peak (with Python and torch), what
    it had before there were images, and what the images themselves take.
    """
    words = [sys.executable, __file__, f"--memory-child={images},{side},{dtype}"]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def peak_gib() -> float:
    """Of this process since it started."""
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` of a new process begins with what its parent had
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**20
    import resource

    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def memory_child(images: int, side: int, dtype: str) -> None:
    compare_images(np.eye(16, dtype=np.float32)[..., None], np.eye(16, dtype=np.float32)[..., None])
    before = peak_gib()
    rng = np.random.default_rng(0)
    tile = rng.random((side // 16 + 1, side // 16 + 1, 3), dtype=np.float32)
    x, y = (np.empty((images, side, side, 3), dtype) for _ in range(2))
    top = 255 if dtype == "uint8" else 1
    for index in range(images):
        picture = np.kron(np.roll(tile, index, axis=0), np.ones((16, 16, 1), np.float32))
        x[index] = picture[:side, :side] * top
        y[index] = picture[:side, :side] * (0.98 * top)
    report = compare_images(x, y, preset="cache")
    assert len(report.images["ssim"]) == images
    print(json.dumps({"peak": peak_gib(), "before": before, "images": 2 * x.nbytes / 2**30}))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=8, help="pictures to time (8)")
    parser.add_argument("--side", type=int, default=1024, help="pixels (1024)")
    parser.add_argument("--rounds", type=int, default=7, help="timed calls of each (7)")
    parser.add_argument("--memory-images", type=int, default=64, help="0: leave that out (64)")
    parser.add_argument("--memory-child", help=argparse.SUPPRESS)
    words = parser.parse_args(argv)
    if words.memory_child:
        images, side, dtype = words.memory_child.split(",")
        memory_child(int(images), int(side), dtype)
        return 0
    wrong = _speed(words)
    if words.memory_images:
        wrong += _memory(words)
    for line in wrong:
        print(f"\nNOT AS PROMISED: {line}")
    return 1 if wrong else 0


def _speed(words: argparse.Namespace) -> list[str]:
    x, y = pictures(words.images, words.side)
    ways, absent = implementations(x, y)
    wall, seconds, scores = seconds_and_scores(ways, words.rounds)
    libraries = ("scikit-image", "pytorch-msssim", "torchmetrics")
    versions = ", ".join(f"{name} {installed_version(name)}" for name in libraries)
    print(
        f"{words.images} images of {words.side} × {words.side}, {words.rounds} rounds; torch "
        f"{torch.__version__}, {versions}; {cpu_name()}, {torch.get_num_threads()} thread(s)\n"
    )
    # Each against the implementation that the rest of the world measures by.
    exact = {
        "SSIM": scikit_image(x.astype(np.float64), y.astype(np.float64)),
        "MS-SSIM": scores.get("MS-SSIM, pytorch-msssim"),
    }
    print(
        "| metric, implementation | ms of wall clock an image | ms of processor time | times ours "
        "| differs by at most |\n|---|---|---|---|---|"
    )
    wrong = []
    for name, took in seconds.items():
        metric = name.partition(",")[0]
        wanted = exact.get(metric)
        gap = "–"
        if wanted is not None:
            apart = max(abs(a - b) for a, b in zip(scores[name], wanted, strict=True))
            gap = f"{apart:.1e}"
            if name.endswith("ours"):
                allowed = SSIM_TOLERANCE if metric == "SSIM" else MS_SSIM_TOLERANCE
                if not apart <= allowed:
                    wrong.append(f"{metric} differs by {gap}, more than {allowed:g}")
        own = seconds.get(f"{metric}, ours")
        times = "–" if own is None else f"{took / own:.1f}"
        times_ms = (f"{1e3 * t / words.images:.0f}" for t in (wall[name], took))
        print(f"| {name} | {' | '.join(times_ms)} | {times} | {gap} |")
    print(
        "\nDifferences of SSIM are from scikit-image in float64, those of MS-SSIM from "
        "pytorch-msssim." + (f" Not installed: {', '.join(absent)}." if absent else "")
    )
    faster = seconds["SSIM, scikit-image"] / seconds["SSIM, ours"]
    if not faster >= LEAST_SPEEDUP:
        wrong.append(f"SSIM is {faster:.1f} times as fast as scikit-image's, not {LEAST_SPEEDUP:g}")
    return wrong


def _memory(words: argparse.Namespace) -> list[str]:
    print(
        "\n| `compare_images` of | images themselves | all it needs | whole process at its peak |\n"
        "|---|---|---|---|"
    )
    wrong = []
    for dtype in ("uint8", "float32"):
        found = peak_memory(words.memory_images, words.side, dtype)
        what = f"2 × {words.memory_images} images of {words.side} × {words.side}, {dtype}"
        needs = found["peak"] - found["before"]
        told = (f"{gib:.2f} GiB" for gib in (found["images"], needs, found["peak"]))
        print(f"| {what} | {' | '.join(told)} |")
        if not needs <= MOST_GIB:
            wrong.append(f"{what} needed {needs:.2f} GiB, more than {MOST_GIB:g}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
