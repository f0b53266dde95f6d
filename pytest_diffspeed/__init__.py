"""Performance assertions on diffusion-model inference.

The functions below work without pytest; what they raise and what they give stands beside them.  All
is resolved on first use, so that importing this package (which pytest does in every session,
through its entry point) imports no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arms.count_gpu_cost import count_gpu_cost as count_gpu_cost
    from .arms.gpu_cost.result import GpuCost as GpuCost
    from .common.errors import DiffspeedError as DiffspeedError
    from .common.errors import IncompatibleError as IncompatibleError
    from .common.errors import MeasurementError as MeasurementError
    from .common.errors import MissingHardwareError as MissingHardwareError
    from .common.errors import NotEffectiveError as NotEffectiveError
    from .common.errors import NotUndoneError as NotUndoneError
    from .common.errors import SourceError as SourceError
    from .common.errors import UnknownStackError as UnknownStackError
    from .common.errors import UsageError as UsageError
    from .common.errors import WrongTypeError as WrongTypeError
    from .compilation.probe import find_graph_breaks as find_graph_breaks
    from .compilation.report import CompileFailedError as CompileFailedError
    from .compilation.report import GraphBreak as GraphBreak
    from .compilation.report import GraphBreakReport as GraphBreakReport
    from .compilation.report import NothingCompiledError as NothingCompiledError
    from .pipelines.load import load_pipeline as load_pipeline
    from .records.verdict import VerdictKind as VerdictKind
    from .similarity.audio import compare_audio as compare_audio
    from .similarity.compare import compare_images as compare_images
    from .similarity.inputs import ImageInputError as ImageInputError
    from .similarity.presets import LimitError as LimitError
    from .similarity.report import SimilarityReport as SimilarityReport
    from .similarity.report import SkippedMetricWarning as SkippedMetricWarning
    from .similarity.video import compare_videos as compare_videos
    from .statistics import Decision as Decision
    from .statistics import SpeedupGate as SpeedupGate
    from .syncs.count import count_syncs as count_syncs
    from .syncs.report import SyncReport as SyncReport
    from .syncs.report import SyncSite as SyncSite
    from .techniques.apply import Applied as Applied
    from .techniques.apply import apply_stack as apply_stack
    from .techniques.stacks import Stack as Stack
    from .techniques.technique import KnownSlowWarning as KnownSlowWarning
    from .techniques.technique import Proof as Proof
    from .techniques.undo import undo_stack as undo_stack
    from .timing.comparison import SpeedupResult as SpeedupResult
    from .timing.speedup import measure_speedup as measure_speedup

__version__ = "0.2.0"

_PUBLIC = {
    "count_gpu_cost": "arms.count_gpu_cost",
    "GpuCost": "arms.gpu_cost.result",
    "DiffspeedError": "common.errors",
    "IncompatibleError": "common.errors",
    "MeasurementError": "common.errors",
    "MissingHardwareError": "common.errors",
    "NotEffectiveError": "common.errors",
    "NotUndoneError": "common.errors",
    "SourceError": "common.errors",
    "UnknownStackError": "common.errors",
    "UsageError": "common.errors",
    "WrongTypeError": "common.errors",
    "find_graph_breaks": "compilation.probe",
    "CompileFailedError": "compilation.report",
    "GraphBreak": "compilation.report",
    "GraphBreakReport": "compilation.report",
    "NothingCompiledError": "compilation.report",
    "load_pipeline": "pipelines.load",
    "VerdictKind": "records.verdict",
    "compare_audio": "similarity.audio",
    "compare_images": "similarity.compare",
    "ImageInputError": "similarity.inputs",
    "LimitError": "similarity.presets",
    "SimilarityReport": "similarity.report",
    "SkippedMetricWarning": "similarity.report",
    "compare_videos": "similarity.video",
    "Decision": "statistics",
    "SpeedupGate": "statistics",
    "count_syncs": "syncs.count",
    "SyncReport": "syncs.report",
    "SyncSite": "syncs.report",
    "Applied": "techniques.apply",
    "apply_stack": "techniques.apply",
    "Stack": "techniques.stacks",
    "KnownSlowWarning": "techniques.technique",
    "Proof": "techniques.technique",
    "undo_stack": "techniques.undo",
    "SpeedupResult": "timing.comparison",
    "measure_speedup": "timing.speedup",
}

__all__ = [
    "Applied",
    "CompileFailedError",
    "Decision",
    "DiffspeedError",
    "GpuCost",
    "GraphBreak",
    "GraphBreakReport",
    "ImageInputError",
    "IncompatibleError",
    "KnownSlowWarning",
    "LimitError",
    "MeasurementError",
    "MissingHardwareError",
    "NotEffectiveError",
    "NotUndoneError",
    "NothingCompiledError",
    "Proof",
    "SimilarityReport",
    "SkippedMetricWarning",
    "SourceError",
    "SpeedupGate",
    "SpeedupResult",
    "Stack",
    "SyncReport",
    "SyncSite",
    "UnknownStackError",
    "UsageError",
    "VerdictKind",
    "WrongTypeError",
    "__version__",
    "apply_stack",
    "compare_audio",
    "compare_images",
    "compare_videos",
    "count_gpu_cost",
    "count_syncs",
    "find_graph_breaks",
    "load_pipeline",
    "measure_speedup",
    "undo_stack",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PUBLIC[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
