"""Small programs on the fake GPU, one property each; what a case returns is JSON."""

import runpy
import tempfile
import threading
from pathlib import Path

import torch
import torch._dynamo
import triton
import triton.language as tl

from pytest_diffspeed.gpucost import (
    FakeGpu,
    GpuCostError,
    ValueDependentError,
    compare_costs,
    count_compiled,
    count_eager,
    named_gpu,
    triton_resources,
)

F = torch.nn.functional


class Small(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(50_000, 64)
        self.linear = torch.nn.Linear(64, 128)
        self.norm = torch.nn.LayerNorm(128)

    def forward(self, ids):
        return self.norm(F.gelu(self.linear(self.table(ids))))


def small(fake):
    return fake.on_device(Small().to(torch.bfloat16)), [fake.like(torch.zeros(2, 8).long())]


@torch.library.custom_op("planted::without_fake", mutates_args=())
def without_fake(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


def refused(call):
    try:
        call()
    except GpuCostError as error:
        return type(error).__name__, str(error)
    return "nothing", ""


# --- what is counted


def max_autotune(fake):
    module, args = small(fake)
    default, _ = count_compiled(module, args, fake=fake)
    options = {"max_autotune": True, "triton.cudagraphs": True}
    tuned, _ = count_compiled(module, args, fake=fake, inductor_options=options)
    return tuned.notes, tuned.kernels == default.kernels


def rows_of_a_table(fake):
    """Bytes of the kernels that read the embedding, and those of the whole table."""
    module, args = small(fake)
    table = module.table.weight
    bytes_of = [
        sum(k.bytes for k in count(module, args, fake=fake)[0].kernels if "embedding" in k.name)
        for count in (count_eager, count_compiled)
    ]
    return *bytes_of, table.numel() * table.element_size()


@torch.compiler.disable
def not_compiled(x):
    return x.cumsum(-1)


def eager_between_graphs(fake):
    cost, _ = count_compiled(
        lambda x: not_compiled(x * 2) + 1, [fake.like(torch.ones(4, 4))], fake=fake
    )
    return [(k.name, k.kind) for k in cost.kernels], cost.graphs, cost.launches_in_code


def views_of_complex_numbers(fake):
    def rotary(x):
        turned = torch.view_as_complex(x.reshape(2, 2)) * torch.polar(x[:2], x[2:])
        return torch.view_as_real(turned).flatten() + 1

    cost, _ = count_compiled(rotary, [fake.like(torch.ones(4))], fake=fake)
    return [k.name for k in cost.kernels], cost.launches_in_code


def indexed_from_the_host(fake):
    args = [fake.like(torch.ones(4)), torch.tensor([1, 2])]
    cost, _ = count_eager(lambda x, rows: x[rows], args, fake=fake)
    return [(k.name, k.kind) for k in cost.kernels]


def copied_from_the_host(fake):
    cpu, gpu = torch.ones(4, 4), fake.like(torch.ones(4, 4))
    costs = [
        count(lambda a, b: a.to("cuda") * b, [cpu, gpu], fake=fake)[0]
        for count in (count_eager, count_compiled)
    ]
    return [(cost.figures()["h2d"], cost.figures()["kernels"]) for cost in costs]


def value_in_one_graph(fake):
    """What dynamo captures of `item()` goes on, and the wrapper waits for the value."""
    args = fake.like((torch.ones(4), torch.ones(4).long()))
    cost, _ = count_compiled(lambda x, n: x * n.sum().item(), args, fake=fake, fullgraph=True)
    return [(k.name, k.kind) for k in cost.kernels], len(cost.breaks)


def to_the_host(fake):
    cost, out = count_eager(lambda x: (x + 1).to("cpu"), [fake.like(torch.ones(4, 4))], fake=fake)
    return [(k.name, k.kind) for k in cost.kernels], str(out.device)


@triton.jit
def doubled(x, out, n, BLOCK: tl.constexpr):
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + here, 2 * tl.load(x + here, mask=here < n), mask=here < n)


def triton_of_the_users(fake):
    def call(x):
        out = torch.empty_like(x)
        doubled[(1,)](x, out, x.numel(), BLOCK=16)
        return out + 1

    cost, _ = count_compiled(call, [fake.like(torch.ones(16))], fake=fake)
    return [(k.name, k.kind) for k in cost.kernels]


def groups(fake):
    """A group norm of what is channels last copies it first: modelled, as its other launches."""
    x = fake.like(torch.ones(2, 8, 4, 4))
    last = fake.like(torch.ones(2, 8, 4, 4).to(memory_format=torch.channels_last))
    costs = [count_eager(lambda x: F.group_norm(x, 2), [t], fake=fake)[0] for t in (x, last)]
    return [(k.kind, k.bytes, k.hidden_launches) for cost in costs for k in cost.kernels]


@torch.library.custom_op("planted::fills", mutates_args=("out",))
def fills(x: torch.Tensor, out: torch.Tensor) -> None:
    out.copy_(x)


def returning_nothing(fake):
    x, y = fake.like((torch.ones(100), torch.ones(100)))
    cost, _ = count_eager(lambda: (fills(x, y), torch._foreach_add_([x, y], 1.0)), fake=fake)
    return [(k.name, k.kind, k.bytes) for k in cost.kernels]


def in_place(fake):
    x, y = fake.like((torch.ones(100), torch.ones(100)))
    cost, _ = count_eager(lambda: (x.add_(y), x.copy_(y), x.zero_(), x.add(x)), fake=fake)
    return [(k.name, k.kind, k.bytes) for k in cost.kernels]


def precision_of_float32(fake):
    def call(x, w, image, kernel):
        return x @ w, F.conv2d(image, kernel)

    args = fake.like(
        (torch.ones(4, 4), torch.ones(4, 4), torch.ones(1, 4, 8, 8), torch.ones(4, 4, 3, 3))
    )
    found = {}
    for precision in ("ieee", "tf32"):
        torch.backends.cuda.matmul.fp32_precision = precision
        torch.backends.cudnn.conv.fp32_precision = precision
        for count in (count_eager, count_compiled):
            cost, _ = count(call, args, fake=fake)
            units = {k.kind: k.unit for k in cost.kernels if k.flops}
            found.setdefault(precision, []).append(units)
    return found


def transposed_convolution(fake):
    x, w = fake.like((torch.ones(1, 8, 4, 4), torch.ones(8, 6, 3, 3)))
    costs = [
        count(lambda x, w: F.conv_transpose2d(x, w), [x, w], fake=fake)[0]
        for count in (count_eager, count_compiled)
    ]
    return [[(k.flops, k.shape) for k in cost.kernels if k.kind == "conv"] for cost in costs]


def convolutions_keep_channels_last(fake):
    with fake.tensors():
        conv = fake.on_device(torch.nn.Conv2d(8, 16, 3).to(torch.bfloat16))
        conv.to(memory_format=torch.channels_last)
        x = fake.like(torch.ones(2, 8, 9, 9, dtype=torch.bfloat16))
    return [count(conv, [x], fake=fake)[1].stride() for count in (count_eager, count_compiled)]


def resources_of_a_kernel(fake):
    code = []
    args = [fake.like(torch.ones(64, 128))]
    count_compiled(lambda x: F.softmax(x, -1), args, fake=fake, code=code)
    return [vars(found) for text in code for found in triton_resources(text)]


def in_inference_mode(fake):
    """What the same code costs without gradients, and in inference mode: kernel by kernel."""
    linear = fake.on_device(torch.nn.Linear(8, 8).to(torch.bfloat16))

    def call(x):
        return F.group_norm(F.scaled_dot_product_attention(linear(x), x, x) @ x.mT, 2)

    @torch.inference_mode()
    def inference(x):
        return call(x)

    x = [fake.like(torch.ones(1, 2, 8, 8, dtype=torch.bfloat16))]
    costs = [count_eager(function, x, fake=fake)[0] for function in (call, inference)]
    return [[(k.name, k.kind, k.bytes, k.flops) for k in cost.kernels] for cost in costs]


def rms_norms(fake):
    """CUDA has one kernel for each, whose op other devices run as several."""
    made = torch.nn.RMSNorm(8, elementwise_affine=False), torch.nn.RMSNorm(8).to(torch.bfloat16)
    plain, own = map(fake.on_device, made)
    norms = (plain, own, torch.inference_mode()(own))
    x = [fake.like(torch.ones(4, 8, dtype=torch.bfloat16))]
    return [[k.name for k in count_eager(norm, x, fake=fake)[0].kernels] for norm in norms]


def products_of_vectors_and_complex_numbers(fake):
    a, b, c = fake.like((torch.ones(4, 8), torch.ones(8), torch.ones(4)))
    z = fake.like(torch.ones(4, 4, dtype=torch.complex64))
    cost, _ = count_eager(lambda: (a @ b, b @ b, torch.addmv(c, a, b), z @ z), fake=fake)
    return [(k.name, k.kind, k.flops, k.shape) for k in cost.kernels]


def products_that_no_rule_knows(fake):
    """A fused encoder of torch's own, which multiplies in kernels that no count sees."""
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    fake.on_device(layer.eval().requires_grad_(False))
    x = [fake.like(torch.ones(2, 16, 64))]
    try:
        encoder = [(k.name, k.kind) for k in count_eager(layer, x, fake=fake)[0].kernels]
    except GpuCostError as error:
        encoder = str(error)
    inverse, _ = count_compiled(torch.linalg.inv, [fake.like(torch.ones(4, 4))], fake=fake)
    return encoder, [(k.name, k.kind) for k in inverse.kernels]


def switched_on_elsewhere(fake):
    """Inductor's settings that come from a module or the environment, and no option."""
    import torch._inductor.config as config

    module, args = small(fake)
    plain = fake.key(compiles=True)
    with config.patch(max_autotune=True, epilogue_fusion=False):
        notes = count_compiled(module, args, fake=fake)[0].notes
        key = fake.key(compiles=True)
        eager = fake.key()
    return {
        "notes": notes,
        "usual": plain.get("inductor_settings", ""),
        "key": key["inductor_settings"],
        "eager": eager.get("inductor_settings", ""),
    }


def copies_by_what_they_keep(fake):
    """Kinds of one movement each, eagerly and compiled."""
    x = fake.like(torch.ones(64, 64))
    moves = {
        "rows": lambda x: x[:32].clone(),
        "columns": lambda x: x[:, :32].clone(),
        "transposed": lambda x: x.t().contiguous(),
        "spread": lambda x: x[:, None].expand(-1, 5, -1).contiguous(),
        "turned around": lambda x: x.flip(0),
        "in place": lambda x: torch.zeros(64, 64, device=x.device).copy_(x),
        "converted": lambda x: x.t().half(),
    }
    return {
        name: [
            [k.kind for k in count(move, [x], fake=fake)[0].kernels][-1:]
            for count in (count_eager, count_compiled)
        ]
        for name, move in moves.items()
    }


def transforms_of_real_input(fake):
    """Their numbers become complex by a copy, which the code writes as one of PyTorch's."""
    x = [fake.like(torch.ones(4, 64))]
    costs = [
        count(lambda x: torch.fft.fftn(x, dim=(-2, -1)).real * 2, x, fake=fake)[0]
        for count in (count_eager, count_compiled)
    ]
    kernels = [[(k.kind, k.bytes, k.shape) for k in cost.kernels] for cost in costs]
    return kernels, costs[1].launches_in_code, costs[1].notes


def scan_in_two_launches(fake):
    """Blocks of a long scan meet in a workspace, which the code clears first."""
    x = [fake.like(torch.ones(1 << 24))]
    cost, _ = count_compiled(lambda x: x.cumsum(-1), x, fake=fake)
    names = [(k.name, k.bytes > 0, bool(k.site)) for k in cost.kernels]
    return names, cost.launches_in_code, cost.notes


def called_by_the_user(fake):
    """A module of diffusers, called in two lines: each kernel's own line and who called it."""
    from diffusers.models.attention import FeedForward

    part = fake.on_device(FeedForward(64).to(torch.bfloat16))

    def twice(x):
        x = part(x)  # the first call
        return x + part(x)  # the second call

    args = [fake.like(torch.ones(4, 64, dtype=torch.bfloat16))]
    costs = [count(twice, args, fake=fake)[0] for count in (count_eager, count_compiled)]
    return [[(k.site, k.called_from, k.route, k.path) for k in cost.kernels] for cost in costs]


ONCE = "def run(part, x):\n    return part(x)\n"
TWICE = "def run(part, x):\n    x = part(x)\n    return part(x)\n"


def called_in_another_tree(fake):
    """A file that calls a module of diffusers once more, where the first call was before."""
    from diffusers.models.attention import FeedForward

    part = fake.on_device(FeedForward(64).to(torch.bfloat16))
    args = [part, fake.like(torch.ones(4, 64, dtype=torch.bfloat16))]

    def cost(text):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.py"
            file.write_text(text)
            return count_eager(runpy.run_path(str(file))["run"], args, fake=fake)[0]

    return [one.lines for one in compare_costs(cost(ONCE), cost(TWICE)).more]


def overwritten_in_part(fake):
    """Bytes of an in-place copy, and of what reads all of its target afterwards."""

    def whole(x, y):
        return y.copy_(x)

    def rows(x, y):
        y[3:5] = x[:2]
        return y.relu(), y @ x

    args = fake.like((torch.ones(64, 64), torch.ones(64, 64)))

    def kernels(count, f):
        cost, _ = count(f, args, fake=fake)
        return sorted((k.kind.rpartition("_")[2], k.bytes) for k in cost.kernels)

    return [[kernels(count, f) for count in (count_eager, count_compiled)] for f in (whole, rows)]


# --- modules and tensors


def module_on_the_gpu(fake):
    module = torch.nn.Module()
    module.one = torch.nn.Linear(4, 4, device="meta")
    module.two = torch.nn.Linear(4, 4, device="meta")
    module.two.weight = module.one.weight
    module.register_buffer("kept", torch.ones(3))
    module.register_buffer("dropped", torch.ones(3), persistent=False)
    same = fake.on_device(module) is module
    with fake.tensors():
        half = module.half()
    return {
        "same": same,
        "tied": torch.nn.Linear is type(module.one) and module.one.in_features == 4,
        "devices": sorted({str(t.device) for t in [*module.parameters(), *module.buffers()]}),
        "dtypes": sorted({str(t.dtype) for t in half.parameters()}),
        "state": sorted(module.state_dict()),
    }


def shared_parameters(fake):
    module = torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)])
    module[1].weight = module[0].weight
    fake.on_device(module)
    return module[1].weight is module[0].weight


def copies(fake):
    real = torch.ones(2, 3, 4).transpose(0, 2)
    made = fake.like({"a": [real, 7], "b": torch.tensor(3.0)}, keep_scalars=True)
    return [
        made["a"][0].stride() == real.stride(),
        str(made["a"][0].device),
        made["a"][1],
        str(made["b"].device),
        str(fake.like(torch.tensor(3.0)).device),
    ]


# --- what is refused


def refusals(fake):
    module, args = small(fake)

    def broken(x):
        x = x * 2
        torch._dynamo.graph_break()
        return x + 1

    def read(x):
        return x * x.sum().item()

    def chosen(x):
        return x + 1 if x.sum() > 0 else x

    def quantized():
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        linear = torch.nn.Linear(64, 64)
        quantize_(linear, Int8WeightOnlyConfig())
        fake.on_device(torch.nn.ModuleDict({"layer": linear}))

    def guarded(x):
        try:
            return x * x.sum().item()
        except Exception:
            return x

    def threaded(x):
        found = []
        thread = threading.Thread(target=lambda: found.append(x + 1))
        thread.start()
        thread.join()
        return found[0]

    def with_gradients(x):
        with torch.enable_grad():
            y = x.detach().requires_grad_(True)
            return torch.autograd.grad((y * y).sum(), y)[0]

    def compiled_inside(x):
        return torch.compile(lambda y: y + 1)(x)

    def launched(x):
        doubled[(1,)](x, x, 4, BLOCK=4)
        return x

    def left_as_it_is():
        torch.compiler.set_stance("force_eager")
        try:
            count_compiled(torch.neg, x, fake=fake)
        finally:
            torch.compiler.set_stance("default")

    def suppressed():
        with torch._dynamo.config.patch(suppress_errors=True):
            count_compiled(lambda x: without_fake(x), x, fake=fake)

    x = [fake.like(torch.ones(4))]
    options = {"inductor_options": {"no_such_option": 1}}
    return {
        "option": refused(lambda: count_compiled(module, args, fake=fake, **options)),
        "break": refused(lambda: count_compiled(broken, x, fake=fake, fullgraph=True)),
        "item": refused(lambda: count_compiled(read, x, fake=fake)),
        "branch": refused(lambda: count_eager(chosen, x, fake=fake)),
        "nonzero": refused(lambda: count_eager(torch.nonzero, x, fake=fake)),
        "no_fake": refused(lambda: count_eager(lambda x: without_fake(x), x, fake=fake)),
        "no_fake_compiled": refused(
            lambda: count_compiled(lambda x: without_fake(x), x, fake=fake, fullgraph=True)
        ),
        "numpy": refused(lambda: count_eager(lambda x: x.cpu().numpy(), x, fake=fake)),
        "another_gpu": refused(lambda: FakeGpu(named_gpu("h100")).install()),
        "not_installed": refused(lambda: FakeGpu(named_gpu("a100")).like(torch.ones(1))),
        "quantized": refused(quantized),
        "caught": refused(lambda: count_eager(guarded, x, fake=fake)),
        "caught_between_graphs": refused(lambda: count_compiled(guarded, x, fake=fake)),
        "thread": refused(lambda: count_eager(threaded, x, fake=fake)),
        "gradients": refused(lambda: count_eager(with_gradients, x, fake=fake)),
        "compiled_inside": refused(lambda: count_eager(compiled_inside, x, fake=fake)),
        "launched": refused(lambda: count_eager(launched, x, fake=fake)),
        "left_as_it_is": refused(left_as_it_is),
        "suppressed": refused(suppressed),
        "error_of_the_users": raised(lambda: count_eager(lambda x: x + {}, x, fake=fake)),
        "is_one": issubclass(ValueDependentError, GpuCostError),
    }


def raised(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__


def same_gpu_again(fake):
    again = FakeGpu(named_gpu("a100")).install()
    return count_eager(torch.neg, [again.like(torch.ones(4))], fake=again)[0].figures()["kernels"]


def key(fake):
    return fake.key({"epilogue_fusion": False})


CASES = {
    case.__name__: case
    for case in (
        max_autotune,
        rows_of_a_table,
        eager_between_graphs,
        views_of_complex_numbers,
        indexed_from_the_host,
        copied_from_the_host,
        value_in_one_graph,
        to_the_host,
        triton_of_the_users,
        groups,
        in_place,
        returning_nothing,
        precision_of_float32,
        transposed_convolution,
        convolutions_keep_channels_last,
        resources_of_a_kernel,
        in_inference_mode,
        rms_norms,
        products_of_vectors_and_complex_numbers,
        products_that_no_rule_knows,
        switched_on_elsewhere,
        copies_by_what_they_keep,
        transforms_of_real_input,
        scan_in_two_launches,
        called_by_the_user,
        called_in_another_tree,
        overwritten_in_part,
        module_on_the_gpu,
        shared_parameters,
        copies,
        refusals,
        same_gpu_again,
        key,
    )
}
