"""Watch the steps of every scheduler that a call runs: by class, so that none is missed.

A wrapper on one instance is copied by ``copy.deepcopy(self.scheduler)`` (LTX-2, Cosmos 3,
Kandinsky 6 and SkyReels-V2 in diffusers 0.42), and the copy then steps the original; a second
scheduler made in the call has no wrapper at all.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from ..adapters.attributes import replaced
from .parts import OUR_NOTES

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

ENDS_STEP = ("step", "step_pred")
"""What ends a denoising step; ``step_pred`` is that of the score-based SDE schedulers."""
STEP_METHODS = (*ENDS_STEP, "step_correct", "scale_model_input")
"""What belongs to the scope ``scheduler.step``."""

Around = Callable[[Any, str, Callable[..., Any]], Callable[..., Any]]
"""``around(scheduler, method, function)`` gives what is called instead of ``function``, which is
the scheduler's own method, bound."""


def is_scheduler(thing: object) -> bool:
    """Whether it steps: it has a ``set_timesteps`` and a ``step``, of whatever class."""
    return (
        not inspect.isclass(thing)
        and callable(getattr(thing, "set_timesteps", None))
        and any(callable(getattr(thing, name, None)) for name in ENDS_STEP)
    )


def schedulers_of(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """The schedulers that hang on a pipeline and on pipelines inside it, each object once.

    By dotted name: ``"scheduler"``, ``"prior_pipe.scheduler"``, ``"schedulers.1"`` of a list.
    """
    found: dict[str, Any] = {}
    for name, thing in _parts(pipeline, "", set()):
        if is_scheduler(thing) and all(thing is not known for known in found.values()):
            found[name] = thing
    return found


def _parts(holder: object, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    """What hangs on pipelines and in their lists and dicts.

    Less than :func:`.parts.named_parts` finds, which looks into every object (tokenizers,
    processors): that takes 6 ms for SDXL, and schedulers are looked up around every watched call.
    """
    from diffusers import DiffusionPipeline

    if id(holder) in seen:
        return
    seen.add(id(holder))
    if isinstance(holder, DiffusionPipeline):
        own = list(vars(holder).items())
        items: Iterable[tuple[Any, Any]] = [
            item for item in own if not item[0].startswith(OUR_NOTES)
        ]
    elif isinstance(holder, dict):
        items = list(holder.items())
    elif isinstance(holder, (list, tuple)):
        items = list(enumerate(holder))
    else:
        return
    for key, thing in items:
        yield f"{prefix}{key}", thing
        yield from _parts(thing, f"{prefix}{key}.", seen)


@contextmanager
def watch_schedulers(
    around: Around, schedulers: Iterable[Any] = (), methods: Iterable[str] = STEP_METHODS
) -> Iterator[None]:
    """While this is open, ``methods`` of every scheduler go through ``around``.

    Watched are all classes that derive from diffusers' ``SchedulerMixin``, those that are made or
    imported while this is open too, and the classes of ``schedulers``; of the latter also methods
    that somebody put on the instance itself (a compiled ``step``).  What a method calls of the same
    name (``super().step``) is a part of it and is not told again.  Signatures stay, since pipelines
    read them.  Afterwards classes and instances are as before.
    """
    watch = _Watch(around, tuple(methods))
    with ExitStack() as stack:
        stack.callback(watch.close)
        stack.enter_context(watch.later_classes())
        for known in _subclasses(watch.mixin):
            watch.add_class(known)
        for scheduler in schedulers:
            watch.add_class(type(scheduler))
            for name in watch.methods:
                own = getattr(scheduler, "__dict__", {}).get(name)
                if callable(own):
                    on_instance = watch.on_instance(scheduler, name, own)
                    stack.enter_context(replaced(scheduler, name, on_instance))
        yield


def telling(begins: Callable[[Any, str], object], ends: Callable[[Any, str], object]) -> Around:
    """An ``around`` that tells ``(scheduler, method)`` when a call begins and when it ends."""

    def around(scheduler: Any, method: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def told(*args: Any, **kwargs: Any) -> Any:
            begins(scheduler, method)
            try:
                return function(*args, **kwargs)
            finally:
                ends(scheduler, method)

        return told

    return around


@contextmanager
def state_restored(schedulers: Iterable[Any]) -> Iterator[None]:
    """Whatever runs meanwhile, the schedulers are then where they were.

    They stay the same objects and run on copies of what they hold (timesteps, tables, earlier
    outputs), so functions that are bound to one of them still reach it.
    """
    with ExitStack() as stack:
        for scheduler in schedulers:
            own = getattr(scheduler, "__dict__", None)
            if own is None:
                continue
            before = dict(own)
            memo = {id(scheduler): scheduler}
            own.update({name: _copied(value, memo) for name, value in before.items()})
            stack.callback(_put_back, own, before)
        yield


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception:  # generators and noise samplers of some: what cannot be copied is shared
        return value


def _put_back(own: dict[str, Any], before: dict[str, Any]) -> None:
    own.clear()
    own.update(before)


def _subclasses(known: type[Any]) -> Iterator[type[Any]]:
    yield known
    for child in known.__subclasses__():
        yield from _subclasses(child)


class _Watch:
    def __init__(self, around: Around, methods: tuple[str, ...]) -> None:
        from diffusers import SchedulerMixin

        self.mixin: type[Any] = SchedulerMixin
        self.methods = methods
        self._around = around
        self._open = True
        self._done: set[type[Any]] = set()
        self._changed: list[tuple[type[Any], str, Any, Any]] = []
        self._inside = threading.local()

    def add_class(self, known: type[Any]) -> None:
        """Wrap what the class and its bases define themselves."""
        for base in known.__mro__[:-1]:
            if base in self._done:
                continue
            self._done.add(base)
            for name in self.methods:
                original = vars(base).get(name)
                if original is not None:
                    watched = self._method(name, original)
                    setattr(base, name, watched)
                    self._changed.append((base, name, original, watched))

    @contextmanager
    def later_classes(self) -> Iterator[None]:
        """Wrap the classes that a call makes or imports."""
        mixin, own = self.mixin, vars(self.mixin).get("__init_subclass__")

        def init_subclass(cls: type[Any], /, **kwargs: Any) -> None:
            if own is None:
                super(mixin, cls).__init_subclass__(**kwargs)
            else:
                own.__get__(None, cls)(**kwargs)
            self.add_class(cls)

        setattr(mixin, "__init_subclass__", classmethod(init_subclass))  # noqa: B010 (mypy)
        try:
            yield
        finally:
            if own is None:
                del mixin.__init_subclass__
            else:
                setattr(mixin, "__init_subclass__", own)  # noqa: B010 (mypy)

    def on_instance(self, scheduler: Any, name: str, own: Callable[..., Any]) -> Any:
        """``own``, which stands on the instance itself, watched.

        A method that is bound to the instance stays one, since ``copy.deepcopy`` binds those to the
        copy.
        """
        if isinstance(own, types.MethodType) and own.__self__ is scheduler:
            return types.MethodType(self._method(name, own.__func__), scheduler)

        @functools.wraps(own)
        def watched(*args: Any, **kwargs: Any) -> Any:
            return self._call(scheduler, name, own, args, kwargs)

        return watched

    def _method(self, name: str, original: Any) -> Callable[..., Any]:
        @functools.wraps(original)
        def watched(scheduler: Any, /, *args: Any, **kwargs: Any) -> Any:
            function = original.__get__(scheduler, type(scheduler))
            return self._call(scheduler, name, function, args, kwargs)

        return watched

    def _call(
        self,
        scheduler: Any,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        inside = self._names_inside()
        if not self._open or inside[name]:
            return function(*args, **kwargs)
        inside[name] += 1
        try:
            return self._around(scheduler, name, function)(*args, **kwargs)
        finally:
            inside[name] -= 1

    def _names_inside(self) -> Counter[str]:
        """The methods that this thread is in."""
        if not hasattr(self._inside, "names"):
            self._inside.names = Counter()
        names: Counter[str] = self._inside.names
        return names

    def close(self) -> None:
        """Put the classes back.  A copy of an instance may have kept one of our methods, which is
        then a plain call of what it stands for.
        """
        self._open = False
        for base, name, original, watched in reversed(self._changed):
            if vars(base).get(name) is watched:
                setattr(base, name, original)
