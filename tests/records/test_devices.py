"""The columns of a report on several devices, and what tells runs of one test apart."""

from pytest_diffspeed.records.devices import Places, columns
from pytest_diffspeed.records.reader import recorded_session

CPU = {"kind": "cpu", "name": "AMD EPYC, 2 cores"}
L4 = {"kind": "cuda", "name": "NVIDIA L4"}


def session_line(name, device, *, torch="2.14.1", shard=None):
    environment = {"device": device["name"], "torch": torch, "python": "3.11"}
    told = {} if shard is None else {"shard": {"number": shard, "of": 2, "plan": None}}
    machine = f"{device['name']}{torch}"
    return {
        "kind": "session",
        "session": name,
        "at": "now",
        "environment": environment,
        "device": device,
        "machine": machine,
        **told,
    }


def ran(test):
    return {"kind": "test", "test": test, "outcome": "passed"}


def test_a_column_is_a_device_and_an_environment_where_they_differ():
    lines = [
        session_line("a", CPU),
        session_line("b", L4),
        session_line("c", CPU),
        session_line("d", L4, torch="2.13.0"),
    ]
    found = columns(recorded_session(lines, None))
    assert [(column.title, len(column.sessions)) for column in found] == [
        ("AMD EPYC, 2 cores", 2),
        ("NVIDIA L4, torch 2.14.1", 1),
        ("NVIDIA L4, torch 2.13.0", 1),
    ]


def test_a_place_says_as_much_as_it_must():
    lines = [
        *(session_line("a", CPU, shard=1), ran("t1"), ran("t2")),
        *(session_line("b", CPU, shard=2), ran("t2")),
    ]
    session = recorded_session(lines, None)
    places = Places(session)
    first, second = session.sessions
    assert places.of(first, "t1") == ""
    assert [places.of(part, "t2") for part in (first, second)] == ["shard 1/2", "shard 2/2"]

    session = recorded_session([*lines, session_line("c", L4), ran("t1")], None)
    places = Places(session)
    assert places.of(session.sessions[2], "t1") == "NVIDIA L4"
    assert places.of(session.sessions[0], "t2") == "AMD EPYC, 2 cores, shard 1/2"


def test_a_shard_that_ran_twice_is_told_from_itself():
    lines = [session_line("a", CPU, shard=1), ran("t"), session_line("b", CPU, shard=1), ran("t")]
    session = recorded_session(lines, None)
    told = [Places(session).of(part, "t") for part in session.sessions]
    assert told == ["shard 1/2 (session 1)", "shard 1/2 (session 2)"]
