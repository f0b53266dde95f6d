"""What ``fullgraph=True`` captures in the installed torch is no break; what it refuses is one."""

import planted
import pytest
import torch

from pytest_diffspeed import find_graph_breaks
from pytest_diffspeed.adapters.dynamo_fullgraph import compiled_with_fullgraph
from pytest_diffspeed.adapters.torch_internals import fresh_outputs
from pytest_diffspeed.common.errors import DiffspeedError
from pytest_diffspeed.compilation.targets import target_of

pytestmark = pytest.mark.usefixtures("fresh_dynamo")


@pytest.fixture
def x():
    return torch.arange(8.0).reshape(2, 4)


class BranchesOnAnItem(planted.Clean):
    def forward(self, x):
        x = self.linear(x)
        return x * 2 if x.sum().item() > 0 else x


class ReadsAListOfValues(planted.Clean):
    def forward(self, x):
        return self.linear(x) * x.sum(0).tolist()[0]


class TakesAMask(planted.Clean):
    def forward(self, x):
        return self.linear(x)[x > 0] + 1


class TakesAMaskOfAKnownSize(planted.Clean):
    def forward(self, x):
        return self.linear(x)[x >= 0].reshape(2, 4) + 1


class CountsWhatIsNotZero(planted.Clean):
    def forward(self, x):
        return self.linear(x).sum() + x.nonzero().shape[0]


class SlicesByAValue(planted.Clean):
    def forward(self, x):
        return self.linear(x)[:, : int(x.max())]


MODULES = {
    "item": planted.TwoOnOneLine,
    "item and a branch": BranchesOnAnItem,
    "tolist": ReadsAListOfValues,
    "mask": TakesAMask,
    "mask of a known size": TakesAMaskOfAKnownSize,
    "nonzero": CountsWhatIsNotZero,
    "slice by a value": SlicesByAValue,
    "unique": planted.DynamicShape,
    "tensor branch": planted.Branches,
    "print": planted.InTheMiddle,
    "clean": planted.Clean,
}


def compiled(module, **options):
    module.compile(backend="eager", **options)
    return module


def ok(module, x):
    try:
        return find_graph_breaks(module, x).ok
    except DiffspeedError:
        return False  # no graph break, and no success either


@pytest.mark.parametrize("name", MODULES)
def test_a_module_has_breaks_where_fullgraph_refuses_it(name, x):
    make = MODULES[name]
    try:
        with torch.no_grad():
            compiled(make(), fullgraph=True)(x)
        captured = True
    except torch._dynamo.exc.TorchDynamoException:
        captured = False
    assert ok(make(), x) is captured
    assert ok(compiled(make(), fullgraph=True), x) is captured


@pytest.mark.parametrize("make", [planted.TwoOnOneLine, planted.DynamicShape])
def test_what_is_compiled_without_fullgraph_breaks_as_it_does(make, x):
    module = compiled(make())
    counts = torch._dynamo.utils.counters["graph_break"]
    before = sum(counts.values())
    with torch.no_grad():
        module(x)
    assert sum(counts.values()) > before
    assert not ok(module, x)
    assert ok(make(), x)


def test_parts_compiled_by_themselves_say_it_for_themselves(x):
    for fullgraph in (True, False):
        whole = planted.TwentyTimes(planted.TwoOnOneLine)
        compiled(whole.block, fullgraph=fullgraph)
        assert ok(whole, x) is fullgraph


def test_what_is_on_with_fullgraph_is_on_meanwhile_only(x):
    config = torch._dynamo.config
    before = (config.capture_scalar_outputs, config.capture_dynamic_output_shape_ops)
    find_graph_breaks(planted.TwoOnOneLine(), x)
    assert (config.capture_scalar_outputs, config.capture_dynamic_output_shape_ops) == before


def test_each_way_of_compiling_says_whether_it_is_with_fullgraph():
    for fullgraph in (True, False):
        module = planted.Clean()
        options = {"backend": "eager", "fullgraph": fullgraph}
        for made in (
            torch.compile(module, **options),
            torch.compile(module.forward, **options),
            torch.compile(torch.sin, **options),
            fresh_outputs(torch.compile(module.forward, **options)),  # as in max-autotune
        ):
            assert compiled_with_fullgraph(made) is fullgraph
            assert target_of(made).fullgraph is fullgraph
        assert target_of(compiled(module, **{"fullgraph": fullgraph})).fullgraph is fullgraph
    assert target_of(planted.Clean()).fullgraph
    assert not compiled_with_fullgraph(planted.Clean().forward)
