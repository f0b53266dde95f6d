"""The markers of all gates as users write them, read from the files of :mod:`.catalog`.

Loaded in every pytest session of an environment that has this package: it imports no gate.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from types import MappingProxyType

from ..common.literals import literals
from . import catalog


@functools.cache
def signatures() -> Mapping[str, str]:
    """Each gate's marker with its arguments, as ``pytest --markers`` shows them, by its name.

    A file whose signatures cannot be read without importing it is imported: that is slower, and
    no marker is left out.
    """
    found: dict[str, str] = {}
    for module, texts in literals(catalog, "signature"):
        if texts is None:
            gates = getattr(importlib.import_module(module), "GATES", ())
            texts = [marker.signature for gate in gates for marker in gate.markers]
        found |= {text.partition("(")[0]: text for text in texts}
    return MappingProxyType(found)
