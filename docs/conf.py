"""The documentation site: ``make docs`` builds it from the Markdown of this folder, offline.

The pages are those that GitHub shows.  What a site needs beside them is derived here and not
written into them: its navigation from the tables of ``index.md``, the reference of the Python API
from docstrings.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_diffspeed
from pytest_diffspeed.commands.cli import main as history

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

project = "pytest-diffspeed"
author = project
release = version = pytest_diffspeed.__version__
copyright = "the pytest-diffspeed developers, Apache-2.0"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
# The root of the repository is the source, so that links such as ../README.md lead somewhere here.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/hardware/*/*.md", "examples/*/*.md"]
exclude_patterns = [
    *(
        path.name
        for path in ROOT.iterdir()
        if path.is_dir() and path.name not in ("docs", "examples")
    ),
    "NOTICE.md",
]
myst_heading_anchors = 6  # the anchors that GitHub gives, for links such as statistics.md#power
suppress_warnings = ["misc.highlighting_failure"]  # records are shown with … where they are cut

html_theme = "furo"
html_title = "pytest-diffspeed"
html_show_sourcelink = False
html_static_path = ["site"]
html_css_files = ["site.css"]

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints = "signature"
python_display_short_literal_types = True
python_maximum_signature_line_length = 88

RELEASES = "Host syncs over releases of diffusers"
SITE = ' stands <a href="../releases/index.html">beside this page</a>'

SECTION = re.compile(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", re.M | re.S)
PAGE = re.compile(r"\]\(([^)#\s]+)\.md\)")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)\)")


def navigation(index: str) -> str:
    """The side bar: a part for each heading of the map, with the pages that its rows begin with."""
    parts = []
    for title, body in SECTION.findall(index):
        cells = [line.split("|")[1] for line in body.splitlines() if line.startswith("| [")]
        pages = [page for cell in cells for page in PAGE.findall(cell)]
        entries = [f"{short_title(DOCS / f'{page}.md')} <{page}>" for page in pages]
        parts.append(
            "\n".join(["```{toctree}", ":hidden:", f":caption: {title}", "", *entries, "```", ""])
        )
    return "\n".join(parts)


def short_title(page: Path) -> str:
    """What a page is called in one line: its title, up to what explains it."""
    title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    return re.split("[:,]", title)[0]


def api() -> str:
    """Every public name with its docstring: functions, what they give, what they raise."""
    names = sorted(name for name in pytest_diffspeed.__all__ if not name.startswith("_"))
    raised = [name for name in names if name.endswith(("Error", "Warning"))]
    functions = [name for name in names if name[0].islower()]
    others = [name for name in names if name not in (*raised, *functions)]
    lines = []
    for title, directive, group in (
        ("Functions", "autofunction", functions),
        ("What they give", "autoclass", others),
        ("What they raise", "autoexception", raised),
    ):
        lines += [f"## {title}", "", "```{eval-rst}", ".. currentmodule:: pytest_diffspeed", ""]
        members = ["   :members:"] if directive == "autoclass" else []
        for name in group:
            lines += [f".. {directive}:: {name}", *members, ""]
        lines += ["```", ""]
    return "\n".join(lines)


def lead_from_folders(text: str, page: Path) -> str:
    """Links to a folder lead to its README here, where no server lists what is in it."""

    def led(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        place = (page.parent / target).resolve()
        if "://" in target or not place.is_dir():
            return match[0]
        if (place / "README.md").is_file():
            return f"{mark}[{words}]({target.rstrip('/')}/README.md)"
        return f"{words} (`{place.relative_to(ROOT)}`)"

    return LINK.sub(led, text)


def complete(app: Sphinx, docname: str, source: list[str]) -> None:
    """Add to a page what only the site shows."""
    text = lead_from_folders(source[0], ROOT / f"{docname}.md")
    if docname.startswith("docs/hardware/"):  # a page leads there, the side bar does not
        text = "---\norphan: true\n---\n\n" + text
    if docname == root_doc:
        text += "\n" + navigation(text)
    if docname == "docs/python_api":
        text += "\n" + api()
    if docname == "docs/releases":
        text = text.replace(" stands beside this page in the site that `make docs` builds", SITE)
    source[0] = text


def begin_at_the_map(app: Sphinx, error: Exception | None) -> None:
    """A folder of pages is opened at its index.html."""
    if error is None and app.builder.name == "html":
        target = f"{root_doc}.html"
        page = f'<!doctype html><meta charset="utf-8"><title>{project}</title>'
        page += (
            f'<meta http-equiv="refresh" content="0; url={target}"><a href="{target}">{project}</a>'
        )
        (Path(app.outdir) / "index.html").write_text(page, encoding="utf-8")


def releases_as_pages(app: Sphinx, error: Exception | None) -> None:
    """The history of ``docs/releases`` as ``diffspeed history site`` writes it."""
    if error is not None or app.builder.name != "html":
        return
    with tempfile.TemporaryDirectory() as folder:
        store = ["--store", f"sqlite:///{folder}/history.sqlite", "--rootdir", folder]
        for words in (
            ["import", str(DOCS / "releases" / "sessions.jsonl")],
            ["site", "--out", str(Path(app.outdir) / "releases"), "--title", RELEASES],
        ):
            if history(["history", *words, *store]):
                raise RuntimeError(f"diffspeed history {words[0]} failed; its reason is above")


def setup(app: Sphinx) -> None:
    app.connect("source-read", complete)
    app.connect("build-finished", begin_at_the_map)
    app.connect("build-finished", releases_as_pages)
