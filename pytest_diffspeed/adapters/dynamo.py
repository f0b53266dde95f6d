"""What this package uses of dynamo, the front end of ``torch.compile``.

Everything here was seen in torch 2.11 to 2.15; what is not there any more is said by name
(:func:`require_known_dynamo`).  Nothing calls ``torch._dynamo.reset()``: that would make every
other compiled module of the process compile again.
"""

from __future__ import annotations

import logging
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest import mock

import torch
import torch._dynamo
from torch._C._dynamo.eval_frame import _FrameAction
from torch._dynamo import convert_frame, eval_frame, pgo, symbolic_convert, trace_rules
from torch._dynamo import utils as dynamo_utils
from torch._dynamo.backends.debugging import ExplainWithBackend as ExplainWithBackend
from torch._dynamo.guards import DeletedGuardManagerWrapper

from ..common.errors import DiffspeedError
from .tested import TORCH

TORCH_FOLDER = str(Path(torch.__file__).parent)
_LIMIT_EXCEEDED = "recompile limit exceeded"


def require_known_dynamo() -> None:
    """Refuse a dynamo that does not have what is used here.

    Raises:
        DiffspeedError: with what is missing.
    """
    needed = (
        (symbolic_convert.InstructionTranslatorBase, "log_graph_break"),
        (convert_frame, "ConvertFrameAssert"),
        (convert_frame, "CatchErrorsWrapper"),
        (convert_frame, "get_and_maybe_log_recompilation_reasons"),
        (convert_frame, "input_codes"),
        (convert_frame, "FRAME_COMPILE_COUNTER"),
        (eval_frame, "_debug_get_cache_entry_list"),
        (eval_frame, "_stance"),
        (dynamo_utils, "counters"),
        (pgo, "get_code_state"),
    )
    for owner, name in needed:
        if not hasattr(owner, name):
            raise DiffspeedError(
                f"torch {torch.__version__} has no {getattr(owner, '__name__', owner)}.{name}, "
                "with which graph breaks and recompilations are seen; pytest-diffspeed was tested "
                f"with torch {TORCH}"
            )


@dataclass(frozen=True)
class SeenBreak:
    """One graph break as dynamo met it.

    ``stack`` holds (file, line, function) from the frame that was traced to where it happened;
    ``place`` tells two breaks of one line apart, and is ``None`` where dynamo met it in a function
    that it had inlined: it meets those again when that function is traced by itself.
    """

    message: str
    stack: tuple[tuple[str, int, str], ...]
    place: tuple[Any, ...] | None


@dataclass(frozen=True)
class SeenCompile:
    """One attempt of dynamo to compile a function.

    ``reasons`` say which guards of the earlier compilations failed and with which value;
    ``earlier`` counts those; ``error`` is what the attempt raised; ``compiled`` is false where
    dynamo left the function to Python.
    """

    function: str
    file: str
    line: int
    earlier: int
    reasons: tuple[str, ...]
    skipped: str | None
    error: str | None
    limit_exceeded: bool
    compiled: bool


@dataclass
class DynamoLog:
    """What dynamo did while :func:`watching` was open."""

    breaks: list[SeenBreak] = field(default_factory=list)
    compiles: list[SeenCompile] = field(default_factory=list)
    skips: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(function, reason) of frames that dynamo declined to look at."""
    untouched: dict[int, types.CodeType] = field(default_factory=dict)
    """Code that nobody had compiled before, by ``id``."""


@contextmanager
def watching() -> Iterator[DynamoLog]:
    """Record each graph break, each compilation with its reason, and each frame left out.

    Wraps four functions of dynamo and changes nothing of what they do.
    """
    require_known_dynamo()
    seen = DynamoLog()
    log_graph_break = symbolic_convert.InstructionTranslatorBase.log_graph_break
    convert = convert_frame.ConvertFrameAssert.__call__
    catch = convert_frame.CatchErrorsWrapper.__call__
    reasons_of = getattr(convert_frame, "get_and_maybe_log_recompilation_reasons")  # noqa: B009
    reasons: list[str] = []

    def on_break(self: Any, code_options: Any, reason: str, exc: Any) -> None:
        if not exc.logged:  # the same exception passes through every frame that was inlined
            seen.breaks.append(_seen_break(self, reason, exc))
        log_graph_break(self, code_options, reason=reason, exc=exc)

    def on_reasons(*args: Any, **kwargs: Any) -> Any:
        found = reasons_of(*args, **kwargs)
        reasons.extend(str(reason) for reason in found or ())
        return found

    def on_frame(self: Any, frame: Any, *args: Any, **kwargs: Any) -> Any:
        code = frame.f_code
        entries = len(compilations_of(code))
        if not entries:
            seen.untouched.setdefault(id(code), code)
        reasons.clear()
        kwargs["skip"] = kwargs.get("skip", 0) + 1
        try:
            result = convert(self, frame, *args, **kwargs)
        except Exception as error:
            exceeded = _LIMIT_EXCEEDED in f"{error} {error.__cause__}"
            seen.compiles.append(_compile(frame, entries, reasons, None, error, exceeded, False))
            if not getattr(error, "logged", False) and not exceeded and _is_break(error):
                seen.breaks.append(_break_of_frame(code, error))
            raise
        skipped, compiled = _skip_reason(result, code), result.guarded_code is not None
        seen.compiles.append(_compile(frame, entries, reasons, skipped, None, False, compiled))
        return result

    def on_any_frame(self: Any, frame: Any, *args: Any, **kwargs: Any) -> Any:
        result = catch(self, frame, *args, **kwargs)
        reason = _skip_reason(result, frame.f_code)
        if reason is not None:
            seen.skips[(_function(frame.f_code), reason.splitlines()[0])] += 1
        return result

    base = symbolic_convert.InstructionTranslatorBase
    with ExitStack() as patches:
        for owner, name, wrapper in (
            (base, "log_graph_break", on_break),
            (convert_frame, "get_and_maybe_log_recompilation_reasons", on_reasons),
            (convert_frame.ConvertFrameAssert, "__call__", on_frame),
            (convert_frame.CatchErrorsWrapper, "__call__", on_any_frame),
        ):
            patches.enter_context(mock.patch.object(owner, name, wrapper))
        yield seen


def _skip_reason(result: Any, code: types.CodeType) -> str | None:
    """Why dynamo left a function to Python; ``None`` where it did not.

    ``ConvertFrameReturn.skip_reason``, seen in torch 2.13.  Torch 2.11 forgets it, so what
    can be asked once more is asked.
    """
    if hasattr(result, "skip_reason"):
        return cast("str | None", result.skip_reason)
    action = result.frame_exec_strategy.cur_action
    if result.guarded_code is not None or action != _FrameAction.SKIP:
        return None
    if torch._dynamo.config.disable:
        return "Dynamo tracing is disabled"
    if trace_rules.check(code):
        return "frame is in the Dynamo skipfiles list"
    return f"torch {torch.__version__} does not say why"


def _is_break(error: Exception) -> bool:
    """Whether dynamo goes on without this frame; it passes on every other error."""
    return isinstance(error, (torch._dynamo.exc.Unsupported, torch._dynamo.exc.UserError)) and (
        not isinstance(error, torch._dynamo.exc.UncapturedHigherOrderOpError)
    )


def _seen_break(translator: Any, reason: str, exc: Any) -> SeenBreak:
    stack = tuple((f.filename, f.lineno or 0, f.name) for f in getattr(exc, "real_stack", ()) or ())
    code, instruction = translator.f_code, translator.current_instruction
    place: tuple[Any, ...] | None = None
    if len(stack) <= 1:
        positions: Any = getattr(instruction, "positions", None)
        column = getattr(positions, "col_offset", None)
        if column is not None:
            line = translator.lineno if positions.lineno is None else positions.lineno
            place = (code.co_filename, line, column, positions.end_lineno, positions.end_col_offset)
        else:  # Python 3.10 knows no columns
            place = (code.co_filename, translator.lineno, id(code), instruction.offset)
    if not stack:
        stack = ((code.co_filename, translator.lineno or code.co_firstlineno, code.co_name),)
    return SeenBreak(str(getattr(exc, "msg", None) or exc or reason), stack, place)


def _break_of_frame(code: types.CodeType, error: Any) -> SeenBreak:
    """A break outside the tracing itself: the whole function is left to Python."""
    stack = tuple(
        (f.filename, f.lineno or 0, f.name) for f in getattr(error, "real_stack", ()) or ()
    )
    where = (code.co_filename, code.co_firstlineno, code.co_name)
    message = str(getattr(error, "msg", None) or error)
    return SeenBreak(message, stack or (where,), None if stack else where)


def _compile(
    frame: Any,
    earlier: int,
    reasons: list[str],
    skipped: str | None,
    error: Exception | None,
    limit_exceeded: bool,
    compiled: bool,
) -> SeenCompile:
    sentence = None if error is None else (str(error).strip() or type(error).__name__)
    function, code = _named(frame)
    return SeenCompile(
        function,
        code.co_filename,
        code.co_firstlineno,
        earlier,
        tuple(reasons),
        None if skipped is None else skipped.splitlines()[0],
        sentence,
        limit_exceeded,
        compiled,
    )


def _named(frame: Any) -> tuple[str, types.CodeType]:
    """What people call the function of a frame, and where it stands.

    A decorator's wrapper says nothing: the function that it wraps does.
    """
    code: types.CodeType = frame.f_code
    for cell in getattr(frame, "closure", None) or ():
        try:
            wrapped = cell.cell_contents
        except ValueError:  # an empty cell
            continue
        if isinstance(wrapped, types.FunctionType) and wrapped.__code__.co_name != code.co_name:
            return wrapped.__qualname__, wrapped.__code__
    return _function(code), code


def _function(code: types.CodeType) -> str:
    return str(getattr(code, "co_qualname", code.co_name))  # co_qualname: Python 3.11


def graph_break_counters() -> Counter[str]:
    """Dynamo's own count of graph breaks by message, for the whole process."""
    return Counter(dynamo_utils.counters["graph_break"])


def inductor_counters() -> Counter[str]:
    """Inductor's counts: cache hits and misses, CUDA graphs skipped; for the whole process."""
    return Counter(dynamo_utils.counters["inductor"])


def unique_graphs() -> int:
    """How many graphs dynamo has handed to a backend in this process."""
    return int(dynamo_utils.counters["stats"]["unique_graphs"])


def cudagraph_skip_reasons() -> list[str]:
    """Why inductor left out CUDA graphs, by compilation, of the compilations that torch remembers.

    ``CompilationMetrics.cudagraph_skip_reason``.
    """
    metrics = dynamo_utils.get_compilation_metrics()
    reasons = (getattr(one, "cudagraph_skip_reason", None) for one in metrics)
    return [reason for reason in reasons if reason]


@contextmanager
def quiet_logs() -> Iterator[None]:
    """Keep dynamo's own log lines about breaks and failures to itself: the report says them."""
    loggers = [logging.getLogger(name) for name in ("torch._dynamo", "torch._subclasses")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def is_compile_error(error: BaseException) -> bool:
    """Whether dynamo or a backend raised it, and not the code that was to be compiled."""
    return isinstance(error, torch._dynamo.exc.TorchDynamoException)


def cache_entries(function: Callable[..., Any] | types.CodeType) -> int:
    """How many compilations of a function dynamo holds, whoever asked for them."""
    code = function if isinstance(function, types.CodeType) else function.__code__
    return len(compilations_of(code))


def compilations_of(code: types.CodeType) -> list[Any]:
    """Dynamo's cache entries of some code that are in use: of what was dropped, the shell stays."""
    entries = eval_frame._debug_get_cache_entry_list(code)
    return [one for one in entries if not isinstance(one.guard_manager, DeletedGuardManagerWrapper)]


def compilations_begun() -> Counter[int]:
    """How many compilations dynamo has begun of each frame, by its number: of frame 2 the next one
    is ``"2/1"`` where one was begun.
    """
    begun = convert_frame.FRAME_COMPILE_COUNTER.items()
    return Counter({frame: count for frame, count in begun if isinstance(frame, int)})


def most_compiled(least: int) -> list[tuple[tuple[str, str, int], int]]:
    """Functions of which dynamo holds ``least`` compilations or more: (name, file, line), count."""
    codes = {reference() for reference in convert_frame.input_codes.seen} - {None}
    found = [
        ((_function(code), code.co_filename, code.co_firstlineno), cache_entries(code))
        for code in codes
        if code is not None
    ]
    return sorted((one for one in found if one[1] >= least), key=lambda one: -one[1])


def compile_stance() -> str:
    """What ``torch.compiler.set_stance`` was last called with; ``default`` without it."""
    return str(eval_frame._stance.stance)


def is_disabled(fn: Any) -> bool:
    """Whether ``fn`` is under ``torch.compiler.disable``."""
    if isinstance(fn, eval_frame.OptimizedModule):  # what `disable` makes of a module, too
        return isinstance(fn.dynamo_ctx, eval_frame.DisableContext)
    return bool(getattr(fn, "_torchdynamo_disable", False))


def original_of(fn: Any) -> Any | None:
    """What ``torch.compile`` wrapped to give ``fn``; ``None`` where it did not."""
    if is_disabled(fn):
        return None
    if isinstance(fn, eval_frame.OptimizedModule):
        return fn._orig_mod
    if isinstance(fn, torch.nn.Module):
        return None
    own: Mapping[str, Any] = getattr(fn, "__dict__", {})
    return own.get("_torchdynamo_orig_callable")


def plain_call(module: torch.nn.Module) -> Callable[..., Any]:
    """The call of a module with its hooks, uncompiled: what ``module.compile()`` compiles."""
    return module._call_impl


def compiled_in_place(module: torch.nn.Module) -> bool:
    """Whether ``module.compile()`` was called."""
    return getattr(module, "_compiled_call_impl", None) is not None
