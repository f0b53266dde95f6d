"""``diffspeed history site``: the whole history as static pages."""

from __future__ import annotations

import argparse

from ..common.text import plural, size
from ..history.histories import read_histories, read_size
from ..reports.site import SiteFolder, build
from .history_place import HistoryPlace

TITLE = "diffspeed history"


def site(arguments: argparse.Namespace, place: HistoryPlace) -> None:
    """Write the pages of a history into ``--out``.

    Raises:
        UsageError: something that we did not write lies there.
        StoreError: the store cannot be read.
    """
    folder = SiteFolder(arguments.out)
    with place.store.reading() as connection:
        built = build(
            folder,
            read_size(connection),
            read_histories(connection, arguments.last),
            place.rootdir,
            arguments.title,
        )
    pictures = f", {plural(built.pictures, 'picture')}" if built.pictures else ""
    print(
        f"{plural(built.tests, 'test')} in {plural(built.files, 'file')} ({size(built.bytes)})"
        f"{pictures}: {arguments.out / 'index.html'}"
    )
    if built.deleted:
        print(f"{plural(built.deleted, 'file')} of earlier builds deleted")
