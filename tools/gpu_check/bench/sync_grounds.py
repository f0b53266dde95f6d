"""What a comparison of syncs rests on: the command, the profiler, compiled code, pinned memory."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import sync_pipelines
from checks import NoMeaning, Part
from profiler_traces import profiled

STEPS = 4


def command_expected(part: Part) -> str:
    return "exit status 0" if part.device == "cuda" else "a refusal: there is no GPU"


def command(part: Part) -> tuple[bool, str]:
    from pytest_diffspeed.commands import cli

    out, err = io.StringIO(), io.StringIO()
    words = ["compare", "syncs", "random:sdxl-tiny", "--steps=2"]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main(words)
    lines = (out.getvalue() + err.getvalue()).strip().splitlines() or ["nothing said"]
    text = f"exit status {status}: {lines[-1]}"
    if part.device == "cuda":
        return status == 0, text
    return status == 2 and "nothing was compared" in text, text


def whole_call(part: Part, check: Any) -> None:
    """CUDA's own calls beside the count of the same call: what both layers of ours would miss."""
    if part.device != "cuda":
        raise NoMeaning("without a GPU no call of CUDA waits, so a profiler sees none")
    import torch

    from pytest_diffspeed.common.quiet import third_party
    from pytest_diffspeed.syncs.count import count_syncs

    pipeline = sync_pipelines.make(sync_pipelines.FIRST["random:sdxl-tiny"])
    report = count_syncs(pipeline, scope="call", device="cuda:0", steps=STEPS)
    pipeline.to("cuda:0")
    call = {"prompt": "a red apple", "num_inference_steps": STEPS, "output_type": "pt"}
    with third_party():
        pipeline(**call)
        torch.cuda.synchronize()
        with (
            profiled(part.work / "call.json", "cuda") as recording,
            torch.profiler.record_function("whole call"),
        ):
            pipeline(**call)
    (label,) = recording.trace.named("whole call")
    work = recording.trace.work_of(label)
    waits = sum(work.waits.values())
    check.expect(
        waits == report.total,
        f"profiler {dict(work.waits)}; counted {report.total}, {report.may_block} may block",
        calls=dict(work.calls),
        copies=work.copies,
        sites=[str(site) for site in report.sites],
    )


def kinds(told: Sequence[Any], check: Any) -> None:
    """Of the real side's lines: a warning of CUDA does not say which op it is about."""
    unknown = [site for site in told if site.kind == "unclassified"]
    # These go through lists in C++, where no dispatch mode sees the reads.
    below = [site for site in unknown if "torch.tensor(" in site.source or "tolist" in site.source]
    text = f"{len(unknown)} of {len(told)} lines have no kind, {len(below)} of these by lists"
    sites = [str(site) for site in unknown]
    check.expect(told and len(unknown) == len(below), text, unknown=sites)


def compiled(part: Part, check: Any) -> None:
    """Inductor calls what it has no kernel for through ``torch.ops``, past Python's warnings."""
    if part.device != "cuda":
        raise NoMeaning("compiled code does not run on a simulated GPU")
    import torch

    from pytest_diffspeed.accelerators.cuda_syncs import record_cuda
    from pytest_diffspeed.common.quiet import third_party

    def inverse(x: Any) -> Any:
        return torch.linalg.inv(x) + 1

    x = torch.eye(3, device="cuda:0")
    found = {}
    with third_party(), torch.no_grad():
        for name, function in (("eager", inverse), ("compiled", torch.compile(inverse))):
            for _ in range(2):
                function(x)
            with record_cuda(watch_ops=name == "eager") as log:
                function(x)
            found[name] = [f"{event.kind} by {event.op} at {event.site}" for event in log.events]
    told = "; ".join(f"{name}: {len(syncs)}" for name, syncs in found.items())
    check.expect([len(one) for one in found.values()] == [1, 1], told, **found)


def pinned(part: Part, check: Any) -> None:
    """Torch asks *the* accelerator of a process to pin, and a spare device with a name comes first.

    The spare device is named when the simulated GPU is first opened beside a real one, for good.
    """
    if part.device != "cuda":
        raise NoMeaning("memory is pinned for a GPU, and there is none")
    import torch

    asked: dict[str, Callable[[], object]] = {
        "empty(pin_memory=True)": lambda: torch.empty(4, pin_memory=True).is_pinned(),
        ".pin_memory()": lambda: torch.ones(4).pin_memory().is_pinned(),
        "to('cpu', non_blocking=True)": lambda: torch.ones(4, device="cuda:0").to(
            "cpu", non_blocking=True
        ),
        "current_accelerator()": torch.accelerator.current_accelerator,
    }
    found = {}
    for name, ask in asked.items():
        try:
            found[name] = str(ask())
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"[:300]
    text = "; ".join(f"{name}: {value[:40]}" for name, value in found.items())
    check.record(text, **{"asked": found})
