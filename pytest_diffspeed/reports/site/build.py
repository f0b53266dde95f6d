"""Write a site: a page for each test as it is read, then the overview."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ...records.history_of_test import HistoryOfTest, HistorySize
from ..html.axes import VERDICTS
from ..html.environment import as_json, environment
from .assets import POLICY, asset_files
from .folder import SiteFolder, page_of
from .overview import SiteOverview
from .page_of_test import OPEN_SERIES, view_of
from .pictures import Pictures
from .sparkline_svg import sparkline


@dataclass(frozen=True)
class Built:
    """What a build wrote; ``deleted`` are pages of tests that the history no longer knows."""

    tests: int
    stacks: int
    files: int
    bytes: int
    pictures: int
    deleted: int


def build(
    folder: SiteFolder,
    size: HistorySize,
    histories: Iterable[HistoryOfTest],
    rootdir: Path,
    title: str,
) -> Built:
    """Write all pages; the same history gives the same bytes.

    Args:
        folder: where to.
        size: how much the history holds.
        histories: its tests; one is held at a time.
        rootdir: the folder that paths of pictures start from.
        title: what the pages are called.

    Raises:
        UsageError: something cannot be written, or would replace a file of somebody else.
    """
    templates = environment("reports.site", "reports.html")
    shared = {"policy": POLICY, "site": title, "verdicts": VERDICTS, "sparkline": sparkline}
    folder.begin()
    for name, text in asset_files():
        folder.write(name, text)
    overview = SiteOverview(size)
    pictures = Pictures(folder, rootdir)
    page = templates.get_template("site_test.html")
    for history in histories:
        name = page_of(history.test)
        view = view_of(history, name)
        overview.add(history, name)
        text = page.render(
            **shared,
            view=view,
            strips=pictures.strips(history.test, history.drawn),
            open_series=OPEN_SERIES,
            data=Markup(as_json(view.data)),
        )
        folder.write(name, text)
    folder.write(
        "index.html",
        templates.get_template("site_index.html").render(**shared, overview=overview),
    )
    deleted = folder.end(dict(sorted(pictures.noted.items())))
    return Built(
        tests=overview.tests,
        stacks=len({row.stack for row in overview.rows}),
        files=folder.files,
        bytes=folder.size,
        pictures=len(pictures.noted),
        deleted=deleted,
    )
