"""What an inner session printed, for tests of what it says."""

import pytest


def in_one_line(result):
    """All that a run printed as one line to match, however it was wrapped."""
    return pytest.LineMatcher([" ".join(" ".join(result.outlines + result.errlines).split())])
