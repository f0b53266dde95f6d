"""A GPU cost in the HTML report: bars by kind, figures that moved, kernels with their lines."""

import html
import re
from dataclasses import replace
from importlib import resources
from itertools import pairwise

import pytest
from gpu_cost_records import TEST, cost, gpu_cost, green_cost, kernels, red_cost
from report_sessions import about, told

from pytest_diffspeed.gpucost import Kernel
from pytest_diffspeed.gpucost.cost import KINDS as COUNTED_KINDS
from pytest_diffspeed.gpucost.cost import TRANSFERS
from pytest_diffspeed.gpucost.gpus import UNITS
from pytest_diffspeed.records.finished import FinishedSession
from pytest_diffspeed.records.schema import fits
from pytest_diffspeed.reports.html import render
from pytest_diffspeed.reports.html.gpu_cost import KINDS, OTHER, TYPES, colour, cost_view
from pytest_diffspeed.reports.html.text import shown


@pytest.fixture
def page(tmp_path):
    def page_(*records):
        records = [about(), *records, told(TEST, "failed")]
        return render(FinishedSession(records, tmp_path).session, tmp_path, ())

    return page_


def words_of(markup):
    markup = re.sub(r"<(script|style|template|title)\b.*?</\1>", " ", markup, flags=re.S)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", markup)))


def test_each_kind_and_type_that_is_counted_has_a_colour():
    assert set(KINDS) == set(COUNTED_KINDS) - set(TRANSFERS)
    assert tuple(TYPES) == UNITS
    style = resources.files("pytest_diffspeed.reports.html").joinpath("static/report.css")
    text = style.read_text("utf-8")
    for name in (*KINDS, *TYPES, OTHER):
        assert re.search(rf"\.{colour(name)}\b[^{{]*{{ color: #", text), name


def test_a_red_gate_shows_base_beside_head_and_what_is_the_same_once(page):
    record = red_cost()
    assert fits("gate", record)
    markup = page(record)
    said = [
        html.unescape(found) for found in re.findall(r'role="img" aria-label="([^"]*)"', markup)
    ]
    assert [one.partition(":")[0] for one in said] == [
        "text_encoder, the call, eager, both",
        "unet, step 1, eager, base",
        "unet, step 1, eager, head",
        "vae.decode, the call, eager, both",
    ] * 3  # kernels, bytes, FLOPs
    assert said[1] == (
        "unet, step 1, eager, base: 72; gemm 12, conv 12, attention 12, pointwise 12, "
        "reduction 12, copy 12"
    )
    assert said[2].startswith("unet, step 1, eager, head: 100; gemm 12,")
    assert "cast 10" in said[2] and "Triton pointwise 18" in said[2]
    assert said[9].endswith("base: 252 G; b16 252 G") and "f32 14 G, b16 238 G" in said[10]
    text = words_of(markup)
    assert "text_encoder, vae.decode: shown, and not in what was compared." in text
    # The longest bar has the whole width, and segments follow each other without a gap.
    widths = [
        [tuple(map(int, at)) for at in re.findall(r'x="(\d+)" y="0" width="(\d+)"', bar)]
        for bar in re.findall(r"<svg.*?</svg>", markup)
    ]
    for bar in widths:
        assert all(x + width == after for (x, width), (after, _) in pairwise(bar))
    assert max(sum(width for _, width in bar) for bar in widths[:4]) == 1000
    assert sum(width for _, width in widths[1]) == 720


def test_figures_that_moved_and_kernels_with_their_lines(page):
    markup = page(red_cost())
    text = words_of(markup)
    assert "Figures of step 1 that moved" in text
    assert "casts 0 10 +10" in text and "flops.f32+ 0 14 G +14 G" in text
    assert "11 other figures are the same." in text
    assert "New kernels (19 kinds, the most first)" in text
    assert (
        "10 cast 30 MB _to_copy project/fast_attention.py:34 project/fast_attention.py:35 2×4096"
        in text
    )
    assert "7 more kinds" in text
    assert "Kernels that move or multiply more than before (1 kind, the most first)" in text
    assert "shape 2 gemm b16 → f32 addmm diffusers/models/attention.py:57 1×4096×640×640" in text
    assert words_of(markup).count("project/fast.py:17") == 1
    # The reason does not say again what the tables have.
    assert "step 1, +10 cast" not in text and "casts 0 → 10 (+10, 0 allowed)" in text


def test_what_a_record_has_not_is_counted_with_the_file_that_has_it(page, tmp_path):
    many = [Kernel(f"op{n}", "opaque", 10, shape=(n,), site=f"a.py:{n}") for n in range(60)]
    record = gpu_cost(cost(kernels(2)), cost(kernels(2, *many)), rootdir=tmp_path)
    text = words_of(page(record))
    assert "New kernels (60 kinds," in text and "28 more kinds" in text
    assert "20 more kinds not in the records." in text
    assert (
        f"All kernels that differ, of each step: {record['figures']['gpu_cost']['whole']}" in text
    )


def test_what_libraries_add_around_a_kernel_has_its_own_table(page):
    conv, *others = kernels(1)
    copying = replace(conv, hidden_launches=3, hidden_bytes=600)
    text = words_of(page(gpu_cost(cost((conv, *others)), cost((copying, *others)))))
    assert "hidden 0 3 +3" in text
    assert (
        "Kernels around which libraries launch more, by these launches, modelled (1 kind," in text
    )
    assert "3 conv 600 B convolution diffusers/models/attention.py:41 2×640×64×64" in text


def test_a_green_gate_has_its_bars_and_nothing_moved(page):
    markup = page(green_cost())
    text = words_of(markup)
    assert "that moved" not in text and "New kernels" not in text
    assert len(re.findall("<svg viewBox", markup)) == 9
    assert "unet, step 1, eager Kernels gemm 12 12" in text  # the bars as a table


def test_names_of_strangers_are_shown_and_never_obeyed(page):
    evil = '"><script>alert(1)</script>\u202e'
    kernel = Kernel(evil, "cast", 10, shape=(4,), site=f"{evil}.py:1")
    record = gpu_cost(cost(kernels(1)), cost(kernels(1, kernel)))
    told = record["figures"]["gpu_cost"]
    told["unit"] = told["whole"] = evil
    told["components"][0] |= {"component": evil, "how": evil}
    told["components"][1]["head"]["kernels"] |= {evil: 3}
    told["new"][0]["kind"] = evil
    record["reason"] = ""
    markup = page(record)
    assert "<script>alert" not in markup and "\u202e" not in markup
    assert words_of(markup).count(shown(evil)) >= 5
    assert "other 3" in html.unescape(markup)


@pytest.mark.parametrize(
    "wrong",
    [
        {"components": [{}, 3, {"component": 7, "head": {"kernels": {"gemm": -1, "conv": "x"}}}]},
        {"components": [{"component": "unet", "base": {"bytes": {"gemm": 1e400}}}]},
        {"components": [{"component": "unet", "head": {"flops": {"b16": 10**400, "f32": 5}}}]},
        {"new": [{"shape": ["x", None, 3], "lines": 3, "number": None}], "figures": {"a": 1}},
        {"figures": {"kernels": {"base": 1, "head": "2"}}, "new_left_out": "many"},
        {"unit": 3},
        {"components": "unet"},
    ],
)
def test_figures_of_another_kind_count_as_not_there(page, wrong):
    record = red_cost()
    record["figures"]["gpu_cost"] |= wrong
    page(record)


def test_other_gates_have_no_cost():
    assert cost_view({}) is None
    assert cost_view({"gpu_cost": {"gpu": "A GPU", "over": "main"}}) is None
