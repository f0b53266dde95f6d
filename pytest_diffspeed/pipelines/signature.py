"""Which arguments the call of a pipeline takes, looked for behind ``**kwargs``."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from ..common.errors import SourceError, nearest
from .cases import OWN, CallDefaults

_LIBRARY = "diffusers"


@dataclass(frozen=True)
class CallSignature:
    """What a call takes by name; ``pipeline`` is the name of its class.

    ``open`` says that what is behind a ``**kwargs`` cannot be known, so anything may be taken.
    """

    pipeline: str
    parameters: dict[str, Parameter]
    open: bool

    def takes(self, name: str) -> bool:
        """Whether an argument of this name is one of the call's own."""
        return name in self.parameters

    def may_take(self, name: str) -> bool:
        """Whether an argument of this name arrives somewhere, as far as can be known."""
        return self.open or self.takes(name)

    def missing(self, given: Container[str]) -> list[str]:
        """The arguments without which the call is a ``TypeError``, and which are not given."""
        return [
            name
            for name, parameter in self.parameters.items()
            if parameter.default is Parameter.empty and name not in given
        ]

    def default(self, name: str) -> Any:
        """What stands there where nothing is given, or ``None``."""
        parameter = self.parameters.get(name)
        if parameter is None or parameter.default is Parameter.empty:
            return None
        return parameter.default

    def inputs_left_out(self, given: Iterable[str]) -> tuple[str, ...]:
        """Arguments that hold an image, a sound, a label or embeddings, and are not given.

        Many pipelines declare the image that they cannot do without as ``image=None``.
        """
        known = set(given)
        return tuple(
            name
            for name, parameter in self.parameters.items()
            if name not in known
            and parameter.default in (None, Parameter.empty)
            and not name.startswith(("negative_", "callback", "ip_adapter"))
            and any(word in name.split("_") for word in _INPUT_WORDS)
        )


_INPUT_WORDS = ("audio", "frames", "hint", "image", "images", "labels", "mask", "video")


def call_signature(pipeline: object) -> CallSignature:
    """The arguments of ``pipeline(…)``.

    What ``functools.wraps`` wraps is looked at instead of the wrapper.  ``**kwargs`` of a class is
    what the ``__call__`` of its next parent takes.  That of diffusers' own pipelines takes nothing:
    it holds what was deprecated, and whatever else it is given is dropped without a word.
    """
    parameters: dict[str, Parameter] = {}
    is_open = False
    for parent in type(pipeline).__mro__:
        function = vars(parent).get("__call__")
        if function is None:
            continue
        try:
            found = list(inspect.signature(function).parameters.values())[1:]
        except (TypeError, ValueError):  # a callable object that hides its signature
            is_open = True
            break
        for parameter in found:
            if parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
                parameters.setdefault(parameter.name, parameter)
        own = parent.__module__.partition(".")[0] == _LIBRARY
        is_open = not own and any(p.kind is Parameter.VAR_KEYWORD for p in found)
        if not is_open:
            break
    return CallSignature(type(pipeline).__name__, parameters, is_open)


def check_arguments(
    signature: CallSignature,
    defaults: CallDefaults,
    own: Iterable[str],
    given: Mapping[str, Any],
) -> None:
    """Refuse what would not arrive, and a call that lacks something.

    ``own`` names the arguments that the source itself gives, ``given`` holds all of them.

    Raises:
        SourceError: with the argument, and what to write where.
    """
    prompts = any(case.prompt is not None for case in defaults.inputs())
    for word, argument, there in (
        ("prompts", "prompt", prompts),
        ("height", "height", defaults.height is not None),
        ("width", "width", defaults.width is not None),
        ("guidance", "guidance_scale", defaults.guidance is not None),
    ):
        if there and not signature.may_take(argument):
            raise SourceError(
                f"a call of {signature.pipeline} takes no `{argument}`, so {word} would not "
                "arrive; leave it out"
            )
    for name in own:
        if not signature.may_take(name):
            raise SourceError(
                f"a call of {signature.pipeline} takes no `{name}`, so it would not arrive; "
                f"{nearest(name, {*signature.parameters, *OWN} - {'prompt', 'return_dict'})}"
            )
    missing = signature.missing(given)
    if missing:
        words = ", ".join(f'"{"prompts" if name == "prompt" else name}": …' for name in missing)
        raise SourceError(
            f"a call of {signature.pipeline} needs {_named(missing)}; write it into the "
            f"`call_defaults` of a `package.module:factory` source: {{{words}}}, a value or a "
            "function of the case (docs/inputs.md)"
        )


def what_was_given(signature: CallSignature, given: Iterable[str]) -> str:
    """For a first call that failed: what it had, and what of the kind that many cannot do without
    it did not have.
    """
    left_out = signature.inputs_left_out(given)
    without = f", without {_named(left_out)}" if left_out else ""
    return (
        f"it was called with {_named(given)}{without}; further arguments go into the "
        "`call_defaults` of the factory (docs/inputs.md)"
    )


def _named(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


FALLBACK_PROMPTS = (
    "a red apple on a wooden table",
    "a lighthouse in a storm, oil painting",
    "an astronaut riding a horse",
    "a bowl of ramen, top view",
    "a fox in the snow",
    "a city street at night in the rain",
    "a hot air balloon over mountains",
    "a portrait of an old sailor",
)


def general_defaults(pipeline: Any) -> CallDefaults:
    """Prompts and steps for a pipeline of which nothing is known but its call."""
    signature = call_signature(pipeline)
    steps = signature.default("num_inference_steps")
    prompts = FALLBACK_PROMPTS if signature.may_take("prompt") else ()
    return CallDefaults(prompts, steps=steps if isinstance(steps, int) else 20)
