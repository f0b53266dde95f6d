"""Results that stand for work that has not been done: a coroutine, a generator, a future."""

from __future__ import annotations

import inspect
from concurrent.futures import Future
from typing import Any

from .errors import UsageError


def refuse_unfinished(result: Any, what: str) -> None:
    """Refuse what a call returned in place of doing its work: there is nothing to time or count.

    ``what`` begins the sentence: ``"arm 'candidate'"``, ``"a call of generate"``.

    Raises:
        UsageError: with what was returned, and how to do the work inside the call.
    """
    found = _unfinished(result)
    if found is None:
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()  # Python would warn later that it was never awaited
    kind, remedy = found
    raise UsageError(
        f"{what} returned {kind}, so its work has not been done when it returns; {remedy}"
    )


def _unfinished(result: Any) -> tuple[str, str] | None:
    if inspect.iscoroutine(result):
        return "a coroutine", "call it inside, as in lambda: asyncio.run(f())"
    if inspect.isasyncgen(result):
        return "an asynchronous generator", "consume it inside with asyncio.run"
    if inspect.isgenerator(result):
        return "a generator", "consume it inside, as in lambda: list(f())"
    if isinstance(result, (map, filter, zip)):
        kind = type(result).__name__
        return f"a lazy `{kind}`", "consume it inside, as in lambda: list(f())"
    if isinstance(result, Future) or inspect.isawaitable(result):
        return f"a {type(result).__name__}", "wait for it inside, as in lambda: f().result()"
    if inspect.isroutine(result):
        return "a function", "call that inside, as in lambda: f()()"
    return None
