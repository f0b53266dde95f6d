import pytest


@pytest.mark.diffspeed("bf16", "channels_last", pipeline="demo")
@pytest.mark.image_similarity("lossless")
def test_images(optimized_pipeline): ...
