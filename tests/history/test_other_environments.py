"""Where a series goes on in another environment, what differs is printed."""

from history_sessions import ENVIRONMENT, UPGRADED, moved, session

from pytest_diffspeed.history.environments import differences, environment_of
from pytest_diffspeed.records.series import Difference

OLD, NEW = "ab12" * 8, "cd34" * 8


def there(number, environment=UPGRADED, machine=NEW, **other):
    return session(number, breaks=None, environment=environment, machine=machine, **other)


def here(number, **other):
    return session(number, breaks=None, **other)


def between(lines):
    """What stands between the first two series."""
    start = lines.index("") + 1
    return lines[start : lines.index("", start)]


def test_what_differs_stands_where_the_series_goes_on(history):
    lines, err, status = history("show", "test_fast", sessions=moved())
    assert (err, status) == ("", 0)
    assert between(lines) == [
        "it goes on in another environment (ab12ab12 → cd34cd34). What differs:",
        "    threads  2 → 4",
        "    torch    2.13.0 → 2.14.1",
        "    torchao  none → 0.18.0",
    ]
    assert "(environment ab12ab12)" in lines[2]
    assert [line for line in lines if "(environment cd34cd34)" in line]
    # One environment alone goes on nowhere.
    lines, _, _ = history("show", "test_fast", "--environment", "cd34")
    assert not [line for line in lines if "goes on" in line]


def test_environments_follow_in_time_whatever_their_names(history):
    """The newer one has the smaller digest, and two claims stand between in the database."""
    sessions = [
        session(n, environment=environment, machine=machine)
        for n, environment, machine in (
            (1, ENVIRONMENT, "ff" * 16),
            (2, ENVIRONMENT, "ff" * 16),
            (3, UPGRADED, "00" * 16),
        )
    ]
    lines, _, _ = history("show", "test_fast", sessions=sessions)
    assert [line[:34] for line in lines if "goes on" in line] == [
        "it goes on in another environment ",
        "it goes on in another environment ",
    ]
    assert sum("(ffffffff → 00000000)" in line for line in lines) == 2


def test_two_machines_at_the_same_time_are_no_break(history):
    lines, _, _ = history("show", "test_fast", sessions=[here(1), there(2), here(3), there(4)])
    assert between(lines)[0] == (
        "the same figure in another environment, in part of the same time "
        "(ab12ab12 → cd34cd34). What differs:"
    )


def test_another_condition_is_no_other_environment(history):
    other = there(2, options={"steps": 8, "prompts": []})
    lines, _, _ = history("show", "test_fast", sessions=[here(1), other])
    assert "(environment cd34cd34), demo, 8 steps" in " ".join(lines)
    assert not [line for line in lines if "What differs" in line]


def test_many_differences_are_folded(history):
    packages = {f"package{n}\x1b": str(n) for n in range(10)}
    environment = {**ENVIRONMENT, "device": "H100", "driver": "560.1", "packages": packages}
    lines, _, _ = history("show", "test_fast", sessions=[here(1), there(2, environment)])
    told = between(lines)
    assert told[1:3] == [
        "    device        AMD EPYC, 2 cores → H100",
        "    driver        none → 560.1",
    ]
    assert told[3] == "    package0\\x1b  none → 0"
    names = ", ".join(f"package{n}\\x1b" for n in range(6, 10))
    assert told[9:] == [f"    and 4 more: {names}"]


def test_records_that_do_not_say_what_differs(history):
    lines, _, _ = history("show", "test_fast", sessions=[here(1), there(2, ENVIRONMENT)])
    assert between(lines) == [
        "it goes on in another environment (ab12ab12 → cd34cd34); the records of their sessions "
        "do not say what differs"
    ]


def test_the_newest_session_of_an_environment_says_what_it_is(store, add):
    add(here(1), there(2), there(3, {**UPGRADED, "torch": "2.15.0"}))
    with store.reading() as connection:
        assert environment_of(connection, OLD) == ENVIRONMENT
        assert environment_of(connection, NEW)["torch"] == "2.15.0"
        assert environment_of(connection, "nowhere") == {}


def test_differences_have_an_order():
    before = {"torch": "1", "python": "3.10", "device": "a", "accelerate": None, "same": 1}
    after = {"accelerate": "2", "same": 1, "device": "b", "python": "3.11", "torch": "1"}
    assert differences(before, after) == [
        Difference("device", "a", "b"),
        Difference("python", "3.10", "3.11"),
        Difference("accelerate", None, "2"),
    ]
