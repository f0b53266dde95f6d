"""Fetch the chart libraries of the HTML report again, as ``vendor.json`` names them.

    make vendor

``npm pack`` fetches the published packages; their integrity, as npm knows it, and the hash of the
one file that we keep of each must be those recorded.  To take another version, edit
``vendor.json``, run this with ``--record``, and look at the difference.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "pytest_diffspeed/reports/html/static/vendor"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write hashes instead of checking")
    record = parser.parse_args().record
    manifest = FOLDER / "vendor.json"
    packages = json.loads(manifest.read_text(encoding="utf-8"))
    for package in packages:
        name = f"{package['package']}@{package['version']}"
        with tempfile.TemporaryDirectory() as folder:
            archive = fetch(name, Path(folder))
            found = {"integrity": integrity(archive)}
            with tarfile.open(archive) as tar:
                content = read(tar, package["path"])
                licence = read(tar, "LICENSE")
        found["sha256"] = hashlib.sha256(content).hexdigest()
        for key, value in found.items():
            if not record and package[key] != value:
                print(f"{name}: {key} is {value}, recorded is {package[key]}", file=sys.stderr)
                return 1
        package |= found
        (FOLDER / package["file"]).write_bytes(content)
        (FOLDER / package["licence_file"]).write_bytes(licence)
        print(f"{name}: {package['file']}, {len(content)} bytes")
    if record:
        manifest.write_text(json.dumps(packages, indent=1) + "\n", encoding="utf-8")
    return 0


def fetch(name: str, folder: Path) -> Path:
    words = ["npm", "pack", "--silent", "--pack-destination", str(folder), name]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tgz")
    return archive


def integrity(archive: Path) -> str:
    digest = hashlib.sha512(archive.read_bytes()).digest()
    return "sha512-" + base64.b64encode(digest).decode("ascii")


def read(tar: tarfile.TarFile, path: str) -> bytes:
    member = tar.extractfile(f"package/{path}")
    if member is None:
        raise SystemExit(f"{path} is no file in the package")
    return member.read()


if __name__ == "__main__":
    sys.exit(main())
