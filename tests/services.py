"""What a test needs beside Python: a browser, a server, a command of the system.

Where it is not installed, the test is skipped and says so.  CI asks for all of it, by
``DIFFSPEED_REQUIRE_SERVICES``: a test that is left out there is a failure.
"""

import os

import pytest

REQUIRED = "DIFFSPEED_REQUIRE_SERVICES"


def leave_out(reason):
    """Skip the test for ``reason``, which says what is not there and how to get it.

    With :data:`REQUIRED` in the environment, whatever its value, the test fails with it.
    """
    if os.environ.get(REQUIRED):
        pytest.fail(f"{reason}; {REQUIRED} is set, so this is no reason to skip")
    pytest.skip(reason)
