"""Sessions as journals tell them, made up for tests and benchmarks of reports."""

from __future__ import annotations

import math
import random

from PIL import Image

from pytest_diffspeed.records.series import Change, Drift, Point, Series

ENVIRONMENT = {
    "device": "AMD EPYC, 2 cores",
    "threads": 1,
    "python": "3.11.7",
    "torch": "2.14.1",
    "diffusers": "0.42.1",
}


def about(**changes):
    return {
        "kind": "session",
        "session": "e3b016ec8b174e70978743da48c4e7e6",
        "at": "2026-11-25T15:50:22+00:00",
        "version": "0.1.0",
        "commit": "569b7a1c0ffee",
        "committed_at": "2026-11-25T14:00:00+00:00",
        "subject": "Fuse the projections",
        "dirty": True,
        "environment": ENVIRONMENT,
        "device": {"kind": "cpu", "index": None, "name": "AMD EPYC, 2 cores"},
        "pipeline": "demo",
        "options": {"steps": 20, "budget_s": 20.0, "prompts": []},
        "machine": "1bf0c90d048a20b9",
        **changes,
    }


def identity(test, stack, claim):
    return {"test": test, "stack": stack, "claim": claim}


def gate(test, stack, claim, verdict, **figures):
    counted = not claim.startswith(("min_speedup", "max_slowdown", "max_compile_time"))
    return {
        "kind": "gate",
        **identity(test, stack, claim),
        "gate": claim.partition(" ")[0],
        "verdict": verdict,
        "reason": figures.pop("reason", f"this is why it is {verdict}"),
        "evidence": "counted" if counted else "measured",
        "blocking": verdict in ("FAIL", "INCONCLUSIVE"),
        "figures": figures,
    }


def told(test, outcome="passed", stack=None, images=()):
    return {
        "kind": "test",
        "test": test,
        "outcome": outcome,
        "stack": stack,
        "file": test.partition("::")[0],
        "line": 7,
        "duration_s": 1.5,
        "images": list(images),
    }


def ratio(test, stack, verdict, *, need=1.1, true=1.3, pairs=9, over="fp32", seed=0, end=True):
    """The lines of a gate on a ratio; one pair in ten is dropped."""
    claim = f"min_speedup over {over} per call"
    noise = random.Random(f"{seed} {test!a}")
    lines = [
        {
            "kind": "gate-start",
            **identity(test, stack, claim),
            "seed": 1,
            "over": over,
            "need": need,
        }
    ]
    ratios = []
    for index in range(pairs):
        found = true * math.exp(noise.gauss(0, 0.04))
        dropped = "another process was busy" if index % 10 == 2 else None
        ratios += [] if dropped else [found]
        lines.append(
            {
                "kind": "pair" if dropped is None else "dropped-pair",
                **identity(test, stack, claim),
                "index": index,
                "baseline_s": found * 0.4,
                "candidate_s": 0.4,
                "candidate_first": index % 3 == 0,
                "dropped": dropped,
            }
        )
    if end:
        middle = sorted(ratios)[len(ratios) // 2]
        figures = {
            "over": over,
            "unit": "call",
            "need": need,
            "ratio": middle,
            "low": middle * 0.95,
            "high": middle * 1.05,
            "coverage": 0.9,
            "alpha": 0.05,
            "pairs": len(ratios),
            "dropped_pairs": pairs - len(ratios),
            "instances": 1,
            "noise": 0.04,
            "baseline_s": 0.4 * middle,
            "candidate_s": 0.4,
            "candidate_first_call_s": 61.0,
        }
        lines.append(gate(test, stack, claim, verdict, **figures))
    return lines


SYNC = {
    "kind": "value_read",
    "op": "aten._local_scalar_dense",
    "file": "/venv/lib/site-packages/diffusers/schedulers/scheduling_ddim.py",
    "line": 282,
    "function": "step",
    "source": "alpha_prod_t = self.alphas_cumprod[timestep]",
    "count": 6,
    "first_step": 1,
    "steady_steps": 5,
    "outside": 0,
    "allowed": None,
}
BREAK = {
    "reason": "Dynamo does not know how to trace builtin operator `print`",
    "file": "/home/me/project/pipelines/faulty.py",
    "line": 10,
    "source": 'print("embedding the time")',
    "function": "get_time_embed",
    "remedy": "take the output out of the compiled part",
    "runs": 2,
    "skipped": None,
    "disabled": False,
}


def structure(test, stack, verdict, *, breaks=(), syncs=()):
    return [
        gate(
            test,
            stack,
            "no_graph_breaks",
            verdict if breaks else "PASS",
            found=f"unet: {1 + len(breaks)} graphs",
            breaks=len(breaks),
            components={"unet": {"graphs": 1 + len(breaks), "ops": 282, "breaks": list(breaks)}},
        ),
        gate(
            test,
            stack,
            "no_gpu_syncs in scheduler.step",
            verdict if syncs else "PASS",
            scope="scheduler.step",
            first_step=len(syncs),
            per_step=[len(syncs)] * 3,
            sites=list(syncs),
            counted_on="simulated GPU, torch 2.14.1",
        ),
    ]


def images(test, stack, verdict, pictures=(), prompts=("a fox", "a cake")):
    many = len(pictures) or 2
    cases = [{"prompt": prompts[i % len(prompts)], "seed": i} for i in range(many)]
    return gate(
        test,
        stack,
        "image_similarity",
        verdict,
        preset="lossless",
        metrics={"psnr": [34.1, 20.3], "ssim": [0.981, 0.94], "rank1": [1.0, 1.0]},
        limits={"psnr_mean": 42.0, "psnr_worst": 19.0, "ssim_mean": 0.99},
        misses=[{"limit": "psnr_mean", "found": 34.1, "bound": 42.0, "image": 0}],
        images={"psnr": [30.0] * many, "ssim": [0.95] * many},
        cases=cases,
        order=list(range(many)),
        pictures=list(pictures),
    )


def strips(folder, many, size=(576, 192), seed=0):
    """Write that many PNGs that compress badly; returns their names."""
    noise = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for index in range(many):
        name = f"{index:03d}.png"
        Image.frombytes("RGB", size, noise.randbytes(size[0] * size[1] * 3)).save(folder / name)
        names.append(f"{folder.name}/{name}")
    return names


def mixed():
    """One test of each kind: what most tests of the page look at."""
    slow, broken, drawn = (
        "tests/test_a.py::test_slow[bf16]",
        "tests/test_a.py::test_b",
        "test_c.py::t",
    )
    fine, dead = "tests/test_d.py::test_fine[compile]", "tests/test_d.py::test_dead"
    return [
        about(),
        *ratio(fine, "compile", "PASS"),
        *structure(fine, "compile", "PASS"),
        told(fine, stack="compile"),
        *ratio(slow, "bf16", "FAIL", need=1.8),
        gate(slow, "bf16", "max_memory over fp32", "NOT_APPLICABLE", reason="it takes a GPU"),
        told(slow, "failed", "bf16"),
        *structure(broken, "channels_last", "FAIL", breaks=[BREAK], syncs=[SYNC]),
        told(broken, "failed", "channels_last"),
        images(drawn, "bf16", "FAIL"),
        gate(
            drawn, "bf16", "max_compile_time", "PASS", first_call_s=61.2, allowed_s=90.0,
            found="first call 61.2 s",
        ),
        told(drawn, "failed", "bf16"),
        {"kind": "not-run", "test": dead, "claim": "no_gpu_syncs in scheduler.step"},
        told(dead, "failed"),
    ]  # fmt: skip


def ladder():
    def over(found, verdict="PASS"):
        return {"ratio": found, "low": found * 0.96, "high": found * 1.04, "pairs": 12,
                "verdict": verdict}  # fmt: skip

    row = {"kind": "ladder", "status": "measured", "call_s": 0.387, "first_call_s": 83.4,
           "break_even_images": 447.2, "proofs": {"bf16": "all weights are bfloat16"}}  # fmt: skip
    return [
        about(),
        {**row, "stack": "bf16", "over_baseline": over(1.242)},
        {
            **row,
            "stack": "bf16+channels_last+compile",
            "over_baseline": over(1.602),
            "over_previous": over(1.42),
            "peak_bytes": 3 * 2**30,
        },
        {
            **row,
            "stack": "fp16",
            "over_baseline": over(0.073),
            "break_even_images": None,
            "known_slow": ["fp16 is slow on this processor"],
        },
        {**row, "stack": "fused_qkv", "over_baseline": over(0.989, "INCONCLUSIVE")},
        {"kind": "ladder", "stack": "tf32", "reason": "TF32 is a mode of NVIDIA's tensor cores"},
        told("pytest_diffspeed/ladder/test_ladder.py::test_step[bf16]"),
    ]


def series(points=40, jump=20, **changes):
    noise = random.Random(1)
    levels = [1.5 if index < jump else 1.2 for index in range(points)]
    made = [
        Point(
            at=f"2026-{1 + index // 28:02d}-{1 + index % 28:02d}T12:00:00+00:00",
            commit=f"{index:040x}"[::-1],
            subject=f"Change number {index}",
            value=(value := level * math.exp(noise.gauss(0, 0.02))),
            low=value * 0.96,
            high=value * 1.04,
            verdict="PASS" if level > 1.3 else "FAIL",
        )
        for index, level in enumerate(levels)
    ]
    jumps = []
    if jump < points:
        jumps.append(Change(jump, 1.5, 1.2, made[jump - 1].commit, made[jump].commit))
    content = {
        "test": "tests/test_a.py::test_slow[bf16]",
        "stack": "bf16",
        "claim": "min_speedup over fp32 per call",
        "figure": "ratio",
        "better": "higher",
        "machine": "1bf0c90d048a20b9",
        "points": made,
        "changes": jumps,
        "drift": Drift(1.5, 1.2, True, "1.2 now, 1.5 at the beginning: more than its noise"),
        **changes,
    }
    return Series(**content)


def many(tests):
    """A session of that many tests with four gates each, one test in ten red."""
    lines = [about()]
    for number in range(tests):
        test = f"tests/pipelines/test_{number % 25}.py::test_case_{number}[bf16+compile]"
        red = "FAIL" if number % 10 == 0 else "PASS"
        lines += ratio(test, "bf16+compile", red, need=1.8 if red == "FAIL" else 1.1, pairs=20)
        found = {"breaks": [BREAK], "syncs": [SYNC] * 4} if red == "FAIL" else {}
        lines += structure(test, "bf16+compile", red, **found)
        lines.append(images(test, "bf16+compile", red))
        lines.append(told(test, "failed" if red == "FAIL" else "passed", "bf16+compile"))
    return lines
