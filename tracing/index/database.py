"""The port to whatever keeps an index's tables, and SQLite behind it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias

from antiphon.tracing.index.errors import (
    IndexBusyError,
    IndexDamagedError,
    IndexFileError,
    IndexVersionError,
    NoIndexError,
)
from antiphon.tracing.index.sqlite_error import meaning_of
from antiphon.tracing.index.tables import FORMS, VERSION

Row: TypeAlias = tuple[Any, ...]

# "aphx": what other programs' SQLite files do not say of themselves.
_APPLICATION = 0x61706878
_BUSY_S = 5.0
_TOGETHER = 100
_CACHE_KIB = 64 * 1024
_PAGES_BEFORE_CHECKPOINT = 8_000
_EARLIER = "it is not finished, or of an earlier release"


class Database(Protocol):
    """Tables and their rows. Every call blocks; one thread at a time. What fails raises `IndexFileError`."""

    @property
    def name(self) -> str:
        """What to call it in an error."""
        ...

    @property
    def shared(self) -> bool:
        """Others may write to it too, so that what was written is not all that there is."""
        ...

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Yield what *statement* gives, as it is asked for."""
        ...

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Do *statement*; return how many rows it changed."""
        ...

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        """Do *statement* once for each of *rows*."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Make what is done inside visible together when it ends, or none of it where it raises.

        One at a time: what others write meanwhile is written before or after.
        """
        ...

    def size(self) -> int:
        """Return how many bytes it takes, less what it could give back."""
        ...

    def close(self) -> None: ...


@contextlib.contextmanager
def together(connection: sqlite3.Connection) -> Generator[None]:
    """Make what is done inside visible together when it ends, or none of it where it raises."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # A full disk has ended it already.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class Sqlite:
    """An index in a file of its own, or with no path in memory.

    Readers see the last transaction while another is written (WAL). One process
    at a time writes: whoever opens it to write holds a lock beside it.
    """

    shared = False

    def __init__(
        self,
        path: Path | None,
        *,
        writes: bool,
        most_bytes: int | None = None,
        careful: bool = True,
        patience_s: float = _BUSY_S,
    ) -> None:
        """Open it, made and brought up to this release's form where it is to be written.

        *most_bytes*: what would need more raises `IndexFullError`. Not *careful*: the machine's
        crash may damage it, for one that is made anew anyway. A call waits *patience_s* for another program's lock.
        """
        self._patience_s = patience_s
        self._path = path
        self._lock: IO[str] | None = None
        if path is not None and writes:
            with self._told():
                self._lock = _locked(path)
        elif path is not None and not path.exists():
            raise NoIndexError(str(path))
        try:
            self._connection = self._connect(path, writes=writes)
            try:
                with self._told():
                    self._prepare(writes=writes, most_bytes=most_bytes, careful=careful)
            except BaseException:
                self._connection.close()
                raise
        except BaseException:
            self._unlock()
            raise

    @property
    def name(self) -> str:
        return "memory" if self._path is None else str(self._path)

    def _connect(self, path: Path | None, *, writes: bool) -> sqlite3.Connection:
        target = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={'rw' if writes else 'ro'}"
        with self._told():
            if path is not None and writes:
                # Payloads may hold what is nobody else's business.
                with contextlib.suppress(FileExistsError):
                    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
            return sqlite3.connect(
                target, uri=True, timeout=self._patience_s, isolation_level=None, check_same_thread=False
            )

    def _prepare(self, *, writes: bool, most_bytes: int | None, careful: bool) -> None:
        run = self._connection.execute
        run(f"PRAGMA cache_size = -{_CACHE_KIB}")
        [(application,)] = run("PRAGMA application_id")
        [(version,)] = run("PRAGMA user_version")
        [(tables,)] = run("SELECT count(*) FROM sqlite_master")
        if (application, version, tables) != (0, 0, 0) and application != _APPLICATION:
            raise IndexFileError(self.name, "it is another program's file", "name another file")
        if version > VERSION:
            raise IndexVersionError(self.name, expected=VERSION, got=version)
        if self._path is not None and writes:
            run("PRAGMA journal_mode = WAL")
            run(f"PRAGMA synchronous = {'NORMAL' if careful else 'OFF'}")
            run(f"PRAGMA wal_autocheckpoint = {_PAGES_BEFORE_CHECKPOINT}")
        if writes:
            self._bring_up(version)
            if most_bytes is not None:
                [(page,)] = run("PRAGMA page_size")
                run(f"PRAGMA max_page_count = {max(1, most_bytes // page)}")
        elif version < VERSION:
            raise IndexDamagedError(self.name, _EARLIER)

    def _bring_up(self, version: int) -> None:
        if version == VERSION:
            return
        forms = [form for form in sorted(FORMS) if form > version]
        if version and forms[0] > version + 1:
            raise IndexDamagedError(self.name, _EARLIER)
        with self.transaction():
            for form in forms:
                for statement in FORMS[form].strip().rstrip(";").split(";\n"):
                    self._connection.execute(statement)
            self._connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._connection.execute(f"PRAGMA user_version = {VERSION}")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        with self._told():
            yield from self._connection.execute(statement, values)

    def run(self, statement: str, values: Sequence[Any] = ()) -> int:
        with self._told():
            return self._connection.execute(statement, values).rowcount

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        with self._told():
            done = 0
            if len(rows) >= _TOGETHER:
                # One statement for many rows: a call of the client for each takes a third of the time.
                one = "(" + ", ".join("?" * len(rows[0])) + ")"
                several = statement.replace(one, ", ".join([one] * _TOGETHER), 1)
                if several != statement:
                    execute, flat = self._connection.execute, chain.from_iterable
                    for done in range(_TOGETHER, len(rows) + 1, _TOGETHER):
                        execute(several, [*flat(rows[done - _TOGETHER : done])])
            self._connection.executemany(statement, rows[done:])

    @contextlib.contextmanager
    def transaction(self) -> Generator[None]:
        with self._told(), together(self._connection):
            yield

    def size(self) -> int:
        with self._told():
            [(page,)] = self._connection.execute("PRAGMA page_size")
            [(pages,)] = self._connection.execute("PRAGMA page_count")
            [(free,)] = self._connection.execute("PRAGMA freelist_count")
        return int(page * (pages - free))

    def settle(self) -> None:
        """Put all that stands beside the file into it, so that it can be moved."""
        with self._told():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check(self) -> None:
        """Look through the whole file; raises `IndexDamagedError` where it is not as it was written."""
        with self._told():
            [(found,), *_] = self._connection.execute("PRAGMA quick_check(1)")
        if found != "ok":
            raise IndexDamagedError(self.name, str(found))

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    @contextlib.contextmanager
    def _told(self) -> Generator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise meaning_of(error, self.name) from error
        except OSError as error:
            raise IndexFileError(
                self.name, error.strerror or str(error), "see to the folder, or name another file"
            ) from error


@contextlib.contextmanager
def held(path: Path) -> Generator[None]:
    """Keep writers from the index at *path* for the length of the block, whether there is one or not."""
    try:
        lock = _locked(path)
    except OSError as error:
        raise IndexFileError(str(path), error.strerror or str(error), "see to the folder") from error
    with lock:
        yield


def _locked(path: Path) -> IO[str]:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = Path(f"{path}.lock").open("w", encoding="ascii")  # noqa: SIM115 - it is held as long as the index is open
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise IndexBusyError(str(path)) from None
    return lock
