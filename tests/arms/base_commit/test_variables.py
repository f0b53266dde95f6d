"""What a base's workers see of this process's environment."""

import os
from dataclasses import replace

import pytest

from pytest_diffspeed.arms.base_commit.place import this_process
from pytest_diffspeed.arms.base_commit.variables import of_base, of_both
from pytest_diffspeed.arms.worker.arm import WorkerArm
from pytest_diffspeed.arms.worker.protocol import BuildOrder

ORDER = BuildOrder(
    source="random:sdxl-tiny",
    stack="fp32",
    unit="call",
    device="cpu",
    steps=1,
    prompts=(),
    threads=1,
)

SECRETS = {
    "GITHUB_TOKEN": "1",
    "HF_TOKEN": "2",
    "HF_HUB_TOKEN": "3",
    "AWS_SECRET_ACCESS_KEY": "4",
    "DIFFSPEED_STORE_PASSWORD": "5",
    "PGPASSWORD": "6",
    "MY_SECRET": "7",
    "TORCH_API_KEY": "8",
    "HTTPS_PROXY": "http://user:word@proxy",
}
USEFUL = {
    "PATH": "/usr/bin",
    "LC_ALL": "C.UTF-8",
    "CUDA_VISIBLE_DEVICES": "0",
    "OMP_NUM_THREADS": "1",
    "TORCHINDUCTOR_FREEZING": "1",
    "HF_HOME": "/models",
    "TOKENIZERS_PARALLELISM": "false",
}


def test_secrets_stay_behind_and_what_decides_speed_does_not():
    assert of_both({**SECRETS, **USEFUL}) == USEFUL


def test_names_and_patterns_that_the_user_gives_are_let_through():
    given = {"MODEL_DIR": "/m", "DATA_A": "a", "DATA_B": "b", "OTHER": "c", "HF_TOKEN": "t"}
    assert of_both(given, ("MODEL_DIR", "DATA_*", "HF_TOKEN")) == {
        name: given[name] for name in ("MODEL_DIR", "DATA_A", "DATA_B", "HF_TOKEN")
    }


@pytest.mark.parametrize("folder", [None, "/cache"])
def test_the_base_compiles_into_a_folder_of_its_own(folder):
    given = {"TRITON_CACHE_DIR": "/triton"}
    given |= {} if folder is None else {"TORCHINDUCTOR_CACHE_DIR": folder}
    own = of_base(given)["TORCHINDUCTOR_CACHE_DIR"]
    if folder is None:
        from torch._inductor.runtime.cache_dir_utils import default_cache_dir

        folder = default_cache_dir()
    assert own == f"{folder}-base"
    assert "TRITON_CACHE_DIR" not in of_base(given)


def test_a_worker_sees_what_its_place_has_and_never_the_stores_password(monkeypatch, tmp_path):
    """In a real process, which leaves what it sees in a file before anything of ours runs."""
    seen = tmp_path / "seen"
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {seen}\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setenv("MY_SECRET", "1")
    monkeypatch.setenv("DIFFSPEED_STORE_PASSWORD", "2")
    for variables, secret in ((of_both(os.environ), False), (None, True)):
        place = replace(this_process(), python=str(python), variables=variables)
        arm = WorkerArm("base", ORDER, place=place)
        arm.process._process.wait(60)
        arm.end()
        names = {line.partition("=")[0] for line in seen.read_text().splitlines()}
        assert ("MY_SECRET" in names) is secret
        assert "DIFFSPEED_STORE_PASSWORD" not in names
        assert "PATH" in names
