"""What the text of a pipeline source may look like, checked without importing anything heavy."""

from __future__ import annotations


def check_source_text(text: str) -> str:
    """The text itself.

    Raises:
        SourceError: it is none of the forms of a source.
    """
    from .sources import parse_source

    parse_source(text)
    return text
