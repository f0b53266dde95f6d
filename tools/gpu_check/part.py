"""One part in a process of its own: ``python part.py KEY --device … --results …``."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "bench"))
sys.path.insert(0, str(Path(__file__).parent))

from checks import Part, Writer
from parts import PARTS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("key")
    parser.add_argument("--device", required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--planted", action="store_true")
    arguments = parser.parse_args()
    entry = next(entry for entry in PARTS if entry.key == arguments.key)
    arguments.work.mkdir(parents=True, exist_ok=True)
    part = Part(
        entry.key,
        Writer(arguments.results, entry.key),
        device=arguments.device,
        work=arguments.work,
        planted=arguments.planted,
        limit_s=arguments.limit,
    )
    importlib.import_module(f"parts.{entry.module}").run(part)


if __name__ == "__main__":
    main()
