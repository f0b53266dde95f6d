"""What keeps a guard from failing, in dynamo's own words."""

import pytest

from pytest_diffspeed.compilation.recompile_hints import remedy


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ("tensor 'sample' size mismatch at index 3. expected 16, actual 24", "dynamic=True"),
        ("guidance_scale == 7.5", "as a tensor"),
        ("___check_obj_id(self.scheduler, 140)", "one object for all calls"),
        ("for another object than in its 8 earlier compilations", "one object for all calls"),
        ("len(residuals) == 9", "list's length"),
        ("for the first time: the calls before did not run it", "in the warm-up"),
        ("GLOBAL_STATE changed: grad_mode", "same mode"),
        ("tensor 'to_q._modules['lora_A']…weight' size mismatch", "target_rank=N"),
        ("to_q.scaling['lora'] == 1.0", "target_rank=N"),
        ("something new", "what the guard names"),
    ],
)
def test_each_kind_of_guard(guard, said):
    assert said in remedy(guard)
