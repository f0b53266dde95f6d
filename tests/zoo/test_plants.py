"""A fault planted into each component that runs in the steps is found by the component's name.

A sample; `make zoo ARGS=--plant` plants all faults into all pipelines.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_diffspeed.common.quiet import third_party

DENOISERS = {
    "LTX2Pipeline": ["transformer"],
    "StableDiffusionControlNetPipeline": ["controlnet", "unet"],
    "WanPipeline-two-experts": ["transformer", "transformer_2"],
}


@pytest.fixture
def tool(zoo_tool: Path) -> Iterator[SimpleNamespace]:
    import plants
    import zoo_checks

    with third_party():
        yield SimpleNamespace(plants=plants, checks=zoo_checks)


def built(tool: SimpleNamespace, name: str) -> tuple[Any, dict[str, Any]]:
    zoo = tool.checks.Zoo(name)
    components = zoo.observed().components
    return zoo, {part.name: part.module for part in components if part.role == "denoiser"}


@pytest.mark.parametrize("name", DENOISERS)
def test_a_host_sync_is_found_in_each(tool: SimpleNamespace, name: str) -> None:
    zoo, parts = built(tool, name)
    assert sorted(parts) == sorted(DENOISERS[name])
    for part, module in parts.items():
        assert "aten._local_scalar_dense" in tool.plants.host_sync(zoo, part, module)


def test_nothing_is_found_where_nothing_is_planted(
    tool: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faults are what is found: without them each check says that it found none."""
    from contextlib import nullcontext

    monkeypatch.setattr(tool.plants, "in_forward", lambda module, fault: nullcontext())
    zoo, parts = built(tool, "ConsistencyModelPipeline")
    for check in tool.plants.FAULTS.values():
        with pytest.raises(tool.checks.Wrong):
            check(zoo, "unet", parts["unet"])
