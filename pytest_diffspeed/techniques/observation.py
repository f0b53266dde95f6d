"""What untimed calls of a pipeline showed.  Plain values: nothing here imports torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DENOISER = "denoiser"
"""In :meth:`Observation.part`: all denoisers of a pipeline together, whatever their names."""

# Attention by one fused kernel.  The names are those of aten; which of them exist depends on the
# device (torch 2.13 and 2.14).
FUSED_ATTENTION = frozenset(
    {
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_fused_attention_overrideable",
        "_scaled_dot_product_attention_math_for_mps",
        "_flash_attention_forward",
        "_efficient_attention_forward",
        "_cudnn_attention_forward",
    }
)
# `scaled_dot_product_attention` by the MATH backend is matrix products around this softmax.
MATH_ATTENTION = "_safe_softmax"
SDPA = FUSED_ATTENTION | {MATH_ATTENTION}
PLAIN_SOFTMAX = "_softmax"


@dataclass(frozen=True)
class ConvolutionInputs:
    """Layouts of what the convolutions of one part got, those of rank 4 and 5.

    ``other`` are inputs in another layout than channels-last.  Not counted are inputs of one
    channel or one pixel, and kernels of one pixel: these are in all layouts at once.  ``patches``
    are inputs, in another layout, of convolutions whose stride is their kernel: they cut up what
    comes into a transformer.
    """

    channels_last: int = 0
    other: int = 0
    patches: int = 0

    def __bool__(self) -> bool:
        return bool(self.channels_last or self.other or self.patches)


@dataclass(frozen=True)
class PartOps:
    """The ops that one part of a pipeline ran in an eager call, by aten name without overload.

    ``op_dtypes`` counts matrix products, convolutions and fused attention by their floating dtype;
    ``gemms`` is the number of matrix products without the batched ones outside of linear layers,
    which unfused attention uses; ``attention`` counts fused attention ops and softmaxes.
    ``narrow_products`` are the matrix products in 8 bits by ``"int8"`` and ``"float8"`` and by the
    path of the module, ``widened`` the conversions of tensors of at least two dimensions, which
    weights are, from these to a wider floating dtype.  ``op_places`` are the same ops as
    ``op_dtypes``, by dtype and by the path of the innermost module that ran them
    (``"mid_block.resnets.0.conv1"``); ``sdpa_places`` are calls of
    ``scaled_dot_product_attention`` by such paths.
    ``arithmetic`` counts matrix products (those in 8 bits too), convolutions and fused attention
    by such paths, and ``entered`` how often each module was called, whether it computed anything
    or not.
    """

    op_dtypes: Mapping[str, int] = field(default_factory=dict)
    attention: Mapping[str, int] = field(default_factory=dict)
    gemms: int = 0
    convolutions: ConvolutionInputs = ConvolutionInputs()
    op_places: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    sdpa_places: Mapping[str, int] = field(default_factory=dict)
    arithmetic: Mapping[str, int] = field(default_factory=dict)
    entered: Mapping[str, int] = field(default_factory=dict)
    narrow_products: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    widened: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def __add__(self, other: PartOps) -> PartOps:
        def total(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
            return dict(Counter(first) + Counter(second))

        def each(
            first: Mapping[str, Mapping[str, int]], second: Mapping[str, Mapping[str, int]]
        ) -> dict[str, Mapping[str, int]]:
            return {
                key: total(first.get(key, {}), second.get(key, {})) for key in {**first, **second}
            }

        own, more = self.convolutions, other.convolutions
        return PartOps(
            total(self.op_dtypes, other.op_dtypes),
            total(self.attention, other.attention),
            self.gemms + other.gemms,
            ConvolutionInputs(
                own.channels_last + more.channels_last,
                own.other + more.other,
                own.patches + more.patches,
            ),
            each(self.op_places, other.op_places),
            total(self.sdpa_places, other.sdpa_places),
            total(self.arithmetic, other.arithmetic),
            total(self.entered, other.entered),
            each(self.narrow_products, other.narrow_products),
            each(self.widened, other.widened),
        )

    def products_at(self, path: str) -> int:
        """Products, convolutions and fused attention of floating dtypes that one module ran."""
        return sum(places.get(path, 0) for places in self.op_places.values())

    @property
    def sdpa_calls(self) -> int:
        """Calls of ``scaled_dot_product_attention``, whatever computed them."""
        return sum(count for name, count in self.attention.items() if name in SDPA)


@dataclass(frozen=True)
class LinearCalls:
    """One linear layer in one call of the pipeline.

    ``rows`` are the rows of each input (all leading dimensions multiplied), in order.
    """

    in_features: int
    out_features: int
    rows: tuple[int, ...]

    @property
    def flops(self) -> int:
        """Two for each multiply-add; the bias is not counted."""
        return 2 * self.in_features * self.out_features * sum(self.rows)


@dataclass(frozen=True)
class SchedulerCalls:
    """What a pipeline did with its scheduler in one call.

    ``table_devices`` are the devices of the tensors named ``sigmas`` and the like after
    ``set_timesteps``; ``begin_index_after`` is the begin index that ``set_timesteps`` left behind.
    ``pipeline_sets_begin`` counts calls of ``set_begin_index`` from outside the scheduler,
    ``index_lookups`` those of ``index_for_timestep``, which reads a value from the device.
    ``starts_at_first`` says whether the first step was at ``timesteps[0]``; ``None``: no step.
    ``stepped`` counts the steps by the class of the scheduler, whichever it was, and ``config`` is
    the configuration of the last one that stepped.
    """

    table_devices: Mapping[str, str] = field(default_factory=dict)
    begin_index_after: int | None = None
    pipeline_sets_begin: int = 0
    index_lookups: int = 0
    starts_at_first: bool | None = None
    stepped: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class CallSteps:
    """The denoising steps of a whole call: how many ``ran``.

    ``told`` are the numbers that ``set_timesteps`` of its schedulers was called with, and
    ``entries`` how many timesteps these had afterwards, all together.
    """

    ran: int
    told: tuple[int, ...] = ()
    entries: int = 0


@dataclass(frozen=True)
class CompiledPart:
    """One part of a pipeline in a profiler trace of a call after compilation.

    ``frames`` counts the runs of each compiled frame, by dynamo's number, ``compilations`` are its
    numbers of those whose code ran (``"2/1"``), ``resumed`` counts the runs of what follows a graph
    break, and ``graph_calls`` those of inductor's graphs; ``eager_ops`` are
    the matrix products, convolutions and fused attentions that ran inside the part and outside of
    compiled code; ``attention`` are the fused attention ops and ``narrow_products`` the matrix
    products in 8 bits, wherever they ran: those that the compiler wrote a kernel for have no such
    name and are not among them.  ``blocks``, by their paths in the part, are those that are
    compiled by themselves where the part as a whole is not: all but ``calls``, ``attention`` and
    ``narrow_products`` is then of what ran beside them.
    """

    calls: int = 0
    frames: Mapping[int, int] = field(default_factory=dict)
    compilations: frozenset[str] = frozenset()
    resumed: int = 0
    graph_calls: int = 0
    eager_ops: Mapping[str, int] = field(default_factory=dict)
    attention: Mapping[str, int] = field(default_factory=dict)
    blocks: Mapping[str, CompiledBlock] = field(default_factory=dict)
    narrow_products: Mapping[str, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        return sum(self.frames.values())

    def ran_older_code(self, begun: Mapping[int, int]) -> bool:
        """Whether code ran in it, or in its blocks, that was compiled when dynamo had ``begun`` so
        many compilations of each frame.
        """
        each = (self, *self.blocks.values())
        numbers = (number.split("/") for one in each for number in one.compilations)
        return any(int(nth) < begun.get(int(frame), 0) for frame, nth in numbers)


@dataclass(frozen=True)
class CompiledBlock(CompiledPart):
    """A block that is compiled by itself: one instance of the class ``kind``.

    What is compiled for one instance of a class serves all.  ``shapes`` are what each call was
    given, in words, and the shapes of its own weights: what a compilation may hold for.
    """

    kind: str = ""
    shapes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CudaGraphs:
    """CUDA graphs while a stack compiled and ran: skipped by inductor, and launched in a trace."""

    skips: int = 0
    reasons: tuple[str, ...] = ()
    launches: int = 0


@dataclass(frozen=True)
class Observation:
    """What untimed calls of ``steps`` denoising steps showed, to prove techniques by.

    Parts go by the pipeline's own names: ``denoisers`` are those that ran in the steps (``unet``,
    ``transformer_2``), beside them stands the VAE.  ``parts`` and ``linears`` (by
    ``part.path.of.the.layer``) are of a call before compilation, ``convolution_flops`` too (by such
    paths), ``compiled`` of one after it (the VAE as ``vae.decode``); ``None`` where nothing was to
    compile.  ``before`` is
    the same of the untouched pipeline, for techniques that set ``watches``.  ``sets_processors``
    are the parts that found other attention processors in the call than they had before it.
    ``call_steps`` are those of a whole call, counted for techniques that change the schedule.
    ``own`` has what techniques watched for themselves, by their names.
    ``calls_in_steps`` says of each part how often it was called in each step in which it was.

    A technique of the family ``CACHE`` gets whole calls: ``before`` is then one of the pipeline
    with all of the stack that is eager, but without it.
    """

    parts: Mapping[str, PartOps] = field(default_factory=dict)
    linears: Mapping[str, LinearCalls] = field(default_factory=dict)
    convolution_flops: Mapping[str, int] = field(default_factory=dict)
    scheduler: SchedulerCalls | None = None
    compiled: Mapping[str, CompiledPart] | None = None
    cuda_graphs: CudaGraphs = CudaGraphs()
    before: Observation | None = None
    steps: int = 0
    sets_processors: frozenset[str] = frozenset()
    denoisers: tuple[str, ...] = ()
    call_steps: CallSteps | None = None
    own: Mapping[str, Any] = field(default_factory=dict)
    calls_in_steps: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def op_dtypes(self) -> Counter[str]:
        """Dtypes of the arithmetic of all parts."""
        total: Counter[str] = Counter()
        for part in self.parts.values():
            total.update(part.op_dtypes)
        return total

    @property
    def gemms(self) -> int:
        return sum(part.gemms for part in self.parts.values())

    def part(self, name: str) -> PartOps:
        """Of one part; of ``"denoiser"``, of all denoisers together."""
        if name == DENOISER and name not in self.parts:
            return sum((self.part(own) for own in self.denoisers), PartOps())
        return self.parts.get(name, PartOps())
