"""The file beside an index in which a tracer keeps what it has still to export, and what it has exported."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

from antiphon.tracing.index.database import Row, together
from antiphon.tracing.index.errors import IndexFileError
from antiphon.tracing.index.sqlite_error import meaning_of
from antiphon.tracing.otlp.ledger import FORMS

_APPLICATION = 0x61706F74  # "apot"
_VERSION = max(FORMS)
_DAMAGED = "move it away: what was exported before may be again"


class LedgerFile:
    """A file of one tracer's."""

    def __init__(self, path: Path | None) -> None:
        """Open it, made where it is not there; with no path in memory."""
        self._name = "memory" if path is None else str(path)
        with self._told():
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
            self._connection = sqlite3.connect(
                ":memory:" if path is None else str(path), isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        run = self._connection.execute
        [(application,)] = run("PRAGMA application_id")
        [(version,)] = run("PRAGMA user_version")
        [(tables,)] = run("SELECT count(*) FROM sqlite_master")
        if (application, version) != (_APPLICATION, _VERSION) and (application, version, tables) != (0, 0, 0):
            raise IndexFileError(self._name, "it is another program's file, or of a newer release", "move it away")
        run("PRAGMA journal_mode = WAL")
        # On the disk before the index is: what an index has and this lacks would never be sent.
        run("PRAGMA synchronous = FULL")
        if not tables:
            with together(self._connection):
                for statement in FORMS[_VERSION].strip().rstrip(";").split(";\n"):
                    run(statement)
                run(f"PRAGMA application_id = {_APPLICATION}")
                run(f"PRAGMA user_version = {_VERSION}")

    def alone(self) -> bool:
        """Nobody else exports what is in it: the index beside it has one tracer."""
        return True

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[Row]:
        with self._told():
            return [*self._connection.execute(statement, values)]

    def many(self, statement: str, rows: Iterable[Row]) -> None:
        with self._told():
            self._connection.executemany(statement, rows)

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        with self._told(), together(self._connection):
            yield

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise meaning_of(error, self._name, damaged=_DAMAGED) from error
        except OSError as error:
            raise IndexFileError(self._name, error.strerror or str(error), "see to the folder") from error
