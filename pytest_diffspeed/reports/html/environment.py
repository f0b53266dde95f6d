"""The templates of our pages, and data in them: everything is escaped unless it is ours."""

from __future__ import annotations

import json
import re
from typing import Any

import jinja2
from markupsafe import Markup

from ...common.text import plural
from ..glossary import term_of
from . import text

_ROOT = __name__.partition(".")[0]


def environment(*packages: str) -> jinja2.Environment:
    """Templates of these packages, such as ``reports.html``; what they print is escaped."""
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(f"{_ROOT}.{name}") for name in packages]),
        autoescape=True,
        finalize=text.plain,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "name": text.name,
        "stack": _stack,
        "plural": plural,
        "term": term_of,
        "slug": _slug,
        "is_digest": _is_digest,
    }
    return made


def _slug(word: str) -> str:
    """A word of the glossary, as the name of its place in the page."""
    return re.sub(r"\W+", "-", word)


def _is_digest(value: str) -> bool:
    """Whether it is one of those long names that nobody reads whole."""
    return re.fullmatch(r"[0-9a-f]{16,128}", value) is not None


def _stack(name: str) -> Markup:
    """A stack may break after its pluses."""
    return Markup.escape(text.name(name)).replace("+", Markup("+<wbr>"))


def as_json(value: Any) -> str:
    """JSON that may stand in a script element: it holds no ``<``, and only ASCII."""
    plain = json.dumps(_clean(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return plain.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return text.shown(value)
    if isinstance(value, dict):
        return {_clean(key): _clean(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(inner) for inner in value]
    return value
