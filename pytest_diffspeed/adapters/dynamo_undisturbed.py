"""Let dynamo compile something as if nobody had compiled yet, and leave it as it was.

Seen in torch 2.11 to 2.15, like :mod:`.dynamo`.
"""

from __future__ import annotations

import copy
import gc
import inspect
import sys
import types
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch._C._dynamo.eval_frame import reset_code
from torch._dynamo import config, convert_frame, eval_frame, pgo
from torch._dynamo import utils as dynamo_utils
from torch._dynamo.guards import DeletedGuardManagerWrapper

from .dynamo import TORCH_FOLDER, DynamoLog, compilations_of, compile_stance

_LOOK_LIMIT = 10_000
"""Compilations of one function within a look: as many as a model has blocks, and then some."""


def compile_for_looking(fn: Callable[..., Any], backend: Callable[..., Any]) -> Callable[..., Any]:
    """``torch.compile(fn)`` whose cache entries are its own.

    ``isolate_recompiles`` (torch 2.13) keeps them out of the bucket that ``recompile_limit`` counts
    in.  Older versions rely on :func:`undisturbed` alone.
    """
    options: dict[str, Any] = {"backend": backend}
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        options["isolate_recompiles"] = True
    return torch.compile(fn, **options)


@contextmanager
def undisturbed(seen: DynamoLog) -> Iterator[None]:
    """What is compiled inside leaves dynamo as it was, and finds it as if nobody had compiled yet.

    - Functions that somebody has compiled run on a *copy* of their code meanwhile.  Dynamo keeps
      cache entries, limits and "run this eagerly from now on" on code objects, so the originals
      keep theirs, and a decision that somebody's compilation took hides nothing from us.
    - Code of ours alone is forgotten again.
    - Counters, profiles of dynamic shapes and compilation numbers are put back.
    """
    counters = {name: Counter(counts) for name, counts in dynamo_utils.counters.items()}
    shapes = _copied_code_state()
    numbers = dict(convert_frame.FRAME_COMPILE_COUNTER)
    break_reasons = len(dynamo_utils.graph_break_reasons)
    guard_failures = {key: list(value) for key, value in dynamo_utils.guard_failures.items()}
    known_backends = cast("dict[int, Any]", eval_frame.cached_backends)
    backends = set(known_backends)
    metrics = list(dynamo_utils.get_compilation_metrics())
    limits = config.patch(
        recompile_limit=_LOOK_LIMIT,
        accumulated_recompile_limit=_LOOK_LIMIT,
        suppress_errors=False,
        error_on_recompile=False,
    )
    try:
        with limits, _recompiling_allowed(), _copies_of_known_code():
            yield
    finally:
        for code in seen.untouched.values():
            reset_code(code)
        dynamo_utils.counters.clear()
        dynamo_utils.counters.update(counters)
        pgo._CODE_STATE = shapes
        convert_frame.FRAME_COMPILE_COUNTER.clear()
        convert_frame.FRAME_COMPILE_COUNTER.update(numbers)
        del dynamo_utils.graph_break_reasons[break_reasons:]
        dynamo_utils.guard_failures.clear()
        dynamo_utils.guard_failures.update(guard_failures)
        for key in set(known_backends) - backends:
            del known_backends[key]
        dynamo_utils.clear_compilation_metrics()
        dynamo_utils._compilation_metrics.extend(metrics)


@contextmanager
def _recompiling_allowed() -> Iterator[None]:
    """Somebody may forbid recompilation for their own code; "compile nothing" is left in force."""
    if compile_stance() in ("fail_on_recompile", "eager_on_recompile"):
        with torch.compiler.set_stance("default"):
            yield
    else:
        yield


@contextmanager
def new_compilations_forgotten() -> Iterator[None]:
    """What is compiled inside is dropped afterwards; what was compiled before stays in use.

    Otherwise an arm that was called with another size would go on with code for any size: dynamo
    asks the newest compilation first.  Its profile of changing sizes is put back too.
    """
    before = {id(code): _made_of(code) for code in _known_codes()}
    shapes = _copied_code_state()
    numbers = dict(convert_frame.FRAME_COMPILE_COUNTER)
    try:
        yield
    finally:
        for code in _known_codes():
            kept = before.get(id(code), [])
            entries = compilations_of(code)
            if not kept and entries:
                reset_code(code)
                continue
            for entry in entries:
                if not any(entry.code is one for one in kept):
                    entry.guard_manager.extra_state.invalidate(entry, _Dropped())
        pgo._CODE_STATE = shapes
        convert_frame.FRAME_COMPILE_COUNTER.clear()
        convert_frame.FRAME_COMPILE_COUNTER.update(numbers)


class _Dropped(DeletedGuardManagerWrapper):
    """Stands where a compilation was.  Dynamo keeps such shells, and counts each to the limit of
    the frames whose objects it was compiled for: this one was for nobody's.
    """

    def __init__(self) -> None:
        super().__init__("compiled while somebody only looked")
        self.id_matched_objs = {"no local variable is called this": weakref.ref(_Dropped)}


def _known_codes() -> list[types.CodeType]:
    """All code that dynamo has looked at."""
    codes = (reference() for reference in convert_frame.input_codes.seen)
    return [code for code in codes if code is not None]


def _made_of(code: types.CodeType) -> list[types.CodeType]:
    """What dynamo made of some code; held on to, so that none of it is taken for a later one."""
    return [entry.code for entry in compilations_of(code)]


def _copied_code_state() -> Any:
    """Dynamo's profile of which sizes change, which decides what is compiled as dynamic."""
    return None if pgo._CODE_STATE is None else copy.deepcopy(pgo._CODE_STATE)


@contextmanager
def _copies_of_known_code() -> Iterator[None]:
    known = {
        id(code): code for code in _known_codes() if not code.co_filename.startswith(TORCH_FOLDER)
    }
    functions = {
        id(function): function
        for function in _functions_with_code(list(known.values()))
        if id(function.__code__) in known
    }
    originals = [(function, function.__code__) for function in functions.values()]
    try:
        for function, code in originals:
            function.__code__ = _copied(code)
        yield
    finally:
        for function, code in originals:
            function.__code__ = code


def _functions_with_code(codes: Sequence[types.CodeType]) -> Iterator[types.FunctionType]:
    """The functions that run any of ``codes``, and some others.

    Those that the garbage collector knows, closures too; after ``gc.freeze()`` it no longer knows
    what was there before, so the modules that define the code are searched as well.
    """
    if not codes:
        return
    for holder in gc.get_referrers(*codes):
        if isinstance(holder, types.FunctionType):
            yield holder
    files = {code.co_filename for code in codes}
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) in files:
            yield from _functions_in(module, depth=3)


def _functions_in(holder: object, depth: int) -> Iterator[types.FunctionType]:
    for value in list(vars(holder).values()):
        function = getattr(value, "__func__", value)  # class methods and static methods
        if isinstance(value, property):
            function = value.fget
        while isinstance(function, types.FunctionType):
            yield function
            function = getattr(function, "__wrapped__", None)
        if isinstance(value, type) and depth:
            yield from _functions_in(value, depth - 1)


def _copied(code: types.CodeType) -> types.CodeType:
    """Another code object that does the same, the functions inside it copied too."""
    constants = tuple(
        _copied(constant) if isinstance(constant, types.CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_consts=constants)
