"""A context of gates for verdicts on made-up counts."""

from pathlib import Path

from pytest_diffspeed.common.workdir import workdir
from pytest_diffspeed.records.verdict import GateResult, VerdictKind


class Session:
    """A root folder."""

    def __init__(self, rootdir):
        self.rootdir = Path(rootdir)

    def workdir(self):
        return workdir(self.rootdir)


class Context:
    """As much of a gate's context as a verdict needs; files are written below ``rootdir``."""

    def __init__(self, test="t", rootdir=None):
        self.test = test
        self.session = None if rootdir is None else Session(rootdir)

    def result(self, marker, verdict, reason, **rest):
        return GateResult(
            gate=marker.marker,
            claim=rest["claim"],
            test=self.test,
            stack="bf16",
            verdict=verdict,
            reason=reason,
            evidence=rest["evidence"],
            blocking=verdict is VerdictKind.FAIL,
            figures=rest["figures"],
            axis=str(marker.axis),
            metrics=tuple(rest["metrics"]),
            cause=rest.get("cause"),
        )
