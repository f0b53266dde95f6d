"""A session with each kind of end that a test and a gate can have, small enough to read whole.

What every report makes of it stands in ``whole/``: sentences of reports are asserted there.
"""

from report_sessions import BREAK, SYNC, about, gate, identity, told

SHOWN_ABOVE = ("tests/test_fast.py::test_body[bf16]",)
"""Tests whose traceback pytest printed."""


def name(test, stack="bf16"):
    return f"tests/test_fast.py::{test}[{stack}]"


def cause(kind, found, next_step, place=None, source=None):
    every = {"kind": kind, "found": found, "next_step": next_step, "place": place, "source": source}
    return {part: said for part, said in every.items() if said is not None}


def red(record, because):
    return {**record, "blocking": record["verdict"] == "FAIL", "cause": because}


def ratio(test, verdict, because, *, low, middle, high, need, **more):
    """A gate on a ratio with two of its pairs, and one that does not count."""
    claim, what = "min_speedup over fp32 per call", identity(name(test), "bf16", "")
    what["claim"] = claim
    pairs = [
        {"kind": "pair", "baseline_s": middle * 0.4, "candidate_s": 0.4},
        {"kind": "dropped-pair", "baseline_s": 0.9, "candidate_s": 0.4},
        {"kind": "pair", "baseline_s": middle * 0.42, "candidate_s": 0.42},
    ]
    found = {
        **{"over": "fp32", "unit": "call", "need": need, "ratio": middle, "low": low, "high": high},
        **{"pairs": 6, "dropped_pairs": 1, "instances": 1, "noise": 0.031, "noise_floor": 0.028},
        **{"noise_floor_pairs": 20, "coverage": 0.9, "alpha": 0.05},
        **{"baseline_s": middle * 0.4, "candidate_s": 0.4, "candidate_first_call_s": 61.0, **more},
    }
    record = gate(name(test), "bf16", claim, verdict, **found)
    return [
        {"kind": "gate-start", **what, "seed": 1, "over": "fp32", "need": need},
        *(
            {
                **pair,
                **what,
                "index": index,
                "candidate_first": index % 2 == 1,
                "dropped": None if pair["kind"] == "pair" else "another process was busy",
            }
            for index, pair in enumerate(pairs)
        ),
        {**record, "blocking": False} if because is None else red(record, because),
    ]


SPEED = cause("SPEED", "1.11× [1.04, 1.19] over fp32, needs 3×; 6 pairs", "ask for less")
UNDECIDED = cause(
    "NOT DECIDED",
    "1.09× [0.98, 1.21] over fp32, needs 1.1×; 6 pairs",
    "--diffspeed-budget=90 can be expected to decide it",
)
SYNCS = red(
    gate(
        name("test_item"),
        "bf16",
        "no_gpu_syncs in scheduler.step",
        "FAIL",
        reason="syncs in scheduler.step: up to 1 in a steady step, 0 allowed",
        found="1 sync in the first step, at most 1 in 5 steady ones, simulated GPU, torch 2.14.1",
        scope="scheduler.step",
        first_step=1,
        per_step=[1, 1, 1, 1, 1],
        sites=[SYNC],
        counted_on="simulated GPU, torch 2.14.1",
    ),
    cause(
        "GPU SYNC",
        "1 at first, then up to 1 a step; 0 allowed",
        "take another scheduler (Euler's never waits)",
        "diffusers/schedulers/scheduling_ddim.py:282",
        "alpha_prod_t = self.alphas_cumprod[timestep]",
    ),
)
BREAKS = red(
    gate(
        name("test_print", "compile"),
        "compile",
        "no_graph_breaks",
        "FAIL",
        reason="1 graph break, allowed: 0",
        found="unet: 2 graphs, 1 break, 282 ops",
        breaks=1,
        components={"unet": {"graphs": 2, "ops": 282, "breaks": [BREAK]}},
    ),
    cause("GRAPH BREAK", BREAK["reason"], BREAK["remedy"], "faulty.py:10", BREAK["source"]),
)
IMAGES = red(
    gate(
        name("test_images"),
        "bf16",
        "image_similarity",
        "FAIL",
        reason="psnr_mean is 34.1, need ≥ 42 (worst: image 1 (prompt 'a fox', seed 0))",
        found="2 images: PSNR 34.1 (30.3) dB, SSIM 0.9810 (0.9400); floor: identical",
        preset="lossless",
        metrics={"psnr": [34.1, 30.3], "ssim": [0.981, 0.94]},
        limits={"psnr_mean": 42.0},
        misses=[{"limit": "psnr_mean", "found": 34.1, "bound": 42.0, "image": 0}],
        images={"psnr": [30.3, 37.9], "ssim": [0.94, 1.0]},
        cases=[{"prompt": "a fox", "seed": 0}, {"prompt": "a cake", "seed": 1}],
        order=[0, 1],
        skipped={"lpips_mean": "lpips is not installed"},
    ),
    cause(
        "IMAGES",
        "mean PSNR 34.1 dB, needs 42 dB ('lossless'); worst: image 1 (prompt 'a fox', seed 0)",
        "look at the pictures, worst first; preset 'loose' would pass",
    ),
)
UNCHECKED = {
    "kind": "gate-error",
    **identity(name("test_unchecked"), "bf16", "no_recompiles"),
    "error": "nothing of the pipeline is compiled; use a stack that compiles",
    "cause": cause("NOT CHECKED", "nothing of the pipeline is compiled", "use another stack"),
}
PROOF = cause(
    "NOT EFFECTIVE",
    "parameters of unet are not torch.bfloat16",
    "take the cast out",
    "fast.py:34",
    "self.float()  # safer",
)
BODY = cause("TEST BODY", "AssertionError: no", "see its traceback", "tests/test_fast.py:58", "no")


def whole_session():
    """Its records, as a journal has them."""
    broken, body, later = name("test_proof"), name("test_body"), name("test_later")
    fine = name("test_fine")
    return [
        about(base={"rev": "main", "commit": "fedcba9876543210"}),
        SYNCS,
        told(name("test_item"), "failed", "bf16"),
        BREAKS,
        told(name("test_print", "compile"), "failed", "compile"),
        IMAGES,
        told(name("test_images"), "failed", "bf16"),
        *ratio("test_fast", "FAIL", SPEED, low=1.04, middle=1.11, high=1.19, need=3.0),
        told(name("test_fast"), "failed", "bf16"),
        *ratio("test_noisy", "INCONCLUSIVE", UNDECIDED, low=0.98, middle=1.09, high=1.21, need=1.1),
        told(name("test_noisy"), "passed", "bf16"),
        UNCHECKED,
        told(name("test_unchecked"), "failed", "bf16"),
        not_run(broken, "set-up failed: bf16: found float32"),
        {**told(broken, "failed"), "error": "set-up failed: bf16: found float32", "cause": PROOF},
        not_run(body, "the body failed: AssertionError: no"),
        {**told(body, "failed"), "error": "the body failed: AssertionError: no", "cause": BODY},
        red(gate(later, "bf16", "max_memory over fp32", "FAIL", found="9 MiB"), MEMORY),
        told(later, "skipped", "bf16"),
        gate(fine, "bf16", "no_graph_breaks", "PASS", found="unet: 1 graph, 0 breaks", breaks=0),
        gate(
            *(fine, "bf16", "no_gpu_syncs in scheduler.step", "PASS"),
            reason="syncs in scheduler.step: 0 syncs in the first step",
            found="0 syncs in the first step",
            **{"scope": "scheduler.step", "first_step": 0, "per_step": [0, 0], "sites": []},
        ),
        *ratio("test_fine", "PASS", None, low=1.55, middle=1.61, high=1.67, need=1.1),
        gate(fine, "bf16", "max_memory over fp32", "NOT_APPLICABLE", reason="it takes a GPU"),
        told(fine, "passed", "bf16"),
    ]


MEMORY = cause("MEMORY", "90% of fp32's 10 MiB, 80% allowed", "free what is alive at the peak")


def not_run(test, reason):
    claim = "no_gpu_syncs in scheduler.step"
    return {"kind": "not-run", "test": test, "claim": claim, "reason": reason}


def green_session():
    """The part of it that did not fail."""
    fine = (name("test_fine"), name("test_noisy"), name("test_later"))
    return [line for line in whole_session() if line.get("test", fine[0]) in fine]
