"""What is read as images, and what is refused instead of guessed."""

import numpy as np
import pytest
import torch
from PIL import Image

from pytest_diffspeed.similarity import ImageInputError, as_images

FLOAT = np.random.default_rng(0).random((2, 20, 24, 3)).astype(np.float32)
BYTES = np.rint(FLOAT * 255).astype(np.uint8)
WANTED = torch.from_numpy(FLOAT).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "value",
    [
        FLOAT,
        FLOAT.astype(np.float64),
        FLOAT.astype(">f4"),
        FLOAT.transpose(0, 3, 1, 2),
        torch.from_numpy(FLOAT),
        WANTED,
        list(FLOAT),
        [torch.from_numpy(image) for image in FLOAT],
        FLOAT[:, ::-1][:, ::-1],
    ],
)
def test_forms_of_float_images(value):
    assert torch.equal(as_images(value).to(torch.float32), WANTED)


@pytest.mark.parametrize("value", [BYTES, torch.from_numpy(BYTES), [*map(Image.fromarray, BYTES)]])
def test_8_bit_images_are_divided_by_255(value):
    assert torch.equal(
        as_images(value), torch.from_numpy(BYTES / np.float32(255)).permute(0, 3, 1, 2)
    )


def test_one_image_and_grey_images():
    assert (
        as_images(FLOAT[0]).shape == as_images(FLOAT[0].transpose(2, 0, 1)).shape == (1, 3, 20, 24)
    )
    assert as_images(FLOAT[..., :1]).shape == (2, 1, 20, 24)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_floats_are_compared_in_32(dtype):
    assert as_images(WANTED.to(dtype)).dtype is torch.float32


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (FLOAT.astype(np.int64), "of type int64; give uint8 in 0…255 or floating point"),
        (FLOAT > 0.5, "of type bool"),
        (FLOAT.astype(complex), "of type complex128"),
        (torch.from_numpy(BYTES).int(), "of type int32"),
        (BYTES.astype(np.uint16), "of type uint16"),
        (FLOAT[0, ..., 0], "shape 20 × 24; give N × H × W × C"),
        (FLOAT[:0], "shape 0 × 20 × 24 × 3"),
        (np.concatenate([FLOAT, FLOAT[..., :1]], axis=-1), "drop an alpha channel"),
        (FLOAT[:, :3], 'either end could be the channels; say layout="NHWC"'),
        ([], "the sequence is empty"),
        ([FLOAT[0], FLOAT[0, :10]], "differ in shape or type"),
        ([FLOAT, FLOAT], "must be one image"),
        ("a.png", "are str; give a tensor"),
        ([object()], r"\[0\] are object"),
        (None, "are NoneType"),
    ],
)
def test_everything_else_is_refused(value, message):
    with pytest.raises(ImageInputError, match=message):
        as_images(value)


def test_a_said_layout_decides_and_is_checked():
    ambiguous = FLOAT[:, :3]
    assert as_images(ambiguous, layout="NHWC").shape == (2, 3, 3, 24)
    assert as_images(ambiguous, layout="NCHW").shape == (2, 3, 24, 3)
    with pytest.raises(ImageInputError, match="without an axis of 1 or 3 channels where NCHW"):
        as_images(FLOAT, layout="NCHW")
    with pytest.raises(ImageInputError, match="one of NHWC, NCHW, not 'HWC'"):
        as_images(FLOAT, layout="HWC")
