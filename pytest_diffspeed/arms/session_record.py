"""The ``session`` record: what everything that a session finds rests on."""

from __future__ import annotations

import importlib.metadata
import uuid
from pathlib import Path
from typing import Any

from ..accelerators.device import Device
from ..evidence.key import EvidenceKey, environment
from ..evidence.tree import Tree, checked_out
from ..evidence.verdict_store import utc_now
from .base_commit.base import Base
from .session_options import QUICK, Options


def about_session(
    options: Options,
    device: Device,
    rootdir: Path,
    tree: Tree | None = None,
    base: Base | None = None,
) -> dict[str, Any]:
    """The content of the ``session`` line of a journal; ``tree`` is left out where nobody took it.

    Ratios of two sessions may be compared where ``machine`` is the same.
    """
    import torch

    commit = checked_out(rootdir)
    rests_on = environment(device.name, torch.get_num_threads(), device.driver)
    return {
        "session": uuid.uuid4().hex,
        "at": utc_now().isoformat(timespec="seconds"),
        "version": importlib.metadata.version("pytest-diffspeed"),
        "commit": None if commit is None else commit.name,
        "committed_at": None if commit is None else commit.at,
        "subject": None if commit is None else commit.subject,
        "dirty": None if commit is None else commit.dirty,
        **({} if options.shard is None else {"shard": vars(options.shard)}),
        **({} if tree is None else {"tree": vars(tree)}),
        "environment": rests_on,
        "machine": EvidenceKey(rests_on).digest,
        "base": None if base is None else base.about(),
        "device": {"kind": device.kind, "index": device.index, "name": device.name},
        "pipeline": options.pipeline,
        "options": {
            "steps": options.steps,
            "prompts": list(options.prompts),
            "techniques": [stack.name for stack in options.techniques],
            "budget_s": options.budget_s,
            "instances": options.instances,
            "inconclusive": options.inconclusive,
            "ladder": None if options.ladder == QUICK else options.ladder,
            "fresh": options.fresh,
        },
    }
