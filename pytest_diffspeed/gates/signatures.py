"""The markers as users write them.

Loaded in every pytest session of an environment that has this package: it imports nothing.
"""

from __future__ import annotations

SIGNATURES = {
    "diffspeed": ("diffspeed(*stacks, pipeline=None): run the test once per stack"),
    "min_speedup": (
        'min_speedup(ratio, over="fp32", alpha=0.05, unit="call", method="sign", stack=None, '
        "device=None): at least `ratio` times as fast as `over`"
    ),
    "max_slowdown": (
        'max_slowdown(percent, over="fp32", alpha=0.05, unit="call", method="sign", '
        "stack=None, device=None): at most `percent` slower than `over`"
    ),
    "no_graph_breaks": (
        "no_graph_breaks(components=None, max_breaks=0, stack=None, device=None): denoiser "
        "and VAE decode compile without graph breaks"
    ),
    "no_recompiles": (
        "no_recompiles(max_recompiles=0, sizes=None, batch_sizes=None, prompts=None, "
        "guidance=None, stack=None, device=None): nothing compiles again after warm-up"
    ),
    "no_gpu_syncs": (
        'no_gpu_syncs(scope="scheduler.step", first_step=0, per_step=0, allow=(), '
        "strict=False, stack=None, device=None): no host syncs"
    ),
    "image_similarity": (
        'image_similarity(preset="lossless", stack=None, device=None, **limits): images like '
        "the fp32 baseline's"
    ),
    "max_memory": ('max_memory(ratio, over="fp32", stack=None, device=None): peak device memory'),
    "max_compile_time": (
        "max_compile_time(seconds, stack=None, device=None): cold start with compilation"
    ),
}
"""Each marker with its arguments, as ``pytest --markers`` shows them."""
