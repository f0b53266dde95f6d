"""Print who imports whom in the package: folders by level, arrows between them, circles.

    python tools/import_graph.py            the figures, and the folders from top to bottom
    python tools/import_graph.py --arrows   each folder with those it imports from as well

A room is a folder of the package, or a file that lies loose beside the folders.  An arrow says that
some file of one room imports from another; type hints and imports inside functions count.  A room
stands one level above the highest one that it imports from; rooms of a circle share a level.  Exits
with 1 where anything imports in a circle.
"""

import argparse
import graphlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grimp

Arrows = Mapping[str, frozenset[str]]
"""Each node with those that it imports from; never with itself."""


@dataclass(frozen=True)
class ImportGraph:
    files: Arrows
    rooms: Arrows


def read_graph(package: str, folder: Path) -> ImportGraph:
    """The imports of ``package``, which lies in ``folder``."""
    sys.path.insert(0, str(folder))  # before an installed one
    try:
        found = grimp.build_graph(package, cache_dir=None)
    finally:
        sys.path.remove(str(folder))
    # The package's own file passes public names on from everywhere.
    names = sorted(name for name in found.modules if name != package)
    files = {
        name: frozenset(found.find_modules_directly_imported_by(name)) - {package} for name in names
    }

    def room(name: str) -> str:
        return name.split(".")[1]

    rooms: dict[str, set[str]] = {room(name): set() for name in names}
    for name, imported in files.items():
        rooms[room(name)] |= {room(other) for other in imported} - {room(name)}
    return ImportGraph(files, {name: frozenset(others) for name, others in rooms.items()})


def circles(arrows: Arrows) -> list[frozenset[str]]:
    """The sets of nodes of which each imports all others of its set, directly or through others."""
    reached = {node: _reached(arrows, node) for node in arrows}
    found = {
        frozenset(other for other in reached[node] if node in reached[other]) for node in arrows
    }
    return sorted((circle for circle in found if len(circle) > 1), key=sorted)


def levels(arrows: Arrows) -> list[list[str]]:
    """The nodes from the lowest level up."""
    whole = {node: circle for circle in circles(arrows) for node in circle}
    group = {node: whole.get(node, frozenset({node})) for node in arrows}
    below = {
        one: {group[other] for node in one for other in arrows[node]} - {one}
        for one in set(group.values())
    }
    height: dict[frozenset[str], int] = {}
    for one in graphlib.TopologicalSorter(below).static_order():
        height[one] = 1 + max((height[other] for other in below[one]), default=0)
    return [
        sorted(node for node in arrows if height[group[node]] == level)
        for level in range(1, 1 + max(height.values(), default=0))
    ]


def _reached(arrows: Arrows, start: str) -> set[str]:
    reached: set[str] = set()
    left = [start]
    while left:
        for node in arrows[left.pop()] - reached:
            reached.add(node)
            left.append(node)
    return reached


def _count(arrows: Arrows) -> int:
    return sum(len(imported) for imported in arrows.values())


def lines(graph: ImportGraph, *, arrows: bool = False) -> Iterable[str]:
    floors = levels(graph.rooms)
    yield f"{len(graph.rooms)} rooms on {len(floors)} levels, {_count(graph.rooms)} arrows"
    yield f"{len(graph.files)} files, {_count(graph.files)} imports of each other"
    for what, found in (("rooms", circles(graph.rooms)), ("files", circles(graph.files))):
        yield f"{len(found)} circles of {what}"
        yield from (f"  {', '.join(sorted(circle))}" for circle in found)
    for number, floor in reversed(list(enumerate(floors, start=1))):
        yield f"level {number:2}  {', '.join(floor)}"
        if arrows:
            for room in floor:
                yield f"    {room} -> {', '.join(sorted(graph.rooms[room])) or '(nothing)'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--arrows", action="store_true", help="name what each folder imports from")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parents[1])
    parser.add_argument("--package", default="pytest_diffspeed")
    given = parser.parse_args()
    graph = read_graph(given.package, given.root)
    print(*lines(graph, arrows=given.arrows), sep="\n")
    return 1 if circles(graph.rooms) or circles(graph.files) else 0


if __name__ == "__main__":
    sys.exit(main())
