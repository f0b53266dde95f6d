"""What authors of techniques and pipeline sources import: these names stay where they are.

Everything else of this package may move; see ``docs/plugins.md``.  Importing this imports no torch.
"""

from __future__ import annotations

from ..accelerators import features
from ..accelerators.device import Device
from ..accelerators.features import Feature
from ..common.errors import (
    DiffspeedError,
    IncompatibleError,
    MissingHardwareError,
    NotEffectiveError,
    NotUndoneError,
    SourceError,
    UsageError,
)
from ..pipelines.call import PipelineCall
from ..pipelines.cases import CallDefaults, Case
from ..pipelines.components import denoiser, modules, vae
from ..pipelines.sources import FolderSource, HubSource, PipelineSource, RandomSource, parse_source
from ..techniques.arguments import Parameter
from ..techniques.targets import denoisers
from ..techniques.technique import Family, KnownSlowWarning, Observation, Proof, Technique
from ..techniques.undo_notes import memory as undo_notes

__all__ = [
    "CallDefaults",
    "Case",
    "Device",
    "DiffspeedError",
    "Family",
    "Feature",
    "FolderSource",
    "HubSource",
    "IncompatibleError",
    "KnownSlowWarning",
    "MissingHardwareError",
    "NotEffectiveError",
    "NotUndoneError",
    "Observation",
    "Parameter",
    "PipelineCall",
    "PipelineSource",
    "Proof",
    "RandomSource",
    "SourceError",
    "Technique",
    "UsageError",
    "denoiser",
    "denoisers",
    "features",
    "modules",
    "parse_source",
    "undo_notes",
    "vae",
]
