"""What type checkers tell users of the API: read by mypy in ``make lint`` and never run.

An ignored error that is none any more is an error there, so each one below is really told.
"""

from typing_extensions import assert_type

import pytest_diffspeed as api


def speedup() -> None:
    result = api.measure_speedup(lambda: 1, lambda: 2, min_ratio=1.5, method="bet")
    assert_type(result, api.SpeedupResult)
    assert_type(result.verdict, api.VerdictKind)
    assert_type(result.ratio, float)
    api.measure_speedup(lambda: 1, lambda: 2, min_ratio="2")  # type: ignore[arg-type]
    api.measure_speedup(lambda: 1, lambda: 2, min_ration=2)  # type: ignore[call-arg]
    api.measure_speedup(lambda: 1, lambda: 2, min_ratio=2, method="sgn")  # type: ignore[arg-type]
    api.measure_speedup(lambda x: 1, lambda: 2, min_ratio=2)  # type: ignore[misc,arg-type]
    assert_type(api.SpeedupGate(1.5).update(2.0, 1.0), api.Decision | None)


def outputs(images: list[object]) -> None:
    report = api.compare_images(images, images, preset="lossless", psnr_worst=30)
    assert_type(report, api.SimilarityReport)
    if report.verdict == "PAS":  # type: ignore[comparison-overlap]
        pass
    api.compare_images(images, images, preset="losless")  # type: ignore[arg-type]
    assert_type(api.compare_videos(images, images), api.SimilarityReport)
    assert_type(api.compare_audio(images, images), api.SimilarityReport)


def counts() -> None:
    report = api.count_syncs(print, scope="call", steps=2)
    assert_type(report.sites, tuple[api.SyncSite, ...])
    api.count_syncs(print, scope="cal")  # type: ignore[arg-type]
    breaks = api.find_graph_breaks(print, 1)
    assert_type(breaks.breaks, tuple[api.GraphBreak, ...])
    assert_type(api.count_gpu_cost("demo", gpu="h100"), api.GpuCost)


def stacks() -> None:
    pipeline = api.load_pipeline("demo", device="cpu")
    applied = api.apply_stack(pipeline, "bf16", call=print)
    assert_type(applied.proofs, tuple[api.Proof, ...])
    assert_type(applied.stack, api.Stack)
    api.undo_stack(pipeline, applied.stack)
    api.apply_stack(pipeline, ["bf16"], call=print)  # type: ignore[arg-type]
