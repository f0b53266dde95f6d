"""``diffspeed … | head``: a reader that has seen enough ends the command, and nothing is said."""

import os
import subprocess
import sys

import pytest

from pytest_diffspeed.commands.cli import UNREAD

COMMAND = "import sys; from pytest_diffspeed.commands.cli import main; sys.exit(main())"
OF_ANOTHER_PIPE = """
import pytest_diffspeed.commands.cost as cost

def run(arguments):
    raise BrokenPipeError("of a worker")

cost.run = run
"""


def ended(script, *words, unread):
    """Status and the other stream of a command that writes to a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    # Unbuffered, argparse meets the error itself and says nothing of it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, unread: writer}
    try:
        command = [sys.executable, "-c", script, *words]
        done = subprocess.run(command, env=environment, check=False, **streams)
    finally:
        os.close(writer)
    return done.returncode, (done.stdout or b"") + (done.stderr or b"")


@pytest.mark.parametrize(
    ("words", "unread"),
    [
        (("--help",), "stdout"),
        (("calibrate", "--help"), "stdout"),
        (("history", "--help"), "stdout"),
        (("cost", "demo", "--gpu", "k80"), "stderr"),
    ],
)
def test_who_reads_no_more_gets_no_traceback(words, unread):
    assert ended(COMMAND, *words, unread=unread) == (UNREAD, b"")


def test_the_error_of_another_pipe_is_told():
    """A command whose worker has died must not look like one that was read to its end."""
    status, said = ended(OF_ANOTHER_PIPE + COMMAND, "cost", "demo", unread="stdin")
    assert status == 1
    assert b"BrokenPipeError: of a worker" in said
