"""Pictures to compare: photographs, noise, flat and tiny ones.  NumPy, H × W × 3 in [0, 1]."""

import numpy as np
import pytest
from skimage import data, img_as_float


def photographs():
    astronaut, cat = (img_as_float(image()) for image in (data.astronaut, data.chelsea))
    return {"astronaut": astronaut[:384, :400], "cat": cat[:300, :451]}


def pairs():
    """Name to (baseline, candidate)."""
    random = np.random.default_rng(0)
    made = {}
    for name, image in photographs().items():
        noisy = np.clip(image + random.normal(0, 0.05, image.shape), 0, 1)
        made[f"{name}, noisy"] = image, noisy
        made[f"{name}, darker"] = image, image * 0.7
        made[f"{name}, itself"] = image, image
        made[f"{name}, mirrored"] = image, image[:, ::-1]
    noise = random.random((2, 70, 65, 3))
    made["noise, other noise"] = noise[0], noise[1]
    made["flat, other flat"] = np.full((40, 40, 3), 0.9), np.full((40, 40, 3), 0.89)
    made["flat, nearly flat"] = np.full((40, 40, 3), 0.5), 0.5 + random.normal(0, 1e-4, (40, 40, 3))
    made["black, white"] = np.zeros((32, 32, 3)), np.ones((32, 32, 3))
    made["tiny"] = noise[0, :11, :11], noise[1, :11, :11]
    made["tiny, oblong"] = noise[0, :13, :30], noise[0, 1:14, :30]
    return made


PAIRS = pairs()


@pytest.fixture(params=PAIRS, ids=lambda name: name.replace(", ", "-").replace(" ", "-"))
def pair(request):
    return PAIRS[request.param]


@pytest.fixture
def all_pairs():
    return PAIRS


@pytest.fixture
def gallery():
    """Eight different 64 × 64 photographs: crops, N × H × W × 3, float32."""
    image = photographs()["astronaut"].astype(np.float32)
    corners = [(0, 0), (0, 160), (60, 60), (100, 200), (160, 40), (200, 200), (280, 90), (300, 300)]
    return np.stack([image[y : y + 64, x : x + 64] for y, x in corners])
