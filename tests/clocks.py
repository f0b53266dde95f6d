"""Clocks that tests script: drift, spikes and equal arms, without waiting for any of them."""

import inspect


class ScriptedClock:
    """Gives each arm's calls the durations of its script; ``calls`` are the arms' names.

    An arm is a function that returns its name.
    """

    def __init__(self, **scripts):
        self.scripts = {name: iter(script) for name, script in scripts.items()}
        self.calls = []

    def time(self, call):
        name = call()
        self.calls.append(name)
        return next(self.scripts[name]), name


class ReplayingClock:
    """Every call takes what ``seconds(calls)`` says, one second if nothing is said; ``calls[-1]``
    is the one in question, and arms come in a random order.

    An arm is really called once; later calls give its first output again.
    """

    def __init__(self, seconds=lambda calls: 1.0):
        self.seconds = seconds
        self.calls = []
        self._outputs = {}

    def time(self, call):
        if call not in self._outputs:
            self._outputs[call] = call()
        self.calls.append(call)
        return self.seconds(self.calls), self._outputs[call]


class StampingClock:
    """Each stamp is one second after the last, so that stages are counted, not timed; a whole call
    takes ten.
    """

    def __init__(self):
        self.taken = 0

    def time(self, call):
        return 10.0, call()

    def prepare(self):
        pass

    def stamp(self):
        self.taken += 1
        return self.taken

    def seconds(self, stamps):
        return [float(stamp - stamps[0]) for stamp in stamps]


ONE_SECOND_A_CALL = f"""
{inspect.getsource(ReplayingClock)}

def pytest_sessionstart():
    import pytest_diffspeed.arms.session

    pytest_diffspeed.arms.session.clock_for = lambda device: ReplayingClock()
"""
"""A ``conftest.py`` for sessions in processes of their own: every call takes a second there."""
SHORT_NOISE_FLOOR = """
import pytest_diffspeed.timing.noise

pytest_diffspeed.timing.noise.PAIRS = 6
"""
"""For a ``conftest.py`` of theirs: what the fixture ``short_noise_floor`` does in this process."""
