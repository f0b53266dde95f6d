"""Performance assertions on diffusion-model inference.

The functions below work without pytest.  They are resolved on first use, so that importing this
package (which pytest does in every session, through its entry point) imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arms.count_gpu_cost import count_gpu_cost as count_gpu_cost
    from .arms.gpu_cost.result import GpuCost as GpuCost
    from .compilation.probe import find_graph_breaks as find_graph_breaks
    from .compilation.report import GraphBreak as GraphBreak
    from .compilation.report import GraphBreakReport as GraphBreakReport
    from .similarity.audio import compare_audio as compare_audio
    from .similarity.compare import compare_images as compare_images
    from .similarity.report import SimilarityReport as SimilarityReport
    from .similarity.video import compare_videos as compare_videos
    from .syncs.count import count_syncs as count_syncs
    from .syncs.report import SyncReport as SyncReport
    from .syncs.report import SyncSite as SyncSite
    from .techniques.apply import apply_stack as apply_stack
    from .timing.comparison import SpeedupResult as SpeedupResult
    from .timing.speedup import measure_speedup as measure_speedup

__version__ = "0.1.0"

_PUBLIC = {
    "GpuCost": "arms.gpu_cost.result",
    "GraphBreak": "compilation.report",
    "GraphBreakReport": "compilation.report",
    "SimilarityReport": "similarity.report",
    "SpeedupResult": "timing.comparison",
    "apply_stack": "techniques.apply",
    "compare_audio": "similarity.audio",
    "compare_images": "similarity.compare",
    "compare_videos": "similarity.video",
    "count_gpu_cost": "arms.count_gpu_cost",
    "find_graph_breaks": "compilation.probe",
    "SyncReport": "syncs.report",
    "SyncSite": "syncs.report",
    "count_syncs": "syncs.count",
    "measure_speedup": "timing.speedup",
}

__all__ = [
    "GpuCost",
    "GraphBreak",
    "GraphBreakReport",
    "SimilarityReport",
    "SpeedupResult",
    "SyncReport",
    "SyncSite",
    "__version__",
    "apply_stack",
    "compare_audio",
    "compare_images",
    "compare_videos",
    "count_gpu_cost",
    "count_syncs",
    "find_graph_breaks",
    "measure_speedup",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
