import pytest


@pytest.mark.diffspeed("bf16")
@pytest.mark.no_gpu_syncs()
def test_the_body_fails(optimized_pipeline):
    raise AssertionError("of the body")


@pytest.mark.diffspeed("bf16")
@pytest.mark.no_gpu_syncs()
@pytest.mark.xfail(reason="expected")
def test_an_expected_failure(optimized_pipeline):
    raise AssertionError("of the body")


@pytest.mark.diffspeed("cpu_sigmas")
@pytest.mark.no_gpu_syncs()
def test_a_technique_that_the_pipeline_cannot_take(optimized_pipeline): ...
