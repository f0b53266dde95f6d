"""How far a GPU cost that was calculated from two and three blocks is from that of more blocks.

    python benchmarks/gpu_cost_depths.py [--compiled SOURCE …] [--write]

The denoisers of SDXL and Flux at full width, with runs of equal blocks cut to two, three, four and
five of them, counted in a process each, without a GPU and without weights.  ``--write`` renews
docs/gpu_cost_depths.md.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/gpu_cost_depths.md"
MODELS = ("random:sdxl-base", "random:flux-dev")
DEPTHS = (2, 3, 4, 5)
FIGURES = ("kernels", "bytes", "flops")


def count(source, compiled):
    """In this process: the figures of one denoiser call by the number of blocks; JSON out."""
    import torch

    from pytest_diffspeed.arms.gpu_cost import depth
    from pytest_diffspeed.arms.gpu_cost.fake_components import FakeComponents
    from pytest_diffspeed.arms.gpu_cost.weightless import build
    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.gpucost import FakeGpu, count_compiled, count_eager, named_gpu
    from pytest_diffspeed.pipelines.call import PipelineCall
    from pytest_diffspeed.pipelines.components import denoiser
    from pytest_diffspeed.pipelines.sources import parse_source
    from pytest_diffspeed.techniques.catalog.compile import GUIDE_FLAGS

    parsed = parse_source(source)
    pipeline = build(parsed)
    fake = FakeGpu(named_gpu("a100")).install()
    components = FakeComponents(pipeline, fake)
    module = denoiser(pipeline)
    with components.on_the_gpu():
        torch.nn.Module.to(module, dtype=torch.bfloat16)
    found = {}

    def counted(entered, args, kwargs):
        def eager():
            return count_eager(entered.function, args, kwargs, fake=fake)

        if entered.module is module and not found:
            groups = depth._groups(module)
            for number in DEPTHS:
                with depth._cut(groups, [number] * len(groups)):
                    cost, _ = (
                        count_compiled(
                            module, args, kwargs, fake=fake, inductor_options=GUIDE_FLAGS
                        )
                        if compiled
                        else eager()
                    )
                figures = cost.figures()
                found[number] = [figures[name] for name in FIGURES]
                print(source, number, found[number], file=sys.stderr, flush=True)
        return eager()

    with components.counted(counted, lambda: 0), third_party():
        call = PipelineCall(pipeline, parsed.defaults(pipeline))
        call(pipeline, steps=1, output="latent")
    print("\n" + json.dumps(found))


def page(rows):
    """The table of all models and modes."""
    lines = [
        "# GPU cost by the number of blocks",
        "",
        f"Counted on {datetime.date.today()} by `make benchmark-gpu-cost-depths`: one call of a",
        "denoiser in bfloat16 at full width on an A100 that is not there, all its runs of equal",
        "blocks cut to so many. In brackets: how far what two and three blocks say is from that.",
        "",
        "| denoiser | blocks of each run | kernels | bytes | FLOPs |",
        "|---|---|---|---|---|",
    ]
    for (source, mode), found in rows.items():
        two, three = found["2"], found["3"]
        for depth, figures in found.items():
            said = [a + (int(depth) - 2) * (b - a) for a, b in zip(two, three, strict=True)]
            cells = [
                f"{value:,} ({100 * (calculated / value - 1):+.2f} %)"
                for value, calculated in zip(figures, said, strict=True)
            ]
            lines.append(f"| {source}, {mode} | {depth} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--compiled", nargs="*", default=(), metavar="SOURCE", help="also compiled: minutes each"
    )
    parser.add_argument("--write", action="store_true", help=f"renew {PAGE.name}")
    parser.add_argument("--count", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.count:
        count(asked.count[0], asked.count[1] == "compiled")
        return
    rows = {}
    for mode, sources in (("eager", MODELS), ("compiled", asked.compiled)):
        for source in sources:
            done = subprocess.run(
                [sys.executable, __file__, "--count", source, mode],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            rows[source, mode] = json.loads(done.stdout.splitlines()[-1])
    print(page(rows))
    if asked.write:
        PAGE.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
