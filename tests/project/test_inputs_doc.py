"""The examples of ``docs/inputs.md`` run as they are written."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from tests.journals import journaled

DOCUMENT = Path(__file__).parents[2] / "docs" / "inputs.md"
CODE = "\n".join(re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.M | re.S))
LATENTS = {
    "image_to_image": "generator",
    "inpainting": "drawn",
    "controlnet": "drawn",
    "ip_adapter": "drawn",
    "text_to_video": "drawn",
    "image_to_video": "drawn",
    "audio": "drawn",
    "class_conditional": "generator",
    "unconditional": "generator",
    "embedded": "drawn",
}
TEST = """
@pytest.mark.diffspeed("fp32", pipeline="inputs_of_the_document:{name}")
def test_{name}(optimized_pipeline, diffspeed):
    call = diffspeed.baseline.call
    assert call.latents_from == "{latents}", call.latents_reason
    outputs = []
    for case in call.defaults.inputs():
        with diffspeed.baseline.running():
            outputs.append(np.asarray(call.of(case)(optimized_pipeline)))
    assert len(outputs) == (1 if "{name}" == "unconditional" else 2)
    assert all(output.size and np.isfinite(output).all() for output in outputs)
    assert outputs[1:] == [] or not np.array_equal(outputs[0], outputs[1])
"""


def test_every_example_of_the_inputs_document_runs(pytester, libraries, monkeypatch):
    assert set(re.findall(r"^(\w+)\.call_defaults = ", CODE, re.M)) == set(LATENTS)
    tests = [TEST.format(name=name, latents=latents) for name, latents in LATENTS.items()]
    pytester.makepyfile(
        inputs_of_the_document=CODE,
        test_it="import numpy as np\nimport pytest\n" + "".join(tests),
    )
    picture = Image.fromarray(np.arange(32 * 32).reshape(32, 32).astype(np.uint8))
    for name in ("room.png", "mask.png"):
        picture.save(pytester.path / name)
    monkeypatch.syspath_prepend(pytester.path)
    result = pytester.runpytest_inprocess("--diffspeed", "--diffspeed-device=cpu", "-v")
    result.assert_outcomes(passed=len(LATENTS))
    proofs = {
        record["source"].partition(":")[2]: record["latents"]
        for record in journaled(pytester, "proof")
    }
    assert proofs == LATENTS
