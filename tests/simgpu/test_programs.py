"""Random programs of tensor ops give the same values on the device as on the CPU."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional

UNARY = {
    "relu": torch.relu,
    "neg": torch.neg,
    "transpose": lambda x: x.transpose(0, 1),
    "reshape": lambda x: x.reshape(-1).reshape(x.shape),
    "softmax": lambda x: x.softmax(-1),
    "layer_norm": lambda x: functional.layer_norm(x, x.shape[-1:]),
    "cumsum": lambda x: x.cumsum(0),
    "sort": lambda x: x.sort(0).values,
    "half and back": lambda x: x.to(torch.float16).float(),
    "chunk and cat": lambda x: torch.cat(x.chunk(2, 0), 0),
    "flip": lambda x: x.flip(0),
    "clone": torch.clone,
    "topk": lambda x: x.topk(x.shape[-1]).values,
    "gather": lambda x: x.gather(0, x.argsort(0)),
    # A clone, because on the CPU nothing would be copied.
    "there and back": lambda x: x.clone().cpu().to(x.device),
    "where": lambda x: torch.where(x > 0, x, torch.tensor(0.5)),
    "masked fill": lambda x: x.masked_fill(x > 0.5, -1.0),
}
BINARY = {
    "add": torch.add,
    "mul": torch.mul,
    "matmul": lambda x, y: x @ y / 4,
    "maximum": torch.maximum,
    "lerp": lambda x, y: x.lerp(y, 0.3),
    "stack": lambda x, y: torch.stack([x, y]).mean(0),
    "outer part": lambda x, y: torch.einsum("ij,jk->ik", x, y) / 4,
}
IN_PLACE = {
    "add_": lambda x, y: x.add_(y),
    "row": lambda x, y: x[0].mul_(2),
    "column": lambda x, y: x[:, 1].copy_(y[1]),
    "put number": lambda x, y: x.__setitem__(0, 0.25),
    "put slice": lambda x, y: x.__setitem__(slice(1, 3), y[1:3]),
    "put mask": lambda x, y: x.__setitem__(x > 0.2, 0.75),
    "put mask of values": lambda x, y: x.__setitem__(x > 0.2, y[x > 0.2]),
    "put index": lambda x, y: x.__setitem__(torch.tensor([0, 2], device=x.device), y[:2]),
    "out": lambda x, y: torch.add(x, y, out=x),
    "through a view": lambda x, y: x.view(-1)[::3].clamp_(-1, 1),
    "zero": lambda x, y: x[2:].zero_(),
}

instruction = st.one_of(
    st.tuples(st.sampled_from(sorted(UNARY)), st.integers(0, 9)),
    st.tuples(st.sampled_from(sorted(BINARY)), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(st.sampled_from(sorted(IN_PLACE)), st.integers(0, 9), st.integers(0, 9)),
)


def run(program, seed, device):
    """Each instruction reads values made before it; all values at the end."""
    generator = torch.Generator().manual_seed(seed)
    values = [torch.randn(4, 4, generator=generator).to(device) for _ in range(2)]
    for name, *operands in program:
        inputs = [values[i % len(values)] for i in operands]
        if name in IN_PLACE:
            target = inputs[0]
            if any(
                size > 1 and step == 0
                for size, step in zip(target.shape, target.stride(), strict=True)
            ):
                continue
            other = inputs[1].clone()
            IN_PLACE[name](target, other)
        else:
            values.append({**UNARY, **BINARY}[name](*inputs))
    return [value.cpu() for value in values]


@given(program=st.lists(instruction, max_size=12), seed=st.integers(0, 99))
@settings(
    max_examples=150,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_same_values_as_on_the_cpu(gpu, program, seed):
    expected = run(program, seed, "cpu")
    found = run(program, seed, gpu.device)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    order=st.randoms(use_true_random=False),
    start=st.integers(0, 3),
    seed=st.integers(0, 99),
)
@settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_views_have_the_shape_and_strides_of_the_cpu(gpu, sizes, order, start, seed):
    host = torch.randn(sizes, generator=torch.Generator().manual_seed(seed))
    x = host.to(gpu.device)
    dimensions = list(range(len(sizes)))
    order.shuffle(dimensions)

    def view(tensor):
        tensor = tensor.permute(dimensions)
        return (
            tensor[min(start, tensor.shape[0] - 1) :].unsqueeze(-1).expand(*(-1,) * len(sizes), 2)
        )

    there, here = view(x), view(host)
    assert (there.shape, there.stride(), there.storage_offset()) == (
        here.shape,
        here.stride(),
        here.storage_offset(),
    )
    assert there.tolist() == here.tolist()


def test_a_wrong_value_would_be_seen(gpu, monkeypatch):
    """The property is red when one op of the device is wrong."""
    wrap = type(torch.ones(1, device=gpu.device).gpu).wrap
    monkeypatch.setattr(
        "pytest_diffspeed.simgpu.executor.Executor.wrap",
        lambda self, content, op="wrap": wrap(self, content + 1 if op == "relu" else content, op),
    )
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            run([("relu", 0)], 0, gpu.device), run([("relu", 0)], 0, "cpu"), rtol=0, atol=0
        )
