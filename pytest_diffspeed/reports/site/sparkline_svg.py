"""A figure over time as a small picture, drawn here: the overview needs no script for it."""

from __future__ import annotations

from markupsafe import Markup

from ..sparkline import binned
from .tracks import Track

WIDTH, HEIGHT = 96, 22
_BINS = 48
_EDGE = 3.0


def sparkline(track: Track) -> Markup:
    """An SVG: a line for each environment, a mark where a level begins, a bar between environments.

    Each height is the median of its share of the points, as on the terminal.
    """
    parts = sorted(track.parts, key=lambda one: one.points[-1].at)
    total = sum(len(one.points) for one in parts)
    lines = []
    for one in parts:
        most = max(1, round(_BINS * len(one.points) / total))
        changed = [change.index for change in one.changes]
        lines.append((one, *binned([point.value for point in one.points], changed, most)))
    heights = [height for _, several, _ in lines for height in several]
    low, high = min(heights), max(heights)
    scale = (HEIGHT - 2 * _EDGE) / (high - low) if high > low else 0.0
    step = (WIDTH - 2 * _EDGE) / max(1, len(heights) - 1)
    drawn, place = [], 0
    for number, (one, several, marked) in enumerate(lines):
        spots = [
            (
                _EDGE + step * (place + i),
                HEIGHT - _EDGE - scale * (height - low) if scale else HEIGHT / 2,
            )
            for i, height in enumerate(several)
        ]
        if number:
            x = spots[0][0] - step / 2
            drawn.append(f'<path class="environment" d="M{x:.1f} 1V{HEIGHT - 1}"/>')
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in spots)
        drawn.append(f'<path d="M{path}{"h.01" if len(spots) == 1 else ""}"/>')
        worse = {
            ((change.index + 1) * len(several) - 1) // len(one.points)
            for change in one.changes
            if one.is_worse(change)
        }
        for spot in sorted(marked):
            x, y = spots[spot]
            kind = "worse" if spot in worse else "better"
            drawn.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"/>')
        place += len(several)
    return Markup(
        f'<svg class="spark" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'aria-hidden="true">{"".join(drawn)}</svg>'
    )
