"""The training set of the demo pipeline: 166 Noto emoji with their names as captions.

The pictures come from the npm package ``emoji-datasource-google`` (images: Noto Emoji,
Apache-2.0), fetched with the ordinary npm client and unpacked beside the training run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

PACKAGE = "emoji-datasource-google@16.0.0"
IMAGE_SIZE = 64

# Whole Unicode subcategories, so that the selection is a rule and not a taste.  Smiling faces and
# mammals are left out: many of them differ in a few pixels only.
SUBCATEGORIES = (
    "animal-amphibian",
    "animal-bird",
    "animal-bug",
    "animal-marine",
    "animal-reptile",
    "food-fruit",
    "food-prepared",
    "food-sweet",
    "food-vegetable",
    "monkey-face",
    "plant-flower",
)


@dataclass(frozen=True)
class EmojiSet:
    """Captions and images, in Unicode's sort order.

    ``images`` is ``N x 3 x 64 x 64``, float32 in [-1, 1], composed on white.
    """

    captions: list[str]
    images: torch.Tensor

    def __len__(self) -> int:
        return len(self.captions)


def fetch(folder: Path) -> Path:
    """Download and unpack the data set with npm, once; return the unpacked package."""
    package = folder / "package"
    if (package / "emoji.json").is_file():
        return package
    if shutil.which("npm") is None:
        raise SystemExit(f"npm is not installed; it is needed to download {PACKAGE}")
    folder.mkdir(parents=True, exist_ok=True)
    packed = subprocess.run(
        ["npm", "pack", PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True, text=True
    )
    archive = folder / packed.stdout.strip().splitlines()[-1]
    wanted = ("package/emoji.json", f"package/img/google/{IMAGE_SIZE}/", "package/LICENSE")
    with tarfile.open(archive) as tar:
        members = [m for m in tar.getmembers() if m.isfile() and m.name.startswith(wanted)]
        tar.extractall(folder, members=members, filter="data")
    archive.unlink()
    return package


def load(folder: Path) -> EmojiSet:
    """Read the selected emoji from the package that :func:`fetch` unpacked into ``folder``."""
    package = fetch(folder)
    entries = json.loads((package / "emoji.json").read_text(encoding="utf-8"))
    chosen = sorted(
        (e for e in entries if e["subcategory"] in SUBCATEGORIES and e["has_img_google"]),
        key=lambda e: e["sort_order"],
    )
    captions = [e["name"].lower() for e in chosen]
    if len(set(captions)) != len(captions):
        raise SystemExit("two emoji of the selection share a caption")
    pictures = package / "img" / "google" / str(IMAGE_SIZE)
    pixels = np.stack([_on_white(pictures / e["image"]) for e in chosen])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    return EmojiSet(captions, images.contiguous())


def _on_white(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        picture = file.convert("RGBA")
    white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    white.alpha_composite(picture)
    return np.asarray(white.convert("RGB"))
