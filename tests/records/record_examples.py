"""A record of each kind, and damage to them; not a test."""

import json

from hypothesis import strategies as st

from pytest_diffspeed.records.schema import schema

IDENTITY = {"test": "t.py::t[bf16]", "stack": "bf16", "claim": "min_speedup over fp32 per call"}
GATE = {
    **IDENTITY,
    "gate": "min_speedup",
    "verdict": "PASS",
    "reason": "shown",
    "evidence": "measured",
    "blocking": False,
    "figures": {"ratio": 1.5, "low": None, "high": 1.6, "pairs": 6, "need": 1.2, "per_step": [0]},
}
PAIR = {"index": 0, "baseline_s": 2.0, "candidate_s": 1.0, "candidate_first": False}
MEASUREMENT = {"key": "k", "attempt": 1, "instance": "i", "session": "s", "at": "now"}
EXAMPLES = {
    "session": {"session": "s", "at": "now", "environment": {}, "device": {}, "commit": None},
    "test": {"test": "t", "outcome": "passed", "line": 3, "duration_s": 0.5, "images": ["a.png"]},
    "asked": {"tests": {"t": ["c"]}},
    "end": {"exit_status": 1, "strict": True, "no_verdict": [{"test": "t", "claim": "c"}]},
    "not-run": {"test": "t", "claim": "c"},
    "proof": {"source": "demo", "stack": "bf16", "proofs": [], "first_call_s": None},
    "worker": {"source": "demo", "stack": "bf16", "instance": 0, "pid": 7},
    "noise-floor": {"key": "k", "at": "now", "pairs": [[1.0, 1.1]]},
    "gate-start": {**IDENTITY, "seed": 7, "over": "fp32", "need": 1.8},
    "pair": {**IDENTITY, **PAIR, "dropped": None, "instance": 0},
    "dropped-pair": {**IDENTITY, **PAIR, "dropped": "throttled"},
    "gate": GATE,
    "gate-error": {**IDENTITY, "error": "no"},
    "stages": {**IDENTITY, "stages": None},
    "memory": {**IDENTITY, "memory": {}},
    "ladder": {
        "stack": "bf16",
        "over_baseline": {"verdict": "PASS", "ratio": 2, "low": 1, "high": None, "pairs": 6},
        "call_s": 1.0,
        "first_call_s": 1,
    },
    "instance-start": {**MEASUREMENT, "parts": {}},
    "instance-pair": {**MEASUREMENT, "process": "p", "baseline_s": 1, "candidate_s": 2},
    "instance-end": {**MEASUREMENT, "result": GATE},
}

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    # No number that JSON cannot hold: neither does a line that is read.
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=5) | st.sampled_from(["ratio", "pairs"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@st.composite
def damaged(draw):
    """An example with some of its fields, or figures, replaced or taken away."""
    kind = draw(st.sampled_from(sorted(EXAMPLES)))
    record = json.loads(json.dumps(EXAMPLES[kind]))
    for _ in range(draw(st.integers(0, 3))):
        inner = [value for value in record.values() if isinstance(value, dict) and value]
        place = draw(st.sampled_from([record, *inner]))
        if not place:
            break
        known = schema()["definitions"][kind]["properties"] if place is record else place
        name = draw(st.sampled_from(sorted(known)))
        if draw(st.booleans()):
            place[name] = draw(JSON)
        else:
            place.pop(name, None)
    return kind, record
