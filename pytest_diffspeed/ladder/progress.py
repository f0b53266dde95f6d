"""Where the ladder stands, and how long the rest will take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class RowsLeft:
    """``rows`` are all of this run; ``began`` is when the first one did, in seconds."""

    rows: int
    began: float
    done: int = 0

    def next_row(self, now: float) -> str:
        """``"row 3 of 9, about 2 min left"``, said when a row begins; from the rows before it."""
        text = f"row {self.done + 1} of {self.rows}"
        if self.done:
            left_s = (now - self.began) / self.done * (self.rows - self.done)
            text += f", about {_rounded(left_s)} left"
        self.done += 1
        return text


def _rounded(seconds: float) -> str:
    if seconds >= 90.0:
        return f"{round(seconds / 60.0)} min"
    return f"{max(10, 10 * round(seconds / 10.0))} s"
