"""Committed values of one partition's keys in an SQLite file, and the offset up to which they speak for the changelog.

    StateFileError
    └── StateFileBusyError      another process, or another worker of this one, has it open

What it holds is a copy: whatever is wrong with it, Kafka has the truth. Every
call blocks.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Self

from antiphon.bus.errors import BusError

# "aphn": what other programs' SQLite files do not say of themselves.
_APPLICATION = 0x6170686E
_VERSION = 1
_TABLES = """
CREATE TABLE state (key TEXT PRIMARY KEY, value BLOB NOT NULL, since INTEGER, crc INTEGER NOT NULL);
CREATE INDEX age ON state (since) WHERE since IS NOT NULL;
CREATE TABLE checkpoint (topic TEXT NOT NULL, first INTEGER NOT NULL, end INTEGER NOT NULL, time_ms INTEGER NOT NULL);
"""
_PUT = """
INSERT INTO state VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET value = excluded.value, since = excluded.since, crc = excluded.crc
"""


class StateFileError(BusError):
    """A file of state that cannot be used."""

    def __init__(self, path: Path | None, reason: str) -> None:
        self.path = path
        self.reason = reason
        where = "the temporary folder" if path is None else str(path)
        super().__init__(
            f"expected to keep a copy of state in {where}: {reason}. State is restored from Kafka instead, so nothing "
            "is lost. Give the disk room and this process the right to write there, or leave ANTIPHON_STATE_DIR out."
        )


class StateFileBusyError(StateFileError):
    """Another worker has it open, one of the same instance."""

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, "another worker with this instance's name has it open")


class Entry(NamedTuple):
    """What is committed under a key."""

    key: str
    value: bytes | None
    """None: nothing any more."""
    since_ms: int | None
    """When it last changed, where the key is a workflow's; others never expire."""


class Checkpoint(NamedTuple):
    """Up to which offset of which changelog a file speaks: replaying it from there on always gives the truth."""

    topic: str
    """The topic's identity."""
    first: int
    """The lowest offset that was still there."""
    end: int
    """Offset, exclusive."""
    time_ms: int
    """When that was the end."""


class StateFile:
    """An open file. One thread at a time may use it; what fails raises `StateFileError`.

    A file with a path survives a crash of this process and of the machine, as
    it was at some moment. One without is temporary: it has no name, and goes with
    the process, however that ends.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.is_new = False
        """Whether it was made just now, and holds nothing."""
        with self._told():
            if path is not None:
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path or "", timeout=0.0, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    @classmethod
    def opened(cls, path: Path) -> tuple[Self, str | None]:
        """Open *path*, made anew where it cannot be used as it is; returns the file and why it had to be."""
        try:
            return cls(path), None
        except StateFileBusyError:
            raise
        except StateFileError as error:
            if _is_anothers(path):
                raise
            _remove(path)
            return cls(path), error.reason

    def _prepare(self) -> None:
        if self.path is None:
            self._run("PRAGMA journal_mode = OFF")
            self._run("PRAGMA synchronous = OFF")
        else:
            # Held as long as it is open: two workers of one name must not write to one file.
            self._run("PRAGMA locking_mode = EXCLUSIVE")
            self._run("PRAGMA journal_mode = WAL")
            self._run("PRAGMA synchronous = NORMAL")
        self._run("BEGIN EXCLUSIVE")
        [(application,)] = self._run("PRAGMA application_id")
        [(version,)] = self._run("PRAGMA user_version")
        [(tables,)] = self._run("SELECT count(*) FROM sqlite_master")
        if (application, version, tables) == (0, 0, 0):
            self.is_new = True
            for statement in _TABLES.strip().split(";")[:-1]:
                self._run(statement)
            self._run(f"PRAGMA application_id = {_APPLICATION}")
            self._run(f"PRAGMA user_version = {_VERSION}")
        elif application != _APPLICATION:
            raise StateFileError(self.path, "it is another program's")
        elif version != _VERSION:
            raise StateFileError(self.path, f"it was written by another release (form {version}, not {_VERSION})")
        self._run("COMMIT")

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last one written; None: what the file holds speaks for nothing yet."""
        with self._told():
            found = self._run("SELECT topic, first, end, time_ms FROM checkpoint")
        return Checkpoint(*found[0]) if found else None

    def write(self, entries: Iterable[Entry], checkpoint: Checkpoint | None = None) -> None:
        """Write *entries* and *checkpoint*, all or nothing."""
        put, gone = list[tuple[str, bytes, int | None, int]](), list[tuple[str]]()
        for key, value, since_ms in entries:
            if value is None:
                gone.append((key,))
            else:
                put.append((key, value, since_ms, _crc(key, value)))
        with self._told():
            self._run("BEGIN")
            try:
                self._connection.executemany(_PUT, put)
                self._connection.executemany("DELETE FROM state WHERE key = ?", gone)
                if checkpoint is not None:
                    self._run("DELETE FROM checkpoint")
                    self._connection.execute("INSERT INTO checkpoint VALUES (?, ?, ?, ?)", checkpoint)
                self._run("COMMIT")
            except sqlite3.Error:
                with contextlib.suppress(sqlite3.Error):
                    self._run("ROLLBACK")
                raise

    def read(self, key: str) -> bytes | None:
        """Return what stands under *key*."""
        with self._told():
            found = self._connection.execute("SELECT value, crc FROM state WHERE key = ?", (key,)).fetchone()
        return None if found is None else self._checked(key, *found)

    def entries(self) -> Generator[Entry]:
        """Yield everything, in no order."""
        with self._told():
            for key, value, since_ms, crc in self._connection.execute("SELECT key, value, since, crc FROM state"):
                yield Entry(key, self._checked(key, value, crc), since_ms)

    def oldest(self, before_ms: int, most: int) -> list[str]:
        """Return the keys of at most *most* workflows that have not changed since *before_ms*, oldest first."""
        query = "SELECT key FROM state WHERE since < ? ORDER BY since LIMIT ?"
        with self._told():
            return [key for (key,) in self._connection.execute(query, (before_ms, most))]

    def clear(self) -> None:
        """Forget everything, the checkpoint first."""
        with self._told():
            self._run("BEGIN")
            self._run("DELETE FROM checkpoint")
            self._run("DELETE FROM state")
            self._run("COMMIT")

    def close(self) -> None:
        """Let go of it; a temporary one is gone then."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def remove(self) -> None:
        """Close it and take it off the disk."""
        self.close()
        if self.path is not None:
            _remove(self.path)

    def _checked(self, key: str, value: bytes, crc: int) -> bytes:
        # SQLite notices a page that makes no sense, not a value that is another.
        if _crc(key, value) != crc:
            raise StateFileError(self.path, "what it holds is not what was written to it")
        return value

    def _run(self, statement: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(statement).fetchall()

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            # In its low byte: what an extended code is a case of.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StateFileBusyError(self.path) from error
            raise StateFileError(self.path, str(error)) from error
        except OSError as error:
            raise StateFileError(self.path, str(error.strerror or error)) from error


def _crc(key: str, value: bytes) -> int:
    return zlib.crc32(value, zlib.crc32(key.encode()))


def _is_anothers(path: Path) -> bool:
    """Say whether *path* is a sound SQLite file of another program, or no file at all: not ours to remove."""
    if not path.is_file():
        return path.exists()
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        with contextlib.closing(connection):
            [(application,)] = connection.execute("PRAGMA application_id").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
    except sqlite3.Error:
        return False
    return bool(application != _APPLICATION)


def _remove(path: Path) -> None:
    for ending in ("", "-wal", "-shm", "-journal"):
        with contextlib.suppress(OSError):
            Path(f"{path}{ending}").unlink()
