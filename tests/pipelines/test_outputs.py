"""What a call gave, in all the forms in which pipelines give it."""

import numpy as np
import pytest
import torch
from diffusers import AudioPipelineOutput, ImagePipelineOutput
from diffusers.pipelines.ltx2.pipeline_output import LTX2PipelineOutput
from diffusers.pipelines.wan.pipeline_output import WanPipelineOutput
from PIL import Image

from pytest_diffspeed.common.errors import MeasurementError
from pytest_diffspeed.pipelines.outputs import medium_of_batch, read_output

RANDOM = np.random.default_rng(0)
IMAGE = np.rint(RANDOM.random((1, 24, 32, 3)) * 255).astype(np.float32) / 255
VIDEO = np.rint(RANDOM.random((1, 5, 24, 32, 3)) * 255).astype(np.float32) / 255
SOUND = RANDOM.normal(0, 0.1, (1, 2, 400)).astype(np.float32)


def pil(image):
    return Image.fromarray(np.rint(image * 255).astype(np.uint8))


def pt(array):
    return torch.from_numpy(array).movedim(-1, -3)


class Owner:
    """Stands for a pipeline without a sample rate."""


IMAGES = {
    "np": IMAGE,
    "pt": pt(IMAGE),
    "pil": [pil(IMAGE[0])],
    "a list of arrays": [IMAGE[0]],
    "a list of tensors": [pt(IMAGE)[0]],
    "uint8": np.rint(IMAGE * 255).astype(np.uint8),
}
VIDEOS = {
    "np": VIDEO,
    "pt": pt(VIDEO),
    "pil": [[pil(frame) for frame in VIDEO[0]]],
    "a list of arrays": [VIDEO[0]],
    "a list of lists of arrays": [list(VIDEO[0])],
    "channels before frames": pt(VIDEO).transpose(1, 2),
}
SOUNDS = {"np": SOUND, "pt": torch.from_numpy(SOUND), "a list": [SOUND[0]]}


@pytest.mark.parametrize("form", IMAGES)
@pytest.mark.parametrize("named", [True, False])
def test_an_image(form, named):
    given = ImagePipelineOutput(images=IMAGES[form]) if named else (IMAGES[form],)
    output = read_output(given, Owner())
    assert output.medium == "image"
    assert output.data == pytest.approx(pt(IMAGE)[0], abs=1e-6)


@pytest.mark.parametrize("form", VIDEOS)
@pytest.mark.parametrize("named", [True, False])
def test_a_video(form, named):
    if not named and form == "a list of arrays":
        return  # a tuple has no name that tells an array of frames from a batch of images
    given = WanPipelineOutput(frames=VIDEOS[form]) if named else (VIDEOS[form],)
    output = read_output(given, Owner())
    assert output.medium == "video"
    assert output.data == pytest.approx(pt(VIDEO)[0], abs=1e-6)


@pytest.mark.parametrize("form", SOUNDS)
@pytest.mark.parametrize("named", [True, False])
def test_a_sound(form, named):
    given = AudioPipelineOutput(audios=SOUNDS[form]) if named else (SOUNDS[form],)
    output = read_output(given, Owner())
    assert (output.medium, output.sample_rate_hz) == ("audio", None)
    assert output.data == pytest.approx(torch.from_numpy(SOUND)[0])


def test_mono_and_a_sample_rate():
    class Vocoder:
        config = type("Config", (), {"sampling_rate": 16000})

    owner = Owner()
    owner.vocoder = Vocoder()
    output = read_output(AudioPipelineOutput(audios=SOUND[:, 0]), owner)
    assert (tuple(output.data.shape), output.sample_rate_hz) == ((1, 400), 16000)


def test_what_else_was_given_stands_beside_it():
    given = LTX2PipelineOutput(frames=VIDEO, audio=torch.from_numpy(SOUND))
    output = read_output(given, Owner())
    assert (output.medium, output.left_out) == ("video", ())
    assert [(one.medium, one.data.shape) for one in output.beside] == [("audio", SOUND.shape[1:])]


def test_what_else_was_given_and_cannot_be_read_is_named():
    output = read_output(LTX2PipelineOutput(frames=VIDEO, audio="sound.wav"), Owner())
    assert (output.medium, output.left_out, output.beside) == ("video", ("audio",), ())


def test_grey_images_and_a_shape_e_turntable():
    assert read_output((IMAGE[..., :1],), Owner()).data.shape == (1, 24, 32)
    turning = read_output(ImagePipelineOutput(images=[[pil(f) for f in VIDEO[0]]]), Owner())
    assert turning.medium == "video"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ImagePipelineOutput(images=torch.zeros(1, 4, 8, 8)),
            "no axis has 1 or 3 channels, as images",
        ),
        (
            ImagePipelineOutput(images=IMAGE.repeat(2, axis=0)),
            "gave 2 × 24 × 32 × 3 as images for one",
        ),
        (ImagePipelineOutput(images=[pil(IMAGE[0])] * 2), "gave 2 outputs as images"),
        (AudioPipelineOutput(audios=SOUND.repeat(2, axis=0)), "gave 2 × 2 × 400 as audios"),
        (({"a": 1},), "gave dict as output"),
        ((torch.zeros(1, 3, 8, 8, dtype=torch.int64),), "a tensor of int64"),
        ((), "gave 0 outputs as output"),
    ],
)
def test_what_is_no_single_output_is_refused(given, message):
    with pytest.raises(MeasurementError, match=message):
        read_output(given, Owner())


def test_the_number_of_dimensions_tells_the_medium_of_a_batch():
    shapes = {"image": (8, 3, 4, 4), "video": (8, 5, 3, 4, 4), "audio": (8, 2, 99)}
    assert {m: medium_of_batch(torch.zeros(s)) for m, s in shapes.items()} == {
        medium: medium for medium in shapes
    }
