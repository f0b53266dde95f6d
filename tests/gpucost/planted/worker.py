"""Counts plants in one process, since a process with a fake GPU is good for nothing else.

python worker.py OUT.json [eager | compiled | small | eager:PLANT | …]

Without words all plants in both modes; "small" are the programs of small.py.
"""

import json
import resource
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")  # those of torchao and diffusers as they are imported

import block  # noqa: E402
import small  # noqa: E402
import torch  # noqa: E402

from pytest_diffspeed.gpucost import (  # noqa: E402
    FakeGpu,
    GpuCostError,
    count_compiled,
    count_eager,
    named_gpu,
)

MODES = {"eager": count_eager, "compiled": count_compiled}
# What `torch.compile` of int8 by torchao sets.
INT8 = {"force_fuse_int_mm_with_mul": True}


def count(mode, name, fake):
    module, args = block.make(fake)
    with fake.tensors():
        block.PLANTS[name](module)
    options = {"inductor_options": INT8} if mode == "compiled" and name.startswith("int8") else {}
    cost, answer = MODES[mode](module, args, fake=fake, **options)
    assert answer.shape == (2, block.WIDTH, block.SIDE, block.SIDE), answer.shape
    assert answer.device.type == "cuda"
    return cost


def main(out, *wanted):
    fake = FakeGpu(named_gpu("a100")).install()
    found = {}
    rows = []
    for word in wanted or MODES:
        names = small.CASES if word == "small" else block.PLANTS
        rows += [word] if ":" in word else [f"{word}:{name}" for name in names]
    for row in rows:
        start = time.process_time()
        mode, name = row.split(":")
        if mode == "small":
            found[row] = small.CASES[name](fake)
            continue
        try:
            found[row] = count(mode, name, fake).to_json()
        except GpuCostError as error:
            found[row] = {"refused": str(error), "kind": type(error).__name__}
        print(f"{row:40} {time.process_time() - start:6.2f} s", flush=True)
    used = resource.getrusage(resource.RUSAGE_SELF)
    found["process"] = {
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
        "torch": torch.__version__,
    }
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
