"""End to end, with a real inductor compilation: the one cold compile of a session in this suite."""

import pytest

from pytest_diffspeed.techniques.global_state import GlobalState
from tests.journals import journaled, records_in

SUITE = """
import pytest

@pytest.mark.diffspeed("compile")
@pytest.mark.min_speedup(0.2)
@pytest.mark.max_slowdown(900)
def test_compiled(optimized_pipeline, diffspeed):
    assert diffspeed.run(optimized_pipeline).shape == (1, 3, 64, 64)
"""


@pytest.mark.slow
def test_fp32_against_compiled_on_the_demo_pipeline(pytester, libraries, short_noise_floor):
    pytester.makepyfile(test_it=SUITE)
    before = GlobalState.now()
    outcome = pytester.runpytest_inprocess(
        "--diffspeed", "-W", "error", "--diffspeed-steps=2", "--diffspeed-json=records.jsonl"
    )
    outcome.assert_outcomes(passed=1)
    assert before.changes() == [], "compiling itself could change inductor's settings"
    outcome.stdout.fnmatch_lines(
        [
            "diffspeed: building, compiling and proving compile of demo …",
            "diffspeed: timing compile against fp32: *",
            "PASS * test_it.py::test_compiled[[]compile[]]  min_speedup over fp32 per call *",
            "stack *over *ratio *a call *first call *pairs *verdict",
            "compile *fp32 *× [[]*[]] * s *PASS",
            "images *",
            "    .diffspeed/images/test_it.py_test_compiled_compile-*.png",
        ]
    )
    gates = records_in(pytester.path / "records.jsonl", "gate")
    assert [gate["gate"] for gate in gates] == ["min_speedup", "max_slowdown"]
    figures = gates[0]["figures"]
    assert figures["pairs"] >= 5
    assert figures["candidate_first_call_s"] > figures["candidate_s"]

    proofs = {p["technique"]: p for r in journaled(pytester, "proof") for p in r["proofs"]}
    figures_of_proof = proofs["compile"]["figures"]
    assert figures_of_proof["compiled_frames"] == 2
    assert figures_of_proof["runs"] == figures_of_proof["calls"] == {"unet": 2, "vae.decode": 1}
    assert figures_of_proof["eager_ops"] == 0
    assert figures_of_proof["epilogue_fusion"] is False  # the guide's flags
    pairs = [r for r in journaled(pytester, "pair") if r["claim"] == gates[0]["claim"]]
    assert len(pairs) == figures["pairs"]
    assert {"baseline_s", "candidate_s", "candidate_first", "index"} <= set(pairs[0])
