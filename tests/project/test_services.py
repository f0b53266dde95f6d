"""Tests that need a browser or a server are skipped where it is not, and nowhere in CI."""

import pytest

from tests.services import REQUIRED, leave_out


def test_a_test_without_its_service_is_skipped_and_says_why(monkeypatch):
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no server"):
        leave_out("no server")


@pytest.mark.parametrize("value", ["1", "yes"])
def test_where_services_are_required_it_fails(monkeypatch, value):
    monkeypatch.setenv(REQUIRED, value)
    with pytest.raises(pytest.fail.Exception, match=f"no server; {REQUIRED} is set"):
        leave_out("no server")
