"""What a source calls its pipeline with, and the cases in which its calls differ."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.errors import SourceError, UsageError

OWN = ("prompts", "cases", "steps", "height", "width", "guidance", "seed")
"""The words of ``call_defaults`` that are no argument of a pipeline's call.  No single case may
have them: all are timed and compared at one size and number of steps.
"""
_WRITTEN_AS = {
    "num_inference_steps": "write it as `steps`",
    "guidance_scale": "write it as `guidance`",
    "generator": "each call gets a new one, made from `seed`",
    "return_dict": "what a call returns is read by pytest-diffspeed",
}


@dataclass(frozen=True)
class CallDefaults:
    """What a source calls its pipeline with; sizes in pixels, ``None``: the pipeline decides.

    ``arguments`` holds any other arguments of the pipeline's call by their own names: values, or
    functions of the :class:`Case`.  ``cases`` is for calls that differ in more than the prompt: a
    mapping each, with arguments, and ``"name"`` and ``"prompt"`` where it has them; ``prompts``
    alone stand for cases that differ in the prompt only.  With neither there is one case.

    Raises:
        UsageError: a value that no pipeline could be called with.
    """

    prompts: tuple[str, ...]
    steps: int
    height: int | None = None
    width: int | None = None
    guidance: float | None = None
    seed: int = 0
    arguments: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(p, str) and p.strip() for p in self.prompts):
            raise UsageError(f"prompts must be one or more non-empty texts, not {self.prompts!r}")
        for name, least in (("steps", 1), ("height", 1), ("width", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is None and name in ("height", "width"):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(
                    f"{name} must be a whole number of at least {least}, not {value!r}"
                )
        if self.guidance is not None and (
            isinstance(self.guidance, bool) or not isinstance(self.guidance, (int, float))
        ):
            raise UsageError(f"guidance must be a number, not {self.guidance!r}")
        _check_arguments(self.arguments)
        self._check_cases()

    @classmethod
    def from_mapping(cls, own: Mapping[str, Any], general: CallDefaults) -> CallDefaults:
        """``call_defaults`` as users write them, over ``general``.

        Raises:
            UsageError: a value that no pipeline could be called with.
        """
        if not all(isinstance(name, str) for name in own):
            raise UsageError(f"its names must be texts, not {', '.join(map(repr, own))}")
        words = {name: value for name, value in own.items() if name in OWN}
        arguments = {name: value for name, value in own.items() if name not in OWN}
        if "prompts" in words:
            given = words["prompts"]
            words["prompts"] = (given,) if isinstance(given, str) else tuple(given)
            if not words["prompts"]:
                raise UsageError("prompts must be one or more non-empty texts, not ()")
        if "cases" in words:
            given = words["cases"]
            words["cases"] = tuple(given) if isinstance(given, (list, tuple)) else given
            words.setdefault("prompts", ())
        return replace(general, arguments={**general.arguments, **arguments}, **words)

    def overridden(
        self, *, steps: int | None = None, prompts: tuple[str, ...] | None = None
    ) -> CallDefaults:
        """With what the command line gives instead.

        Raises:
            UsageError: prompts, where the source gives cases that have more than a prompt.
        """
        changed = self
        if steps is not None:
            changed = replace(changed, steps=steps)
        if prompts:
            if self.cases:
                raise UsageError(
                    "--diffspeed-prompts has nothing to replace: the `call_defaults` of this "
                    "source give `cases`, each with inputs of its own"
                )
            changed = replace(changed, prompts=prompts)
        return changed

    def inputs(self) -> tuple[Case, ...]:
        """The cases, each with the first seed."""
        if self.cases:
            return tuple(
                Case(
                    case.get("prompt"),
                    self.seed,
                    name=case.get("name") or case.get("prompt") or f"case {number + 1}",
                    number=number,
                    arguments={k: v for k, v in case.items() if k not in ("name", "prompt")},
                )
                for number, case in enumerate(self.cases)
            )
        if self.prompts:
            return tuple(Case(p, self.seed, number=n) for n, p in enumerate(self.prompts))
        return (Case(None, self.seed),)

    def _check_cases(self) -> None:
        if not isinstance(self.cases, tuple) or not all(isinstance(c, Mapping) for c in self.cases):
            raise UsageError(
                "cases must be a list of mappings, one for each case, such as "
                f"[{{'name': 'fox', 'image': fox}}, …], not {self.cases!r:.100}"
            )
        if self.cases and self.prompts:
            raise UsageError(
                "give prompts or cases, not both; a case may have a 'prompt' of its own"
            )
        for number, case in enumerate(self.cases):
            where = f"cases[{number}]: "
            for word in ("name", "prompt"):
                value = case.get(word)
                if word in case and not (isinstance(value, str) and value.strip()):
                    raise UsageError(f"{where}its {word} must be a non-empty text, not {value!r}")
            for word in OWN:
                if word in case:
                    raise UsageError(
                        f"{where}{word} is the same for all cases; write it beside `cases`"
                    )
            _check_arguments({k: v for k, v in case.items() if k != "prompt"}, where)
        names = [case.name for case in self.inputs()]
        double = sorted(name for name in set(names) if names.count(name) > 1)
        if self.cases and double:
            raise UsageError(
                f"cases need names that differ, and {', '.join(map(repr, double))} stands there "
                "more than once; give each a 'name'"
            )


@dataclass(frozen=True)
class Case:
    """One thing to draw: from certain inputs, and from the latents and the noise of a seed.

    ``name`` says in lines and reports which inputs these are (the prompt, where nothing else is
    given), ``number`` counts the inputs of a source from 0, and ``arguments`` are those of the
    pipeline's call that only this case has.
    """

    prompt: str | None
    seed: int
    name: str = ""
    number: int = field(default=0, compare=False)
    arguments: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", self.prompt or f"case {self.number + 1}")

    def evaluated(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """``given``, and over it what only this case has; functions are called with this case.

        Raises:
            SourceError: a function raised.
        """
        merged = {**given, **self.arguments}
        return {name: self._value_of(name, value) for name, value in merged.items()}

    def _value_of(self, name: str, value: Any) -> Any:
        if not (inspect.isroutine(value) or isinstance(value, functools.partial)):
            return value
        try:
            return value(self)
        except Exception as error:
            raise SourceError(
                f"the function that gives `{name}` raised for the case {self.name!r}: "
                f"{type(error).__name__}: {error}; it is called with the case alone, which has "
                "`name`, `number`, `prompt` and `seed`"
            ) from error


def image_cases(defaults: CallDefaults, at_least: int) -> tuple[Case, ...]:
    """All inputs with the same seeds, as few as give ``at_least`` outputs.

    Seeds go on from that of ``defaults``; the first input with the first seed comes first.
    """
    inputs = defaults.inputs()
    seeds = -(-at_least // len(inputs))
    return tuple(
        replace(case, seed=defaults.seed + offset) for offset in range(seeds) for case in inputs
    )


def _check_arguments(arguments: Mapping[str, Any], where: str = "") -> None:
    for name, why in _WRITTEN_AS.items():
        if name in arguments:
            raise UsageError(f"{where}{name} cannot be given as an argument: {why}")
