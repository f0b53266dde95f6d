"""What the page carries: style, scripts, and the policy that lets only these run."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

_SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "shared.js", "report.js")
_STYLE = "report.css"
_LICENCES = ("vendor/d3.LICENSE", "vendor/plot.LICENSE", "vendor/plot.bundled.LICENSE")

PLOT_CLASS = "chart"
"""The class name that ``shared.js`` gives each chart: it stands in the style below."""
# Observable Plot 0.6.17 puts this element into each chart; with its hash it may.
_PLOT_STYLE = (
    f":where(.{PLOT_CLASS}) {{\n  --plot-background: white;\n  display: block;\n  height: auto;\n"
    f"  height: intrinsic;\n  max-width: 100%;\n}}\n:where(.{PLOT_CLASS} text),\n"
    f":where(.{PLOT_CLASS} tspan) {{\n  white-space: pre;\n}}"
)


@dataclass(frozen=True)
class Assets:
    """``policy`` is a Content-Security-Policy: nothing is fetched, and only these run.

    ``licences`` are of the chart libraries, and ask to stand in each copy of them.
    """

    style: str
    scripts: tuple[str, ...]
    policy: str
    licences: tuple[str, ...]


@functools.cache
def assets() -> Assets:
    """Read once a process."""
    style = _read(_STYLE)
    scripts = tuple(map(_read, _SCRIPTS))
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes(scripts)}",
            f"style-src {_hashes((style, _PLOT_STYLE))}",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    return Assets(style, scripts, policy, tuple(map(_read, _LICENCES)))


def _read(name: str) -> str:
    text = resources.files(__package__).joinpath("static", *name.split("/")).read_text("utf-8")
    # HTML parsers do the same, and hashes are of what they hand on.
    text = text.replace("\r\n", "\n")
    assert "</script" not in text and "</style" not in text, f"{name} would end its own element"
    return text


def _hashes(texts: Iterable[str]) -> str:
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)


PLOT_STYLE_HASH = _hashes((_PLOT_STYLE,))
"""Lets a page show the charts of ``shared.js``."""
