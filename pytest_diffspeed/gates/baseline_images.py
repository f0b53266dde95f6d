"""The baseline's images and how far they are from themselves: drawn once, kept for later."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch

from ..common.errors import MeasurementError
from ..common.text import first_line
from ..evidence.baseline_images import BaselineImageCache
from ..evidence.key import EvidenceKey
from ..pipelines.cases import Case, image_cases
from ..pipelines.fingerprints import code_fingerprint, content_fingerprint
from ..pipelines.kernels import other_kernels
from ..pipelines.outputs import Output
from ..pipelines.sources import FactorySource, parse_source
from ..similarity import SimilarityReport
from ..similarity.presets import HIGHER_IS_BETTER
from ..similarity.report import NOUNS
from ..techniques.stacks import FP32
from .compare_outputs import Outputs, compare_outputs, findings_of

if TYPE_CHECKING:
    from ..arms.prepared_arm import PreparedArm
    from ..arms.session import Session
    from ..techniques.stacks import Stack

LEAST_IMAGES = 8
"""Fewer say little about the worst image that a technique makes."""
PROBED = 2
"""Images that are recomputed to see whether this device repeats itself to the bit."""


@dataclass(frozen=True)
class SelfDistance:
    """What the baseline reaches against itself: the worse of "again" and "with other kernels"."""

    metrics: Mapping[str, tuple[float, float]]
    rmse: float
    again: str
    kernels: str


@dataclass(frozen=True)
class BaselineImages:
    """What candidates are compared with; ``beside`` it, what else each call gave."""

    cases: tuple[Case, ...]
    drawn: Outputs
    floor: SelfDistance
    from_cache: bool
    beside: tuple[BaselineImages, ...] = ()

    @property
    def prompts(self) -> list[str]:
        return [case.name for case in self.cases]

    @property
    def seeds(self) -> list[int]:
        return [case.seed for case in self.cases]


def baseline_of(session: Session, candidate: PreparedArm) -> PreparedArm:
    """What the images of ``candidate`` are compared with."""
    return session.arms.baseline(candidate.spec.source, candidate.spec.stack)


def reference(session: Session, source: str, stack: Stack = FP32) -> BaselineImages:
    """The images of a source's baseline, at least 8, and their floor; it has the adapters that
    ``stack`` carries.

    From this session's memory, else from ``.diffspeed/baseline-images/`` if every byte of the
    weights, the inputs, the versions of the code and the device are the same, else drawn.

    Raises:
        MeasurementError: the baseline draws broken images.
    """
    memo = "baseline images", source, stack.baseline
    known: BaselineImages | None = session.memo.get(memo)
    if known is not None:
        return known
    baseline = session.arms.baseline(source, stack)
    cases = image_cases(baseline.call.defaults, LEAST_IMAGES)
    cache = BaselineImageCache(session.workdir() / "baseline-images")
    key = _key(session, baseline, cases)
    made = _from_arrays(cache.load(key), cases)
    if made is None:
        made = _draw_all(session, baseline, cases)
        cache.save(key, _to_arrays(made))
    session.memo[memo] = made
    return made


def draw(
    session: Session,
    arm: PreparedArm,
    cases: tuple[Case, ...],
    kernels: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Outputs:
    """The images of an arm, one call each.

    Raises:
        MeasurementError: a call raised, or gave no single image, video or sound.
    """
    media: list[torch.Tensor | None] = []
    output: Output | None = None
    latents: torch.Tensor | None = None
    all_shown = True
    for number, case in enumerate(cases):
        session.progress.transient(f"case {number + 1} of {len(cases)}: {arm.spec.stack}")
        with _naming(arm, case):
            with arm.running(), kernels():
                drawn = arm.call.of(case).draw(arm.pipeline)
            output = drawn.output
            given = (output, *output.beside)
            media = media or [None] * len(given)
            if len(given) != len(media):
                raise MeasurementError(
                    f"the pipeline gave {len(media)} media for the first case and {len(given)} for "
                    f"{case.name!r}; only outputs of the same kinds can be compared"
                )
            media = [
                _put(room, one.data, number, len(cases))
                for room, one in zip(media, given, strict=True)
            ]
            if drawn.latents is None:
                all_shown = False
            else:
                latents = _put(latents, drawn.latents, number, len(cases))
    assert output is not None, "unreachable because there are at least two cases"
    images, *others = (room for room in media if room is not None)
    beside = tuple(
        Outputs(room, None, one.sample_rate_hz)
        for room, one in zip(others, output.beside, strict=True)
    )
    shown = latents if all_shown else None
    return Outputs(images, shown, output.sample_rate_hz, output.left_out, beside)


def _put(room: torch.Tensor | None, one: torch.Tensor, place: int, number: int) -> torch.Tensor:
    """Into one tensor for all, since a list that is stacked at the end takes twice the memory.

    Raises:
        MeasurementError: its size is another one than that of those before.
    """
    if room is None:
        room = torch.empty((number, *one.shape), dtype=torch.float32)
    if room.shape[1:] != one.shape:
        raise MeasurementError(
            f"the pipeline gave outputs (or latents) of different sizes, {tuple(room.shape[1:])} "
            f"and {tuple(one.shape)}; only outputs of one size can be compared"
        )
    room[place] = one
    return room


@contextmanager
def _naming(arm: PreparedArm, case: Case) -> Iterator[None]:
    try:
        yield
    except MeasurementError:
        raise
    except Exception as error:
        message = first_line(error)
        raise MeasurementError(
            f"{arm.spec.stack} raised while it drew {case.name!r} (seed {case.seed}): "
            f"{type(error).__name__}: {message}"
        ) from error


def _draw_all(session: Session, baseline: PreparedArm, cases: tuple[Case, ...]) -> BaselineImages:
    session.progress.line(
        f"drawing {len(cases)} cases of {baseline.spec.source} with {baseline.spec.stack}, and "
        "again with other kernels; they are kept until weights, inputs or versions change"
    )
    first = draw(session, baseline, cases)
    for one in (first, *first.beside):
        for finding in findings_of(one):
            case = cases[finding.image]
            raise MeasurementError(
                f"the baseline's {NOUNS[one.medium]} of {case.name!r} (seed {case.seed}) "
                f"{finding.problem}, so nothing can be compared with it; choose other prompts, or "
                "fix the pipeline"
            )
    same = _identical(first, draw(session, baseline, cases[:PROBED]))
    again = None if same else draw(session, baseline, cases)
    try:
        others: Outputs | str = draw(session, baseline, cases, other_kernels)
    except MeasurementError as error:  # a device may have no other kernels
        others = f"not possible here ({error})"
    return _with_floor(cases, first, again, others)


def _identical(outputs: Outputs, probed: Outputs) -> bool:
    """Whether the first ones, drawn again, are the same to the bit."""
    pairs = zip((outputs, *outputs.beside), (probed, *probed.beside), strict=True)
    return all(torch.equal(one.data, other.data[:PROBED]) for other, one in pairs)


def _with_floor(
    cases: tuple[Case, ...], first: Outputs, again: Outputs | None, others: Outputs | str
) -> BaselineImages:
    """How far ``first`` is from what was drawn ``again`` (``None``: to the bit the same), and with
    ``others``, the other kernels, or why there are none.
    """
    reports: list[SimilarityReport] = []
    if again is None:
        sentence = f"{PROBED} of {PROBED} {NOUNS[first.medium]}s drawn again are identical"
    else:
        reports.append(_against(first, again, cases))
        sentence = _best_and_worst(reports[-1])
    if isinstance(others, str):
        kernels = others
    else:
        reports.append(_against(first, others, cases))
        kernels = _best_and_worst(reports[-1])
    rmse = max(map(_rmse, reports), default=0.0)
    floor = SelfDistance(_worse_of(reports), rmse, sentence, kernels)
    beside = tuple(
        _with_floor(
            cases,
            one,
            None if again is None else again.beside[at],
            others if isinstance(others, str) else others.beside[at],
        )
        for at, one in enumerate(first.beside)
    )
    return BaselineImages(cases, first, floor, from_cache=False, beside=beside)


def _against(first: Outputs, other: Outputs, cases: tuple[Case, ...]) -> SimilarityReport:
    return compare_outputs(first, other, prompts=[case.name for case in cases])


def _rmse(report: SimilarityReport) -> float:
    """Of the worst image or frame; of the worst sound in units of its RMS."""
    decibels = report.images.get("psnr") or report.images["snr"]
    return float(10 ** (-min(decibels) / 20))


_BEST_AND_WORST = {
    "psnr": "PSNR {:.1f} dB (worst {:.1f})",
    "ssim": "SSIM {:.4f} (worst {:.4f})",
    "flicker": "flicker {:.2g} (worst {:.2g})",
    "snr": "SNR {:.1f} dB (worst {:.1f})",
    "spectral_distance": "spectral distance {:.2g} (worst {:.2g})",
}


def _best_and_worst(report: SimilarityReport) -> str:
    if report.findings:
        return report.reason
    return ", ".join(
        text.format(*report.metrics[name])
        for name, text in _BEST_AND_WORST.items()
        if name in report.metrics
    )


def _worse_of(reports: list[SimilarityReport]) -> dict[str, tuple[float, float]]:
    worse: dict[str, tuple[float, float]] = {}
    for report in reports:
        for name, figures in report.metrics.items():
            pick = min if HIGHER_IS_BETTER[name] else max
            before = worse.get(name, figures)
            worse[name] = (pick(before[0], figures[0]), pick(before[1], figures[1]))
    return worse


def _key(session: Session, baseline: PreparedArm, cases: tuple[Case, ...]) -> EvidenceKey:
    """Everything that decides the images.  A factory's own code is part of it: its package, and the
    whole tree, where its data may be.
    """
    with baseline.running():
        weights = content_fingerprint(baseline.pipeline)
    source = baseline.spec.source
    own_code = isinstance(parse_source(source), FactorySource)
    factory = [source.partition(":")[0]] if own_code else []
    return EvidenceKey(
        {
            "what": "baseline images, 4",
            "source": source,
            "weights": weights,
            "code": code_fingerprint(baseline.pipeline, also=["pytest_diffspeed", *factory]),
            "cases": [_inputs(baseline, case) for case in cases],
            "tree": vars(session.tree) if own_code else None,
            "beside the tree": session.code_beside_the_tree.as_dict() if own_code else None,
            "torch": str(torch.__version__),
            "machine": platform.machine(),
            "kernels": {
                "cpu": torch.backends.cpu.get_cpu_capability(),
                "cudnn": torch.backends.cudnn.version(),
                "deterministic": torch.are_deterministic_algorithms_enabled(),
            },
            "environment": session.environment(),
            # The weights do not say by how much an adapter's share is multiplied.
            **({} if baseline.spec.stack == FP32 else {"stack": baseline.spec.stack.name}),
        }
    )


def _inputs(arm: PreparedArm, case: Case) -> list[Any]:
    call = arm.call.of(case)
    latents = None if call.latents is None else sha256(call.latents.numpy().tobytes())
    return [call.inputs(), None if latents is None else latents.hexdigest()[:16]]


def _to_arrays(made: BaselineImages, prefix: str = "") -> dict[str, Any]:
    import json

    import numpy as np

    floor = made.floor
    about = {
        "metrics": {name: list(figures) for name, figures in floor.metrics.items()},
        "rmse": floor.rmse,
        "again": floor.again,
        "kernels": floor.kernels,
        "sample_rate_hz": made.drawn.sample_rate_hz,
        "left_out": made.drawn.left_out,
        "beside": len(made.beside),
    }
    arrays = {
        f"{prefix}images": made.drawn.data.numpy(),
        f"{prefix}floor": np.array(json.dumps(about)),
    }
    if made.drawn.latents is not None:
        arrays[f"{prefix}latents"] = made.drawn.latents.numpy()
    for at, one in enumerate(made.beside):
        arrays |= _to_arrays(one, f"{prefix}beside {at} ")
    return arrays


def _from_arrays(
    arrays: Mapping[str, Any] | None, cases: tuple[Case, ...], prefix: str = ""
) -> BaselineImages | None:
    import json

    if arrays is None:
        return None
    about = json.loads(str(arrays[f"{prefix}floor"]))
    metrics = {name: (mean, worst) for name, (mean, worst) in about.pop("metrics").items()}
    places = [f"{prefix}beside {at} " for at in range(about.pop("beside"))]
    read = (_from_arrays(arrays, cases, place) for place in places)
    beside = tuple(one for one in read if one is not None)
    kept = arrays.get(f"{prefix}latents")
    latents = None if kept is None else torch.from_numpy(kept)
    rate, left_out = about.pop("sample_rate_hz"), tuple(about.pop("left_out"))
    images = torch.from_numpy(arrays[f"{prefix}images"])
    drawn = Outputs(images, latents, rate, left_out, tuple(one.drawn for one in beside))
    floor = SelfDistance(metrics, **about)
    return BaselineImages(cases, drawn, floor, from_cache=True, beside=beside)
