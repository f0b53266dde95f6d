"""Which Triton kernels a code has; what they need is read in ``test_fake_gpu.py``."""

from pytest_diffspeed.gpucost import distinct_sources

CODE = """
triton_poi_fused_add_{a} = async_compile.triton('triton_poi_fused_add_{a}', '''
def triton_poi_fused_add_{a}(x): return x + 1
''', device_str='cuda')
triton_poi_fused_mul_{b} = async_compile.triton('triton_poi_fused_mul_{b}', '''
def triton_poi_fused_mul_{b}(x): return x * {factor}
''', device_str='cuda')
"""


def test_a_kernel_with_another_number_is_the_same_and_one_of_the_same_name_may_be_another():
    codes = [CODE.format(a=0, b=1, factor=2), CODE.format(a=5, b=1, factor=3)]
    names = [name for name, _ in distinct_sources(codes)]
    assert names == ["triton_poi_fused_add_0", "triton_poi_fused_mul_1", "triton_poi_fused_mul_1"]
