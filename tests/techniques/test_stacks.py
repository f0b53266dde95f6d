"""Stacks: one canonical order whatever the user wrote, and contradictions refused."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_diffspeed.common.errors import UnknownStackError, UsageError
from pytest_diffspeed.techniques.registry import techniques
from pytest_diffspeed.techniques.stacks import PREVIOUS, Stack, parse_stack, parse_stacks
from pytest_diffspeed.techniques.technique import Family


@st.composite
def names_that_fit_together(draw):
    """At most one technique of each family and none that contradicts another, in any order."""
    families = {}
    for technique in techniques().values():
        families.setdefault(technique.family, []).append(technique.name)
    wanted = draw(st.lists(st.sampled_from(sorted(families)), min_size=1, unique=True))
    names = [draw(st.sampled_from(families[family])) for family in wanted]
    chosen = [
        n
        for n in names
        if not any(
            o in techniques()[n].contradicts
            or techniques()[o].family in techniques()[n].contradicts_families
            for o in names
        )
    ]
    assume(chosen)
    chosen = [techniques()[name].example or name for name in chosen]
    return draw(st.permutations(chosen))


@given(names=names_that_fit_together(), data=st.data())
def test_order_and_spaces_do_not_matter(names, data):
    shuffled = data.draw(st.permutations(names))
    spaced = " + ".join(f" {name}" for name in shuffled)
    assert parse_stack("+".join(names)) == parse_stack(spaced)


@given(names=names_that_fit_together())
def test_techniques_are_applied_in_the_order_of_their_families(names):
    stack = parse_stack("+".join(names))
    families = [technique.family for technique in stack.techniques()]
    assert families == sorted(families)
    assert [technique.name for technique in stack.techniques()] == list(stack.names)


@given(names=names_that_fit_together())
def test_a_name_reads_back_as_the_same_stack(names):
    stack = parse_stack("+".join(names))
    assert str(stack) == stack.name
    assert parse_stack(stack.name) == stack
    assert hash(parse_stack(stack.name)) == hash(stack)


@given(names=names_that_fit_together())
def test_a_stack_loses_no_technique_but_fp32(names):
    assert set(parse_stack("+".join(names)).parts) | {"fp32"} == {*names, "fp32"}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("compile+bf16", "bf16+compile"),
        ("compile + channels_last + bf16", "bf16+channels_last+compile"),
        ("fp32+compile", "compile"),
        ("compile+fp32", "compile"),
        ("fp32+channels_last+compile", "channels_last+compile"),
        ("fp32", "fp32"),
        ("  bf16\n", "bf16"),
    ],
)
def test_canonical_name(text, name):
    assert parse_stack(text).name == name


def test_only_fp32_alone_is_the_baseline():
    assert parse_stack("fp32").is_baseline
    assert not parse_stack("bf16").is_baseline
    assert not parse_stack("fp32+compile").is_baseline


@pytest.mark.parametrize("text", ["fp32+bf16", "bf16+fp32", "compile+bf16+fp32"])
def test_two_precisions_contradict_each_other(text):
    with pytest.raises(UnknownStackError, match=r"'bf16' and 'fp32' .*'precision'.*keep one"):
        parse_stack(text)


@pytest.mark.parametrize("text", ["", " ", "+", "bf16+", "+bf16", "bf16++compile"])
def test_an_empty_part_is_refused(text):
    with pytest.raises(UnknownStackError, match=r"joined by '\+', such as 'bf16\+compile'"):
        parse_stack(text)


@pytest.mark.parametrize(
    ("text", "bad", "near"),
    [
        ("bf61", "bf61", "bf16"),
        ("bf16+compil", "compil", "compile"),
        ("chanels_last", "chanels_last", "channels_last"),
        ("FP32", "FP32", None),
    ],
)
def test_an_unknown_technique_is_named_with_the_valid_ones(text, bad, near):
    with pytest.raises(UnknownStackError) as caught:
        parse_stack(text)
    message = str(caught.value)
    assert f"no technique is called {bad!r}" in message
    assert ", ".join(sorted(techniques())) in message
    assert near is None or f"did you mean {near!r}?" in message


def test_a_technique_named_twice_is_refused():
    with pytest.raises(UnknownStackError, match="names 'bf16' twice"):
        parse_stack("bf16+compile+bf16")


def test_previous_is_no_technique():
    assert PREVIOUS.name not in techniques()
    with pytest.raises(UnknownStackError, match="no technique is called 'previous'"):
        parse_stack(PREVIOUS.name)


def test_all_these_errors_are_usage_errors():
    assert issubclass(UnknownStackError, UsageError)
    assert issubclass(UnknownStackError, ValueError)


def test_a_list_of_stacks_keeps_its_order():
    parsed = parse_stacks(" compile+bf16, fp32 ,channels_last,")
    assert [stack.name for stack in parsed] == ["bf16+compile", "fp32", "channels_last"]


@pytest.mark.parametrize("text", ["", " ", ",", " , "])
def test_a_list_without_a_stack_is_refused(text):
    with pytest.raises(UnknownStackError, match="names no stack; write for example"):
        parse_stacks(text)


@pytest.mark.parametrize("text", ["bf16,bf16", "compile,fp32+compile", "bf16+compile,compile+bf16"])
def test_the_same_stack_twice_is_refused_however_it_is_written(text):
    with pytest.raises(UnknownStackError, match=r"names the stack '.*' twice"):
        parse_stacks(text)


def test_components_that_a_stack_changes():
    assert parse_stack("fp32").changed_components() == frozenset()
    assert parse_stack("channels_last").changed_components() == {"denoiser", "vae"}
    assert parse_stack("channels_last+compile").changed_components() == {"denoiser", "vae"}
    assert parse_stack("bf16+compile").changed_components() is None


def test_compilation_comes_last():
    assert max(Family) is Family.COMPILE
    assert Stack(("bf16", "compile")) == parse_stack("compile+bf16")
