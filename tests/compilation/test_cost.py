"""When compiling pays off, and what a warm cache is; no clock is read."""

import math

import pytest
import torch

from pytest_diffspeed.compilation.cost import ColdStart, Compilation, watching_compilation


@pytest.mark.parametrize(
    ("hits", "misses", "cache"),
    [(0, 0, "unused"), (2, 0, "warm"), (0, 2, "cold"), (1, 1, "partly warm")],
)
def test_which_cache(hits, misses, cache):
    assert Compilation(2, hits, misses).cache == cache


def test_break_even_is_what_was_spent_over_what_is_saved():
    start = ColdStart(first_call_s=62.0, steady_s=2.0, baseline_s=2.5, cache="cold")
    assert (start.compile_s, start.break_even_images) == (60.0, 120.0)
    assert start.sentence() == "first call 62 s (cold cache), then 2 s; pays off after 120 images"


@pytest.mark.parametrize("baseline_s", [2.0, 1.0])
def test_what_saves_nothing_never_pays_off(baseline_s):
    start = ColdStart(62.0, 2.0, baseline_s, "warm")
    assert math.isinf(start.break_even_images)
    assert start.sentence().endswith(f"never pays off: the baseline takes {baseline_s:g} s")


def test_graphs_and_cache_hits_are_counted_while_it_is_open(fresh_dynamo):
    inductor = torch._dynamo.utils.counters["inductor"]
    with watching_compilation(compiles=True, paid=set()) as watch, torch.no_grad():
        torch.compile(torch.nn.Linear(2, 2), backend="eager")(torch.ones(2))
        inductor["fxgraph_cache_hit"] += 3
    inductor["fxgraph_cache_hit"] -= 3
    assert watch.seen == Compilation(graphs=1, cache_hits=3)


def test_where_nothing_compiles_nothing_is_counted():
    with watching_compilation(compiles=False, paid=set()) as watch:
        pass
    assert watch.seen == Compilation()


def test_whose_graphs_were_in_the_cache(fresh_dynamo, tmp_path, monkeypatch):
    """One product, for which inductor writes no kernel of its own, compiled three times: the third
    stands for another session.
    """
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    paid = set()
    seen = []
    for known in (paid, paid, set()):
        with watching_compilation(compiles=True, paid=known) as watch, torch.no_grad():
            torch.compile(lambda x: x @ x)(torch.ones(3, 3))
        seen.append((watch.seen.cache, watch.seen.paid_here))
        torch.compiler.reset()
    assert seen == [("cold", 0), ("warm", 1), ("warm", 0)]
