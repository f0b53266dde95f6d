"""Pipelines without weights, tensors that stand in for them, and stacks that are refused."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from pytest_diffspeed.adapters.module_tensors import TwoSets, conversions_overwrite
from pytest_diffspeed.arms.gpu_cost.fake_components import mapped
from pytest_diffspeed.arms.gpu_cost.stack import apply_one, compiled_by
from pytest_diffspeed.arms.gpu_cost.weightless import build
from pytest_diffspeed.common.errors import IncompatibleError
from pytest_diffspeed.pipelines.components import modules
from pytest_diffspeed.pipelines.sources import DemoSource, FolderSource
from pytest_diffspeed.techniques.catalog.compile import Compile
from pytest_diffspeed.techniques.technique import Family, Technique


def test_a_folder_is_built_of_its_configurations_alone(tmp_path):
    folder = tmp_path / "without_weights"
    shutil.copytree(DemoSource.FOLDER, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    pipeline = build(FolderSource(str(folder), folder))
    tensors = [p for part in modules(pipeline).values() for p in part.parameters()]
    assert {p.device.type for p in tensors} == {"meta"}
    assert {p.dtype for p in tensors} == {torch.float32}
    assert not any(part.training for part in modules(pipeline).values())


@pytest.fixture
def module():
    made = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(3, 4))
    made[1].weight = made[0].weight
    made.register_buffer("table", torch.arange(3.0))
    return made


def test_stand_ins_have_shapes_and_no_memory_and_the_first_tensors_come_back(module):
    first = dict(module.named_parameters())
    sets = TwoSets()
    sets.add(module)
    stand_in = module[0].weight
    assert stand_in.shape == (4, 3)
    assert stand_in.untyped_storage().nbytes() == 4
    assert module[1].weight is stand_in  # tied tensors stay tied
    assert module.table.tolist() == [0, 1, 2]  # a small buffer keeps its values
    with sets.first(), sets.first():
        assert dict(module.named_parameters()) == first
    assert module[0].weight.untyped_storage().nbytes() == 4


def test_what_is_changed_inside_stays_and_a_cast_outside_reaches_the_first_tensors(module):
    sets = TwoSets()
    sets.add(module)
    with sets.first(), conversions_overwrite():
        module.to(torch.bfloat16)
        module.append(torch.nn.Linear(4, 5))
    assert module[0].weight.dtype == torch.bfloat16
    assert module[2].weight.untyped_storage().nbytes() == 4
    module.to(torch.float64)
    with sets.first():
        assert module[0].weight.dtype == torch.float64
        assert module[0].weight.is_contiguous()
        assert module[1].weight is module[0].weight


def test_tensors_are_mapped_wherever_they_are():
    held = SimpleNamespace(mean=torch.zeros(2), name="a")
    given = {"a": [torch.zeros(1), 3], "b": (held, None)}
    seen = []
    found = mapped(lambda tensor: seen.append(tensor) or len(tensor), given)
    assert (found["a"], found["b"][0].mean, found["b"][0].name) == ([1, 3], 2, "a")
    assert len(seen) == 2
    assert isinstance(held.mean, torch.Tensor)  # what was given is left alone


class Own(Technique):
    name = "own_compilation"
    family = Family.COMPILE
    summary = ""

    def apply(self, pipeline):
        raise RuntimeError("it reads a weight\nand more")

    def prove(self, pipeline, seen):
        raise AssertionError("unreachable because nothing is proven")


class ByAnotherBackend(Compile):
    name = "compile_elsewhere"
    backend = "eager"


@pytest.mark.parametrize("technique", [Own(), ByAnotherBackend()])
def test_compilation_that_is_not_the_catalogues_is_refused(technique):
    with pytest.raises(IncompatibleError, match="compiles in a way of its own, which is not count"):
        compiled_by(technique, SimpleNamespace())


def test_a_technique_that_needs_weights_is_refused_with_what_it_said():
    components = SimpleNamespace(on_the_gpu=nullcontext)
    with pytest.raises(IncompatibleError) as error:
        apply_one(Own(), SimpleNamespace(), components, lambda: None)
    assert str(error.value) == (
        "own_compilation cannot be applied to components without weights, so its GPU cost cannot "
        "be counted: RuntimeError: it reads a weight"
    )
