"""The cache of baseline images: what was saved under this very key, or nothing."""

import os

import numpy as np
import pytest

from pytest_diffspeed.evidence.baseline_images import KEPT, BaselineImageCache
from pytest_diffspeed.evidence.key import EvidenceKey

KEY = EvidenceKey({"weights": {"unet": "ab"}, "prompts": ("cat", "dog"), "steps": 20})
ARRAYS = {"images": np.random.default_rng(0).random((2, 3, 8, 8)).astype(np.float32)}


@pytest.fixture
def cache(tmp_path):
    made = BaselineImageCache(tmp_path / "images")
    made.save(KEY, ARRAYS)
    return made


def test_what_was_saved_comes_back(cache, tmp_path):
    held = BaselineImageCache(tmp_path / "images").load(KEY)
    assert held.keys() == ARRAYS.keys()
    assert np.array_equal(held["images"], ARRAYS["images"])


@pytest.mark.parametrize(
    "changed",
    [{"weights": {"unet": "ac"}}, {"prompts": ("cat", "dogs")}, {"steps": 21}, {"new": 1}],
)
def test_another_key_finds_nothing(cache, changed):
    assert cache.load(EvidenceKey({**KEY.parts, **changed})) is None


def test_a_file_under_the_wrong_name_is_not_used(cache, tmp_path):
    other = EvidenceKey({**KEY.parts, "steps": 30})
    folder = tmp_path / "images"
    (folder / f"{KEY.digest}.npz").rename(folder / f"{other.digest}.npz")
    assert cache.load(other) is None


def test_a_damaged_file_is_not_used(cache, tmp_path):
    (path,) = (tmp_path / "images").iterdir()
    whole = path.read_bytes()
    # Beyond the archive's own checksum: the arrays of another file under this file's words.
    cache.save(KEY, {"images": ARRAYS["images"] + 1})
    with np.load(path) as file:
        swapped = {"about": file["about"], "images": ARRAYS["images"]}
    np.savez(path, **swapped)
    assert cache.load(KEY) is None
    for damaged in (b"", whole[: len(whole) // 2], b"PK" + whole[2:].replace(b"\x3f", b"\x3e")):
        path.write_bytes(damaged)
        assert cache.load(KEY) is None
    path.write_bytes(whole)
    assert cache.load(KEY) is not None


def test_the_sets_used_longest_ago_go(cache, tmp_path):
    keys = [EvidenceKey({"number": number}) for number in range(KEPT - 1)]
    for number, key in enumerate(keys):
        cache.save(key, ARRAYS)
        os.utime(tmp_path / "images" / f"{key.digest}.npz", (1e9 + number, 1e9 + number))
    assert cache.load(keys[0]) is not None  # used now
    cache.save(EvidenceKey({"number": "one more"}), ARRAYS)  # with that of the fixture, too many
    assert cache.load(keys[0]) is not None
    assert cache.load(keys[1]) is None
    assert len(list((tmp_path / "images").iterdir())) == KEPT
