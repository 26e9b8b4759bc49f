"""What an error of SQLite's means for the file it was about, and what to do."""

from __future__ import annotations

import sqlite3

from antiphon.tracing.index.errors import IndexBusyError, IndexDamagedError, IndexFileError, IndexFullError


def meaning_of(error: sqlite3.Error, name: str, *, damaged: str | None = None) -> IndexFileError:
    """Return *error* as what it means for the file *name*; *damaged* is what to do about one that is not as it was written."""
    # Extended codes have the primary one in their lowest byte.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return IndexBusyError(name, "another program has it locked")
        case sqlite3.SQLITE_FULL:
            return IndexFullError(name, str(error))
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM | sqlite3.SQLITE_IOERR:
            return IndexFileError(name, str(error), "see to its folder: that it is there, and writable")
        case _:
            return IndexDamagedError(name, str(error), damaged)
