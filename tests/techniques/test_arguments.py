"""Arguments of techniques: read in any spelling, written in one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffspeed.common.errors import UnknownStackError
from pytest_diffspeed.techniques.arguments import (
    Parameter,
    bound,
    canonical,
    name_and_arguments,
    split,
)
from pytest_diffspeed.techniques.stacks import Stack, parse_stack, parse_stacks

PARAMETERS = {
    "threshold": Parameter(0.2, "a share"),
    "blocks": Parameter(2, "a number"),
    "exact": Parameter(False, "a switch"),
    "name": Parameter("first", "a word"),
    "order": Parameter("up", "a choice", ("up", "down", 3, None)),
}


def read(text):
    name, given_ = name_and_arguments(text)
    return canonical(name, bound(name, given_, PARAMETERS))


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("cache", "cache"),
        ("cache()", "cache"),
        (" cache ( ) ", "cache"),
        ("cache(0.2)", "cache"),
        ("cache(0.1)", "cache(threshold=0.1)"),
        ("cache(threshold=1)", "cache(threshold=1.0)"),
        ("cache(1e-3, 4)", "cache(threshold=0.001,blocks=4)"),
        ("cache(exact=True, blocks=3)", "cache(blocks=3,exact=True)"),
        ("cache(name='second')", "cache(name=second)"),
        ('cache(name="a, b+c (d)")', "cache(name='a, b+c (d)')"),
        ("cache(name='True')", "cache(name='True')"),
        ("cache(name='')", "cache(name='')"),
        ("cache(order=down)", "cache(order=down)"),
        ("cache(order=3)", "cache(order=3)"),
        ("cache(order=None)", "cache(order=None)"),
    ],
)
def test_one_way_of_writing(text, written):
    assert read(text) == written
    assert read(written) == written


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "threshold": st.floats(allow_nan=False, allow_infinity=False),
            "blocks": st.integers(),
            "exact": st.booleans(),
            "name": st.text(),
            "order": st.sampled_from(["up", "down", 3, None]),
        },
    )
)
def test_what_is_written_reads_back(arguments):
    text = canonical("cache", arguments)
    expected = {key: v for key, v in arguments.items() if v != PARAMETERS[key].default}
    assert bound("cache", name_and_arguments(text)[1], PARAMETERS) == expected
    assert split(f"bf16+{text}+compile", "+") == ["bf16", text, "compile"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cache(treshold=1)", "takes no 'treshold'; did you mean 'threshold'?"),
        ("cache(0.1, threshold=0.3)", "is given 'threshold' twice"),
        ("cache(1.0, 2, True, a, up, 6)", "takes threshold, blocks, exact, name, order, and no 6"),
        ("cache(threshold=low)", "threshold of 'cache' must be a number, not 'low'"),
        ("cache(blocks=1.5)", "blocks of 'cache' must be a whole number, not 1.5"),
        ("cache(blocks=True)", "blocks of 'cache' must be a whole number, not True"),
        ("cache(exact=1)", "exact of 'cache' must be True or False, not 1"),
        ("cache(order=dwn)", "order of 'cache' cannot be 'dwn'; did you mean 'down'?"),
        ("cache(order=True)", "order of 'cache' cannot be True"),
        ("cache(blocks=[1])", "an argument is a number, True, False, None or a word"),
        ("cache(blocks=)", "an argument is a number"),
        ("cache(1,)", "an argument is a number"),
        ("cache(name=a b)", "stands in quotes"),
        ("cache(blocks=1", "'cache(blocks=1' is not a technique with arguments"),
        ("cache)1(", "is not a technique with arguments"),
        ("cache(1)(2)", "an argument is a number"),
    ],
)
def test_what_cannot_be_meant_is_told_in_a_sentence(text, told):
    with pytest.raises(UnknownStackError) as error:
        read(text)
    assert told in str(error.value)


def test_stacks_carry_them():
    stack = parse_stack("compile(mode = 'reduce-overhead') + bf16")
    assert stack == Stack(("bf16", "compile(mode=reduce-overhead)"))
    assert stack.names == ("bf16", "compile")
    assert str(stack) == "bf16+compile(mode=reduce-overhead)" != "bf16+compile"
    assert stack.techniques()[1].argument("mode") == "reduce-overhead"
    assert parse_stack("compile(mode=default)") == parse_stack("compile")


def test_a_list_of_stacks_is_cut_outside_of_brackets():
    found = parse_stacks("bf16,compile(mode=reduce-overhead),bf16+compile(default)")
    assert [one.name for one in found] == ["bf16", "compile(mode=reduce-overhead)", "bf16+compile"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bf16(3)", "'bf16' takes no arguments; write 'bf16'"),
        ("compile(mode=fast)", "mode of 'compile' cannot be 'fast'"),
        ("compile+compile(mode=reduce-overhead)", "names 'compile' twice"),
        ("(mode=default)", "not a technique with arguments"),
    ],
)
def test_a_stack_says_what_is_wrong_with_them(text, told):
    with pytest.raises(UnknownStackError) as error:
        parse_stack(text)
    assert told in str(error.value)
