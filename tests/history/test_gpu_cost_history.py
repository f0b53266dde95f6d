"""GPU cost over commits: counts that move by one, parts that are folded, and what begins anew."""

import pytest
from history_sessions import ENVIRONMENT, commit_name, session_line

from pytest_diffspeed.history.environments import digest_of
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.journal import as_line
from pytest_diffspeed.records.reader import recorded_session
from pytest_diffspeed.reports.html.history import history as told_history
from pytest_diffspeed.reports.writers import with_history
from tests.reports.gpu_cost_records import KEY, TEST, cost, gpu_cost, kernels

A100 = {**{name: value for name, value in KEY.items() if name != "gpu"}, "device": KEY["gpu"]}
HEAD = f"on {KEY['gpu']} (counted) (environment {digest_of(A100)[:8]}), demo, 4 steps"


def counted(number, *more, blocks=2, key=KEY, unit="step", base=None, dirty=False, **about):
    """A session of a commit that asks a GPU for so much; each is compared with another base."""
    base = {"rev": commit_name(number - 1), "commit": commit_name(number - 1)}
    record = gpu_cost(cost(kernels(blocks)), cost(kernels(blocks, *more), key), unit=unit)
    return [
        session_line(number, base=base, dirty=dirty, **about),
        {**record, "source": "demo"},
        {"kind": "test", "test": TEST, "outcome": "passed", "stack": "bf16"},
    ]


CAST = kernels(1)[-1]


def series_with(lines, figure):
    """The lines of one series."""
    start = lines.index(f"{figure} of gpu_cost of a step on a100 over base; lower is better")
    return lines[start + 1 : lines.index("", start)]


def test_one_kernel_more_is_a_change_at_its_commit(history):
    """Of 1200 and of 120 000 kernels; each session has a base of its own, and the CPU changes."""
    other_cpu = {"environment": {**ENVIRONMENT, "device": "Intel Xeon"}, "machine": "cd34" * 8}
    sessions = [counted(n, *([CAST] if n > 2 else []), blocks=200) for n in range(4)]
    sessions.append(counted(4, CAST, blocks=200, **other_cpu))
    lines, err, status = history("show", "test_step", "--stack", "bf16", sessions=sessions)
    assert (err, status) == ("", 0)
    told = series_with(lines, "GPU kernels")
    assert told[0].startswith(f"{HEAD}: 5 points,")
    assert told[-1] == (
        f"    jump +0.1 % (worse): 1200 → 1201, after {commit_name(2)[:10]} by "
        f"{commit_name(3)[:10]} (Change 3)"
    )
    assert "    jump +2,000,000 (worse): 7,800,000,000 → 7,802,000,000, after " in "\n".join(
        series_with(lines, "GPU bytes")
    )
    assert not [line for line in lines if "drift" in line or "goes on" in line]
    assert (
        "0 at every point, and not shown without --points: GPU flops.f32, GPU flops.f64, "
        "GPU flops.f8, GPU flops.i8, GPU flops.tf32"
    ) in lines
    assert "what made it worse: git log --oneline " in lines[-1]


def test_list_folds_the_parts_of_a_count(history):
    lines, _, _ = history("list", sessions=[counted(n, unit="call") for n in range(2)])
    names = [line.split(" of gpu_cost")[0].strip() for line in lines if "2 points" in line]
    assert names == ["GPU bytes", "GPU flops", "GPU kernels"]
    assert [line for line in lines if "15 other figures (GPU bytes of text_encoder, " in line]
    lines, _, _ = history("list", "--all")
    assert [line for line in lines if "GPU kernels of vae.decode of gpu_cost" in line]


def test_flops_that_move_to_another_type_are_seen_at_their_commit(history):
    sessions = [counted(0), counted(1), counted(2)]
    lost = gpu_cost(cost(kernels(2)), cost(kernels(2, kind="f32")))
    sessions[2][1] = {**lost, "source": "demo"}
    lines, _, _ = history("show", "test_step", sessions=sessions)
    assert "jump (worse): 0 → 14,000,000,000, after" in "\n".join(
        series_with(lines, "GPU flops.f32")
    )
    b16 = "\n".join(series_with(lines, "GPU flops.b16"))
    assert "jump -33.3 % (better): 42,000,000,000 → 28,000,000,000" in b16


def test_another_version_begins_another_series_and_says_what_differs(history):
    """Its verdict is INCONCLUSIVE: that is of the comparison, and the count is one all the same."""
    new = {**KEY, "torch": "2.15.0", "triton": "3.9.0"}
    later = [counted(n, key=new) for n in (2, 3)]
    assert {gate["verdict"] for _, gate, _ in later} == {"INCONCLUSIVE"}
    lines, _, _ = history("show", "test_step", sessions=[counted(0), counted(1), *later])
    digests = f"({digest_of(A100)[:8]} → "
    at = [n for n, line in enumerate(lines) if line.startswith("it goes on in another environment")]
    assert len(at) >= 4  # kernels, bytes, FLOPs, of b16
    assert digests in lines[at[0]]
    assert lines[at[0] + 1 : at[0] + 4] == [
        "    torch   2.14.1 → 2.15.0",
        "    triton  3.8.0 → 3.9.0",
        "",
    ]
    assert not [line for line in lines if "jump" in line]


def test_the_report_has_the_series_of_what_this_session_counted_under(tmp_path):
    from pytest_diffspeed.history.record import add_session
    from pytest_diffspeed.history.store import Store
    from pytest_diffspeed.history.url import parse_store

    url = f"sqlite:///{tmp_path / 'h.sqlite'}"
    with Store(parse_store(url), tmp_path).writing() as connection:
        for number in range(3):
            add_session(connection, counted(number, *([CAST] if number == 2 else [])))
        add_session(connection, counted(9, key={**KEY, "torch": "2.15.0"}))
    finished = with_history(FinishedSession(counted(2, CAST), tmp_path), url)
    kernels_of = [one for one in finished.series if one.figure == "GPU kernels"]
    assert [len(one.points) for one in kernels_of] == [3]
    told = told_history(finished.series)
    assert {one.series.figure for one in told.told} == {
        "GPU kernels",
        "GPU bytes",
        "GPU flops",
        "GPU flops.b16",
    }
    assert told.left_out == 5  # the types that nothing was computed in
    first = next(one for one in told.told if one.series.figure == "GPU kernels")
    assert first.changes[0].startswith("jump +8.3 % (worse): 12 → 13, after ")


@pytest.mark.parametrize("under", [None, [], "torch", {}, {"torch": 3}])
def test_a_record_that_says_it_otherwise_is_of_its_sessions_environment(tmp_path, under):
    session = counted(1)
    session[1]["figures"]["counted_under"] = under
    from pytest_diffspeed.history.figures import figures_of

    read = recorded_session([session[0], session[1]], tmp_path)
    assert {figure.counted_under is None for figure in figures_of(read)} == {
        not (isinstance(under, dict) and under)
    }
    assert as_line(session[1])
