"""What to do about a sync: by its kind, and by whose line it is."""

import pytest

from pytest_diffspeed.records.verdict import ONE_LINE
from pytest_diffspeed.simgpu import SyncKind
from pytest_diffspeed.syncs.remedies import remedy
from pytest_diffspeed.syncs.report import SyncSite

INSTALLED = "/env/lib/site-packages/diffusers"


def site(file, kind="value_read", function="step"):
    return SyncSite(kind, "aten.item", file, 7, function, "x.item()", 4, 1, 3, 0)


@pytest.mark.parametrize("kind", [kind.value for kind in SyncKind])
def test_each_kind_has_a_remedy_in_ones_own_code(kind):
    said = remedy(site("/project/fast.py", kind))
    assert 20 < len(said) <= ONE_LINE
    assert "allow=" not in said


@pytest.mark.parametrize(
    ("file", "function", "said"),
    [
        ("schedulers/scheduling_pndm.py", "step", "take another scheduler"),
        ("schedulers/scheduling_heun.py", "index_for_timestep", "call set_begin_index(0) ("),
        ("pipelines/pipeline_flux.py", "__call__", "call it outside the steps"),
    ],
)
def test_a_librarys_line_is_gone_around_or_allowed(file, function, said):
    found = remedy(site(f"{INSTALLED}/{file}", function=function))
    assert found.startswith(said)
    assert f"allow=('{file.rpartition('/')[2]}:7  # why',)" in found
