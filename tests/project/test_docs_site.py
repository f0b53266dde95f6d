"""The documentation site: what ``docs/conf.py`` derives from the pages.

``make docs`` builds it and makes each lost link an error; what is tested here needs no Sphinx.
"""

import re
import runpy
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
SITE = runpy.run_path(str(DOCS / "conf.py"))


def test_the_side_bar_has_every_page_once():
    side_bar = SITE["navigation"]((DOCS / "index.md").read_text("utf-8"))
    pages = re.findall(r"^[^\n<>]+ <([\w./]+)>$", side_bar, re.M)
    assert len(pages) == len(set(pages))
    there = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert {page for page in pages if "/" not in page} == there
    assert {"../README", "../CHANGELOG", "../examples/ci/README"} <= set(pages)


def test_links_to_folders_lead_to_what_a_site_has():
    lead = SITE["lead_from_folders"]
    text = "[a](../examples/ci), [b](../examples/ci/gpu_cost_project), [c](base.md), ![d](images)"
    assert lead(text, DOCS / "ci.md") == (
        "[a](../examples/ci/README.md), b (`examples/ci/gpu_cost_project`), [c](base.md), "
        "d (`docs/images`)"
    )


def test_no_line_that_begins_with_a_comment_says_more():
    """All of such a line is HTML to a parser of Markdown, which shows its links as they are."""
    pages = [*DOCS.parent.glob("*.md"), *DOCS.rglob("*.md")]
    lines = [line for page in pages for line in page.read_text("utf-8").splitlines()]
    assert [line for line in lines if re.match(r"<!--.*-->.*\S", line)] == []
