"""Pipeline sources: ``demo``, a hub id, a local folder, ``package.module:factory``, ``random:…``.

A source builds the same float32 pipeline each time it is asked, so that every arm starts from the
weights that the baseline has.
"""

from __future__ import annotations

import difflib
import importlib
import linecache
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..common.errors import AbsentSourceError, DiffspeedError, SourceError, UsageError, nearest
from ..common.paths import short_path
from ..common.quiet import third_party
from .added_sources import added_sources
from .cases import OWN, CallDefaults
from .load_errors import explain_load_error
from .signature import general_defaults

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

WAYS = (
    "'demo', a hub id such as 'stabilityai/stable-diffusion-xl-base-1.0', a local folder, "
    "'package.module:factory' or 'random:<name>'"
)


class PipelineSource(ABC):
    """Where a pipeline comes from.  ``name`` is what the user wrote."""

    name: str
    NEXT_STEP: ClassVar[str] = ""
    """What to do where the load fails for a reason that we have no better advice for."""

    @abstractmethod
    def defaults(self, pipeline: DiffusionPipeline) -> CallDefaults:
        """Prompts, steps, size and guidance for this source's pipeline."""

    def import_code(self) -> None:  # noqa: B027  most have no code of their own
        """Import what building it takes of the user's code, and build nothing.

        Raises:
            SourceError: as :meth:`build`.
        """

    def require_there(self) -> None:  # noqa: B027  most are only found by loading them
        """What can be said before torch is imported.

        Raises:
            SourceError: as :meth:`build`.
        """

    def build(self, shared: Mapping[str, Any] | None = None) -> DiffusionPipeline:
        """A new float32 pipeline on the CPU, in evaluation mode, without progress bars.

        ``shared`` holds components of an earlier build that the new one may use as they are
        instead of loading them again.

        Raises:
            SourceError: with the reason and the next step in one sentence.
        """
        with third_party():
            from diffusers import DiffusionPipeline
        with self._explained():
            pipeline = self._load(dict(shared or {}))
        if not isinstance(pipeline, DiffusionPipeline):
            raise SourceError(
                f"pipeline source {self.name!r}: it gave {_kind(pipeline)}, not a diffusers "
                "pipeline; return an instance of diffusers.DiffusionPipeline"
            )
        from .bare import why_not_bare
        from .components import floating_dtypes, modules

        if not modules(pipeline):
            raise SourceError(
                f"pipeline source {self.name!r}: {type(pipeline).__name__} has no component with "
                "weights, so there is nothing to measure"
            )
        changed = why_not_bare(pipeline)
        if changed is not None:
            raise SourceError(f"pipeline source {self.name!r}: {changed}")
        other = {
            f"{name} in {', '.join(sorted(set(dtypes) - {'torch.float32'}))}"
            for name, dtypes in floating_dtypes(pipeline).items()
            if set(dtypes) - {"torch.float32"}
        }
        if other:
            raise SourceError(
                f"pipeline source {self.name!r}: it gave {'; '.join(sorted(other))}; the baseline "
                "and every stack start from float32, so load it with `dtype=torch.float32`"
            )
        pipeline.set_progress_bar_config(disable=True)
        for part in modules(pipeline).values():
            part.eval()
        return pipeline

    @abstractmethod
    def _load(self, shared: dict[str, Any]) -> object:
        """Load or make the pipeline; may raise anything."""

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what a load may raise into one sentence with a next step."""
        try:
            yield
        except DiffspeedError:
            raise
        except Exception as error:
            raise SourceError(
                f"pipeline source {self.name!r}: {explain_load_error(error, self.NEXT_STEP)}"
            ) from error


@dataclass(frozen=True)
class DemoSource(PipelineSource):
    """The trained SDXL-style pipeline that this package carries: 64×64 emoji."""

    name: str = "demo"
    FOLDER: ClassVar[Path] = Path(__file__).with_name("demo_weights")
    PROMPTS: ClassVar[tuple[str, ...]] = (
        "strawberry",
        "tropical fish",
        "sunflower",
        "hamburger",
        "owl",
        "lady beetle",
        "avocado",
        "birthday cake",
    )

    def defaults(self, pipeline: DiffusionPipeline) -> CallDefaults:
        return CallDefaults(self.PROMPTS, steps=20, height=64, width=64, guidance=3.0)

    def _load(self, shared: dict[str, Any]) -> object:
        return load_folder(self.FOLDER, shared)


@dataclass(frozen=True)
class FolderSource(PipelineSource):
    """A folder that ``pipeline.save_pretrained`` wrote."""

    name: str
    folder: Path
    NEXT_STEP: ClassVar[str] = (
        "copy the folder again if a file was cut short, or write it anew with "
        "`pipeline.save_pretrained`"
    )

    def defaults(self, pipeline: DiffusionPipeline) -> CallDefaults:
        return general_defaults(pipeline)

    def require_there(self) -> None:
        if not self.folder.is_dir():
            raise AbsentSourceError(
                f"pipeline source {self.name!r}: there is no such folder; give one that "
                f"`pipeline.save_pretrained` wrote, or another source: {WAYS}"
            )
        if not (self.folder / "model_index.json").is_file():
            raise SourceError(
                f"pipeline source {self.name!r}: the folder has no model_index.json, so it is not "
                "one that `pipeline.save_pretrained` wrote"
            )

    def _load(self, shared: dict[str, Any]) -> object:
        self.require_there()
        return load_folder(self.folder, shared)


@dataclass(frozen=True)
class HubSource(PipelineSource):
    """A repository on the model hub, or its copy in the local cache."""

    name: str
    NEXT_STEP: ClassVar[str] = "see whether `DiffusionPipeline.from_pretrained` alone loads it"

    def defaults(self, pipeline: DiffusionPipeline) -> CallDefaults:
        return general_defaults(pipeline)

    def _load(self, shared: dict[str, Any]) -> object:
        return load_folder(self.name, shared)


@dataclass(frozen=True)
class FactorySource(PipelineSource):
    """``package.module:factory``: a callable without arguments that returns a pipeline.

    If the factory has an attribute ``call_defaults``, calls use it: a mapping with any of
    ``prompts``, ``cases``, ``steps``, ``height``, ``width``, ``guidance`` and ``seed``, and any
    other arguments of the pipeline's call, values or functions of the case (``docs/inputs.md``).
    """

    name: str
    module: str
    attribute: str

    def defaults(self, pipeline: DiffusionPipeline) -> CallDefaults:
        general = general_defaults(pipeline)
        own = getattr(self._factory(), "call_defaults", None)
        if own is None:
            return general
        if not isinstance(own, Mapping):
            raise SourceError(
                f"pipeline source {self.name!r}: its `call_defaults` must be a mapping of "
                f"{', '.join(sorted(OWN))} and arguments of the pipeline's call, not {own!r}"
            )
        try:
            return CallDefaults.from_mapping(own, general)
        except (TypeError, UsageError) as error:
            raise SourceError(
                f"pipeline source {self.name!r}: its `call_defaults` are invalid: {error}"
            ) from None

    def import_code(self) -> None:
        self._factory()

    def _factory(self) -> Callable[[], object]:
        try:
            module = importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name is None or not (self.module + ".").startswith(error.name + "."):
                raise self._raised(f"importing {self.module!r}", error) from error
            raise AbsentSourceError(
                f"pipeline source {self.name!r}: there is no module {error.name!r} on the import "
                f"path of {sys.executable}; run `python -m pytest` in the folder that holds it "
                "(plain `pytest` does not look there), or install it"
            ) from None
        except Exception as error:
            raise self._raised(f"importing {self.module!r}", error) from error
        factory = module
        for part in self.attribute.split("."):
            if not hasattr(factory, part):
                own = [
                    name
                    for name, value in getattr(factory, "__dict__", {}).items()
                    if callable(value) and getattr(value, "__module__", None) == self.module
                ]
                raise AbsentSourceError(
                    f"pipeline source {self.name!r}: module {self.module!r} has no "
                    f"{self.attribute!r}; {nearest(part, own) if own else 'it defines nothing'}"
                )
            factory = getattr(factory, part)
        if not callable(factory):
            raise SourceError(
                f"pipeline source {self.name!r}: {self.attribute!r} is {_kind(factory)}, which "
                "cannot be called; name a function without arguments that returns a pipeline"
            )
        return factory

    def _load(self, shared: dict[str, Any]) -> object:
        factory = self._factory()
        try:
            return factory()
        except Exception as error:
            raise self._raised("the factory", error) from error

    def _raised(self, what: str, error: Exception) -> SourceError:
        """Names the line of the user's package that the error went through last."""
        where, place, source = "", None, None
        trace = error.__traceback__
        while trace is not None:
            module = str(trace.tb_frame.f_globals.get("__name__"))
            if module.partition(".")[0] == self.module.partition(".")[0]:
                file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
                where, place = f" at {file}:{line}", f"{short_path(file)}:{line}"
                source = linecache.getline(file, line).strip() or None
            trace = trace.tb_next
        why = explain_load_error(error)
        return SourceError(
            f"pipeline source {self.name!r}: {what} raised{where}: {why}",
            clause=f"{self.name!r}: {why}",
            place=place,
            source=source,
        )


@dataclass(frozen=True)
class RandomSource(PipelineSource):
    """Random weights at a real architecture's size: timing needs shapes, not weights."""

    name: str
    architecture: str

    def defaults(self, pipeline: DiffusionPipeline) -> CallDefaults:
        return general_defaults(pipeline)

    def _load(self, shared: dict[str, Any]) -> object:
        from . import random_weights

        return random_weights.build(self.architecture, shared=shared)


@dataclass(frozen=True)
class SmallSource(PipelineSource):
    """Random weights in a small pipeline of a class of diffusers: structure needs no size."""

    name: str
    recipe: str

    def defaults(self, pipeline: DiffusionPipeline) -> CallDefaults:
        from . import zoo

        recipe = zoo.recipes()[self.recipe]
        general = general_defaults(pipeline)
        written = {"height": "height", "width": "width", "guidance_scale": "guidance"}
        own = {written[name]: value for name, value in recipe.call.items() if name in written}
        return replace(
            general,
            prompts=general.prompts if recipe.prompted else (),
            steps=recipe.steps,
            arguments={k: v for k, v in recipe.call.items() if k not in written},
            **own,
        )

    def _load(self, shared: dict[str, Any]) -> object:
        from . import zoo

        return zoo.build(self.recipe, shared=shared)


def _random_source(text: str) -> PipelineSource:
    from . import random_weights, zoo

    name = text.partition(":")[2]
    if name in random_weights.names():
        return RandomSource(text, name)
    if name in zoo.names():
        return SmallSource(text, name)
    near = difflib.get_close_matches(name, (*random_weights.names(), *zoo.names()), n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    raise SourceError(
        f"pipeline source {text!r}: there is no random-weight pipeline {name!r}; {hint}Valid: "
        f"{', '.join(random_weights.names())}, and {len(zoo.names())} small pipelines by the name "
        "of their class, such as random:FluxPipeline (docs/pipelines.md lists them)."
    )


def parse_source(text: str) -> PipelineSource:
    """What ``--diffspeed-pipeline`` or ``diffspeed(pipeline=…)`` names; nothing is loaded yet.

    Raises:
        SourceError: the text is none of the forms.
        UsageError: the source of an installed package makes no sense.
    """
    text = text.strip()
    if text == "demo":
        return DemoSource()
    prefix, _, rest = text.partition(":")
    make = added_sources().get(prefix)
    if make is not None:
        return _plugged_in(text, make, rest)
    if text.startswith("random:"):
        return _random_source(text)
    try:
        folder = Path(text).expanduser()
    except RuntimeError as error:  # "~nobody": there is no such user
        raise SourceError(f"pipeline source {text!r}: {error}; valid: {WAYS}") from None
    if (text and folder.is_dir()) or text.startswith(("/", "./", "../", "~")):
        return FolderSource(text, folder)
    module, colon, attribute = text.partition(":")
    names = [*module.split("."), *attribute.split(".")]
    if colon and all(word.isidentifier() for word in names):
        return FactorySource(text, module, attribute)
    if text.count("/") == 1 and all(text.split("/")) and " " not in text and not colon:
        return HubSource(text)
    raise SourceError(f"pipeline source {text!r}: there is no such thing; valid: {WAYS}")


def _plugged_in(text: str, make: Callable[[str], object], rest: str) -> PipelineSource:
    try:
        source = make(rest)
    except DiffspeedError as error:
        raise SourceError(f"pipeline source {text!r}: {error}") from error
    except Exception as error:
        raise SourceError(
            f"pipeline source {text!r}: the plug-in raised {type(error).__name__}: {error}"
        ) from error
    if not isinstance(source, PipelineSource):
        raise SourceError(
            f"pipeline source {text!r}: the plug-in gave {_kind(source)}, not a PipelineSource"
        )
    return source


def load_folder(where: str | Path, shared: dict[str, Any]) -> object:
    """``DiffusionPipeline.from_pretrained`` in float32."""
    with third_party():
        import torch
        from diffusers import DiffusionPipeline

        from ..adapters.diffusers_internals import dtype_word

        return DiffusionPipeline.from_pretrained(where, **{dtype_word(): torch.float32}, **shared)


def _kind(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
