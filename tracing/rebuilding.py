"""Making an index again: beside the old one, which answers until the new one takes its place."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from antiphon.tracing.index.address import Place
from antiphon.tracing.index.database import Database, Sqlite, held
from antiphon.tracing.index.errors import IndexDamagedError, IndexVersionError

_BESIDE = ("-wal", "-shm")


@contextlib.contextmanager
def rebuilding(place: Place) -> Generator[Database]:
    """Give a database to fill; when the block ends without an error, it takes the place of the one at *place*.

    What a block that was ended half-way has left is taken up again, where it is a
    file. Raises `IndexBusyError` where a tracer writes to the one at *place*.
    """
    with _file(place) if isinstance(place, Path) else _schema(place) as database:
        yield database


@contextlib.contextmanager
def _schema(address: str) -> Generator[Database]:
    from antiphon.tracing.index.postgres import Postgres  # noqa: PLC0415 - an extra

    database = Postgres(address, writes=True, anew=True)
    try:
        yield database
        database.replace()
    finally:
        database.close()


@contextlib.contextmanager
def _file(path: Path) -> Generator[Database]:
    new = path.with_name(path.name + ".new")
    with held(path):
        database = _taken_up(new)
        try:
            yield database
            database.settle()
        finally:
            database.close()
        # Those of the old one would be taken for the new one's.
        for end in _BESIDE:
            Path(f"{path}{end}").unlink(missing_ok=True)
        os.replace(new, path)  # noqa: PTH105 - whichever was there goes, and readers see one or the other
        _remove(new)


def _taken_up(new: Path) -> Sqlite:
    try:
        database = Sqlite(new, writes=True)
        try:
            database.check()
        except BaseException:
            database.close()
            raise
    except (IndexDamagedError, IndexVersionError):
        _remove(new)
        database = Sqlite(new, writes=True)
    return database


def _remove(path: Path) -> None:
    for end in ("", *_BESIDE, ".lock"):
        Path(f"{path}{end}").unlink(missing_ok=True)
