"""What the pages of a site share: styles and scripts as files beside them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from ..html.assets import PLOT_STYLE_HASH

_SHARED = (
    "report.css",
    "shared.js",
    "vendor/d3.min.js",
    "vendor/plot.umd.min.js",
    "vendor/d3.LICENSE",
    "vendor/plot.LICENSE",
    "vendor/plot.bundled.LICENSE",
)
_OWN = ("site.css", "overview.js", "test.js", "state.js")

POLICY = "; ".join(
    (
        "default-src 'none'",
        # A page that is opened from a disk has no origin of its own that 'self' could name.
        "script-src 'self' file:",
        f"style-src 'self' file: {PLOT_STYLE_HASH}",
        "img-src 'self' file:",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""A Content-Security-Policy: no script in a page runs, and nothing comes from elsewhere."""


def asset_files() -> Iterator[tuple[str, str]]:
    """Names from the site's folder, with their contents."""
    for package, names in (
        (f"{__package__}", _OWN),
        (f"{__package__}".replace(".site", ".html"), _SHARED),
    ):
        for name in names:
            path = resources.files(package).joinpath("static", *name.split("/"))
            yield f"assets/{name.rpartition('/')[2]}", path.read_text("utf-8").replace("\r\n", "\n")
