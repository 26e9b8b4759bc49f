"""What has still to be exported, and what was: a file beside the index.

    waiting     workflows of which something was read that may not have been sent
    sent        the ids of a workflow's spans that were
    notes       what else is to be remembered

A workflow is written down here before what was read of it is in the index, and
a span when the endpoint has taken it. So whatever a tracer is ended by, nothing
is left out; and what is sent twice is at most what was under way when it was
killed. It is no part of the index, as an index can be made again and this
cannot: what others were sent stands on no topic.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from antiphon.tracing.index.database import together
from antiphon.tracing.index.errors import IndexBusyError, IndexFileError, IndexFullError

_APPLICATION = 0x61706F74  # "apot"
_VERSION = 1
_TABLES = """
CREATE TABLE waiting (
    workflow BLOB PRIMARY KEY, touched_us INTEGER NOT NULL, since_us INTEGER NOT NULL, next_us INTEGER NOT NULL,
    tries INTEGER NOT NULL, failed_us INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_next ON waiting (tries, next_us);
CREATE TABLE sent (workflow BLOB PRIMARY KEY, spans BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
_TOUCH = """
INSERT INTO waiting VALUES (?, ?, ?, ?, 0, 0) ON CONFLICT (workflow) DO UPDATE
SET touched_us = excluded.touched_us, next_us = max(next_us * (tries > 0), excluded.next_us)
"""
_FRESH = """
SELECT workflow, touched_us, since_us, tries, failed_us FROM waiting WHERE tries = 0 AND next_us <= ?
ORDER BY next_us, workflow LIMIT ?
"""
_AGAIN = """
SELECT workflow, touched_us, since_us, tries, failed_us FROM waiting WHERE tries > 0 AND next_us <= ?
ORDER BY tries, next_us, workflow LIMIT 1
"""
# One that was refused comes first, and after that an other, so that one that is always refused shows.
_PROBE = """
SELECT workflow, touched_us, since_us, tries, failed_us FROM waiting WHERE next_us <= ?
ORDER BY CASE tries WHEN 0 THEN 2 ELSE tries END, next_us, workflow LIMIT 1
"""
_SENT = """
INSERT INTO sent VALUES (?, ?) ON CONFLICT (workflow) DO UPDATE SET spans = CAST(spans || excluded.spans AS BLOB)
"""
_ID_BYTES = 8


class Waiting(NamedTuple):
    """A workflow that is to be looked at, by its key in the index."""

    workflow: bytes
    touched_us: int
    """When something of it was read last."""
    since_us: int
    """Since when it waits."""
    tries: int = 0
    """How often the endpoint refused it."""
    failed_us: int = 0
    """When it did so first."""


class Ledger:
    """The file of one tracer. Every call blocks, one thread at a time; raises `IndexFileError` where it cannot be kept."""

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
                for statement in _TABLES.strip().rstrip(";").split(";\n"):
                    run(statement)
                run(f"PRAGMA application_id = {_APPLICATION}")
                run(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    # -- what waits ---------------------------------------------------------

    def touch(self, workflows: Collection[bytes], *, now_us: int, look_us: int) -> None:
        """Note that something of *workflows* is read; they are to be looked at from *look_us* on."""
        if workflows:
            with self._told(), together(self._connection):
                self._connection.executemany(_TOUCH, [(key, now_us, now_us, look_us) for key in workflows])

    def due(self, *, now_us: int, at_most: int, probing: bool = False) -> list[Waiting]:
        """Return workflows that are to be looked at, the longest due first.

        One that was refused before is returned alone, and only if there are no
        others; *probing*, one alone and rather such a one.
        """
        with self._told():
            if probing:
                return [Waiting(*row) for row in self._connection.execute(_PROBE, (now_us,))]
            fresh = [Waiting(*row) for row in self._connection.execute(_FRESH, (now_us, at_most))]
            return fresh or [Waiting(*row) for row in self._connection.execute(_AGAIN, (now_us,))]

    def waiting(self) -> int:
        """Return how many workflows wait."""
        with self._told():
            [(count,)] = self._connection.execute("SELECT count(*) FROM waiting")
        return int(count)

    def put_off(self, looks: Mapping[bytes, int]) -> None:
        """Have workflows looked at again at these times, or when something more of them is read."""
        with self._told(), together(self._connection):
            self._connection.executemany(
                "UPDATE waiting SET next_us = ? WHERE workflow = ?", [(us, key) for key, us in looks.items()]
            )

    def refused(self, workflows: Iterable[bytes], *, now_us: int, look_us: int) -> None:
        """Note that the endpoint did not take *workflows*."""
        with self._told(), together(self._connection):
            self._connection.executemany(
                "UPDATE waiting SET tries = tries + 1, next_us = ?, failed_us = CASE tries WHEN 0 THEN ? ELSE failed_us END "
                "WHERE workflow = ?",
                [(look_us, now_us, key) for key in workflows],
            )

    def done(self, some: Sequence[Waiting]) -> None:
        """Note that nothing of these is left to do; those of which more was read meanwhile go on waiting."""
        with self._told(), together(self._connection):
            self._connection.executemany(
                "DELETE FROM waiting WHERE workflow = ? AND touched_us = ?",
                [(one.workflow, one.touched_us) for one in some],
            )
            self._connection.executemany(
                "UPDATE waiting SET tries = 0, since_us = touched_us WHERE workflow = ?",
                [(one.workflow,) for one in some],
            )

    def goes_on(self, workflows: Iterable[bytes], *, now_us: int, look_us: int) -> None:
        """Note that all there is of *workflows* was sent, and that more will come."""
        with self._told(), together(self._connection):
            self._connection.executemany(
                "UPDATE waiting SET since_us = ?, next_us = ?, tries = 0 WHERE workflow = ?",
                [(now_us, look_us, key) for key in workflows],
            )

    # -- what was sent ------------------------------------------------------

    def sent(self, workflow: bytes) -> frozenset[str]:
        """Return the ids of the spans of *workflow* that the endpoint has taken."""
        with self._told():
            found = [*self._connection.execute("SELECT spans FROM sent WHERE workflow = ?", (workflow,))]
        ids: bytes = found[0][0] if found else b""
        return frozenset(ids[start : start + _ID_BYTES].hex() for start in range(0, len(ids), _ID_BYTES))

    def taken(self, spans: Mapping[bytes, Iterable[str]]) -> None:
        """Note that the endpoint has taken *spans*: ids by workflow."""
        rows = [(workflow, b"".join(map(bytes.fromhex, ids))) for workflow, ids in spans.items()]
        with self._told(), together(self._connection):
            self._connection.executemany(_SENT, rows)

    def remembered(self, after: bytes, *, at_most: int) -> list[bytes]:
        """Return the workflows behind *after* of which something was sent, in the order of their keys."""
        with self._told():
            statement = "SELECT workflow FROM sent WHERE workflow > ? ORDER BY workflow LIMIT ?"
            return [workflow for (workflow,) in self._connection.execute(statement, (after, at_most))]

    def forget(self, workflows: Iterable[bytes]) -> None:
        """Forget what was sent of *workflows*."""
        with self._told(), together(self._connection):
            self._connection.executemany("DELETE FROM sent WHERE workflow = ?", [(one,) for one in workflows])

    # -- itself -------------------------------------------------------------

    def note(self, name: str, first: str) -> str:
        """Return what is noted under *name*; where nothing is, note *first*."""
        with self._told():
            self._connection.execute("INSERT INTO notes VALUES (?, ?) ON CONFLICT DO NOTHING", (name, first))
            [(value,)] = self._connection.execute("SELECT value FROM notes WHERE name = ?", (name,))
        return str(value)

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._meaning(error) from error
        except OSError as error:
            raise IndexFileError(self._name, error.strerror or str(error), "see to the folder") from error

    def _meaning(self, error: sqlite3.Error) -> IndexFileError:
        # Extended codes have the primary one in their lowest byte.
        match getattr(error, "sqlite_errorcode", 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return IndexBusyError(self._name, "another program has it locked")
            case sqlite3.SQLITE_FULL:
                return IndexFullError(self._name, str(error))
            case _:
                return IndexFileError(self._name, str(error), "move it away: what was exported before may be again")
