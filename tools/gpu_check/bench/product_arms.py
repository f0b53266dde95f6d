"""Arms as a session of the product builds them, for parts that time without pytest around.

A source is built, moved, and its stack applied and proven by the product's own builder.
"""

from __future__ import annotations

import warnings
from typing import Any


class ArmBuilder:
    """Builds arms of one pipeline source on one device; all make the same call."""

    def __init__(self, device: str, source: str, *, steps: int | None = None) -> None:
        from pytest_diffspeed.accelerators.registry import resolve_device
        from pytest_diffspeed.arms.builder import Builder
        from pytest_diffspeed.pipelines.sources import parse_source

        self.device = resolve_device(device)
        self.text = source
        self._source = parse_source(source)
        self._builder = Builder(self.device, steps=steps)
        self._call: Any = None
        self._fingerprint: dict[str, str] | None = None

    def fresh(self) -> Any:
        """A new pipeline of the source on the device.

        Raises:
            RuntimeError: it has other weights than the one before.
        """
        from pytest_diffspeed.pipelines.components import weights_fingerprint

        pipeline = self._source.build()
        fingerprint = weights_fingerprint(pipeline)
        if self._fingerprint not in (None, fingerprint):
            raise RuntimeError(f"{self.text} gives other weights each time it is asked")
        self._fingerprint = fingerprint
        self._builder.to_device(pipeline, self.text)
        return pipeline

    def call_of(self, pipeline: Any, steps: int | None = None) -> Any:
        """The call that arms make; with ``steps``, one of other length."""
        from pytest_diffspeed.arms.builder import Builder

        builder = self._builder if steps is None else Builder(self.device, steps=steps)
        return builder.call(self._source, pipeline)

    def prepared(self, stack: str, pipeline: Any = None) -> Any:
        """The product's ``PreparedArm``: ``stack`` applied to a fresh pipeline, run and proven."""
        from pytest_diffspeed.arms.spec import ArmSpec
        from pytest_diffspeed.techniques.stacks import parse_stack

        if pipeline is None:
            pipeline = self.fresh()
        if self._call is None:
            self._call = self.call_of(pipeline)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._builder.prepare(
                ArmSpec(self.text, parse_stack(stack)), pipeline, self._call
            )


def wait_for(device: str) -> None:
    """Until the device has nothing left to do."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()
