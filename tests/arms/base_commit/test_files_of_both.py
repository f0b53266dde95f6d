"""Adapters of a stack, and what else it names by a path, for the workers of both trees."""

import os

import pytest

from pytest_diffspeed.accelerators.registry import resolve_device
from pytest_diffspeed.arms.base_commit.base import Base
from pytest_diffspeed.arms.session_options import Options
from pytest_diffspeed.arms.spec import ArmSpec
from pytest_diffspeed.arms.workers import Workers
from pytest_diffspeed.common.progress import Progress
from pytest_diffspeed.records.journal import Journal
from pytest_diffspeed.techniques.stacks import parse_stack


@pytest.fixture
def workers(repository, tmp_path):
    (repository.path / "kept.safetensors").write_text("the base's")
    repository.commit("base")
    (repository.path / "kept.safetensors").write_text("of this tree")
    for name in ("ours.safetensors", "ours too.safetensors"):
        (repository.path / name).write_text("git does not have it")
    base = Base(repository.path, "main", None)
    options = Options("cpu", "demo", (), None, (), None, None, base="main")
    device = resolve_device("cpu")
    journal = Journal(tmp_path / "journal.jsonl")
    made = Workers(options, device, base, lambda spec: {}, journal, Progress(lambda text: None))
    yield made
    base.close()


@pytest.mark.parametrize(
    ("stack", "in_base"),
    [
        ("bf16+lora(kept.safetensors)", "lora(kept.safetensors)+bf16"),
        ("lora(./ours.safetensors,scale=0.5)", "lora({here}/ours.safetensors,scale=0.5)"),
        (
            "lora('ours too.safetensors',fused=True)+channels_last",
            "lora('{here}/ours too.safetensors',fused=True)+channels_last",
        ),
        ("lora(owner/repository)", "lora(owner/repository)"),
        ("compile(mode=reduce-overhead)", "compile(mode=reduce-overhead)"),
    ],
)
def test_what_git_does_not_have_is_this_trees_in_both(workers, repository, stack, in_base):
    """As the weights of a local folder are, whose name is an arm's source."""
    spec = ArmSpec("demo", parse_stack(stack))
    order, place = workers.order_in_base(spec, "call")
    assert place.folder != repository.path
    assert order.stack == in_base.format(here=os.path.realpath(repository.path))
    assert workers.order(spec, "call").stack == spec.stack.name
