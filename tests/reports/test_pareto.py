"""The ladder's chart of ratio against worst image: what is on the front, in picture and words."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_sessions import about

from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.reports.html import render
from pytest_diffspeed.reports.html.pareto import _box, _meet, pareto

ROWS = [
    ("bf16", 0.72, 48.2, "FAIL"),
    ("fused_qkv", 1.01, 100.0, "INCONCLUSIVE"),
    ("steps(10)", 1.92, 34.2, "PASS"),
    ("scheduler(DPMSolverMultistepScheduler)+steps(10)", 1.88, 33.4, "PASS"),
    ("scheduler(DPMSolverMultistepScheduler)+steps(8)", 2.31, 30.9, "PASS"),
]


def row(stack, ratio, worst, verdict="PASS", **images):
    return {
        "kind": "ladder",
        "stack": stack,
        "status": "measured",
        "call_s": 1.0,
        "first_call_s": 1.0,
        "over_baseline": {
            "ratio": ratio,
            "low": 0.97 * ratio,
            "high": 1.03 * ratio,
            "verdict": verdict,
            "pairs": 12,
        },
        "images": {"count": 7, "output": "image", "metric": "psnr", "worst": worst, **images},
    }


def test_what_nothing_else_beats_is_on_the_front():
    chart = pareto([row(*one) for one in ROWS])
    front = {point.stack for point in chart.points if point.on_front}
    # Not the one of 1.01×: nobody can tell it from fp32, which is nearer to itself than all.
    assert front == {"fp32", "steps(10)", ROWS[-1][0]}
    assert chart.summary == (
        "No row is faster and nearer to the images of fp32 than: fp32 1.000×, identical; steps(10) "
        "1.920×, 34.2 dB; scheduler(DPMSolverMultistepScheduler)+steps(8) 2.310×, 30.9 dB. 3 more "
        "are behind these."
    )
    by_stack = {point.stack: point for point in chart.points}
    assert by_stack["steps(10)"].title == "steps(10): 1.920×, 34.2 dB"
    assert by_stack["steps(10)"].x > by_stack["fp32"].x > by_stack["bf16"].x
    assert by_stack["steps(10)"].y > by_stack["bf16"].y > by_stack["fp32"].y  # worse is below
    assert by_stack[ROWS[-1][0]].label.text.startswith("scheduler(DPMSol")
    assert by_stack[ROWS[-1][0]].label.text.endswith("steps(8)")


@given(
    st.lists(
        st.tuples(
            st.text("abc+()", min_size=1, max_size=50),
            st.floats(0.01, 100.0),
            st.floats(-5.0, 100.0),
        ),
        min_size=2,
        max_size=30,
    )
)
def test_labels_never_meet_and_everything_is_in_the_picture(rows):
    chart = pareto([row(*one) for one in rows])
    boxes = [_box(point.label) for point in chart.points if point.label is not None]
    assert not any(_meet(one, other) for one, other in combinations(boxes, 2))
    for point in chart.points:
        assert 46 <= point.x <= 720 and 0 <= point.y <= 300
    assert all(left >= 0 and right <= 720 for left, _, right, _ in boxes)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [row("bf16", 1.2, 48.0)],
        [row("bf16", 1.2, 48.0), row("fp16", 1.3, None, broken="image 1 has NaN values")],
        [row("bf16", 1.2, 48.0), {"kind": "ladder", "stack": "tf32", "reason": "no GPU"}],
        [row("bf16", 1.2, 48.0), row("tf32", -1.0, 40.0), row("fp16", float("nan"), 40.0)],
        [row("bf16", 1.2, 48.0), {**row("fp16", 1.3, 40.0), "images": [1]}],
    ],
)
def test_fewer_than_two_rows_are_no_chart(records):
    assert pareto(records) is None


def test_the_page_has_the_chart_the_column_and_the_words(tmp_path):
    rows = [row(*one) for one in ROWS]
    rows += [row("<b>bad</b>", 0.9, 41.0), {"kind": "ladder", "stack": "tf32", "reason": "no GPU"}]
    html = render(FinishedSession([about(), *rows], tmp_path).session, tmp_path)
    assert html.count('<g class="best">') == 3
    assert 'aria-label="No row is faster and nearer to the images of fp32 than: fp32 1.000×' in html
    assert "<title>&lt;b&gt;bad&lt;/b&gt;: 0.900×, 41.0 dB</title>" in html
    assert "<b>bad</b>" not in html
    assert '<td data-key="34.2">34.2 dB</td>' in html
    assert 'colspan="6" class="why">not run: no GPU' in html
    assert "worst image: PSNR to fp32" in html
