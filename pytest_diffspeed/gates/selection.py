"""Which of a test's gate markers hold for one stack on one device."""

from __future__ import annotations

from collections.abc import Sequence

from ..accelerators.device import Device
from ..accelerators.registry import accelerators
from ..techniques.stacks import Stack
from .marker import GateMarker


def select(
    markers: Sequence[GateMarker], stack: Stack, device: Device
) -> tuple[list[GateMarker], list[GateMarker]]:
    """The markers that hold, and one of each claim for which none does.

    ``markers`` come closest first.  Of several that make the same claim the most specific wins
    (``stack=`` counts more than ``device=``), then the closest.
    """
    holding: list[GateMarker] = []
    without: list[GateMarker] = []
    for claim in dict.fromkeys(marker.claim for marker in markers):
        rivals = [marker for marker in markers if marker.claim == claim]
        matching = [marker for marker in rivals if _holds(marker, stack, device)]
        if matching:
            # max() keeps the first of equals, which is the closest.
            holding.append(max(matching, key=_specificity))
        else:
            without.append(rivals[0])
    return holding, without


def replaced(
    markers: Sequence[GateMarker], holding: Sequence[GateMarker], stack: Stack, device: Device
) -> dict[str, tuple[str, ...]]:
    """By claim, as written, the stricter markers that hold too and that a looser one replaces.

    That is what a marker on a class is for; the reader of a PASS must know it all the same.
    """
    found: dict[str, tuple[str, ...]] = {}
    for chosen in holding:
        stricter = [
            marker.written
            for marker in markers
            if marker.claim == chosen.claim
            and marker is not chosen
            and _holds(marker, stack, device)
            and marker.is_stricter(chosen)
        ]
        if stricter:
            found[chosen.claim] = tuple(dict.fromkeys(stricter))
    return found


def _holds(marker: GateMarker, stack: Stack, device: Device) -> bool:
    return (marker.only_stack is None or marker.only_stack == stack) and (
        marker.only_device is None or device.matches(marker.only_device)
    )


def _specificity(marker: GateMarker) -> tuple[bool, int]:
    device = marker.only_device
    specificity = 0 if device is None else 1 if device in accelerators() else 2
    return marker.only_stack is not None, specificity
