"""Which stacks ``diffspeed init`` tries."""

from types import SimpleNamespace

import pytest

from pytest_diffspeed.commands.init import _stacks
from pytest_diffspeed.common.errors import UnknownStackError, UsageError

GPU, CPU = SimpleNamespace(on_gpu=True), SimpleNamespace(on_gpu=False)


def test_without_a_word_what_the_machine_can_show():
    assert _stacks(None, CPU) == ["bf16"]
    assert _stacks(None, GPU) == ["bf16", "bf16+compile"]


def test_commas_in_brackets_are_those_of_arguments():
    given = "channels_last, bf16+mag_cache(threshold=0.1, retention_ratio=0.3)"
    assert _stacks(given, CPU) == [
        "channels_last",
        "bf16+mag_cache(threshold=0.1,retention_ratio=0.3)",
    ]


def test_what_makes_no_sense():
    with pytest.raises(UnknownStackError, match="names the stack 'bf16' twice"):
        _stacks("bf16,bf16", CPU)
    with pytest.raises(UsageError, match="fp32 is what the others are held against"):
        _stacks("bf16,fp32", CPU)
