"""The files of a tracer, index and ledger, when SQLite says no: what that means, and what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon.tracing.index.database import Sqlite
from antiphon.tracing.index.errors import IndexBusyError, IndexDamagedError, IndexFileError
from antiphon.tracing.otlp.ledger_file import LedgerFile

OPENED: dict[str, Callable[[Path], object]] = {"index": lambda path: Sqlite(path, writes=True), "ledger": LedgerFile}


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        ("index", "antiphon tracer rebuild makes it again from the topics; nothing is lost"),
        ("ledger", "move it away: what was exported before may be again"),
    ],
)
def test_one_that_is_not_as_it_was_written(file: str, remedy: str, tmp_path: Path) -> None:
    """What to do about it is not the same: an index is a copy, what was exported stands nowhere else."""
    path = tmp_path / file
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(IndexDamagedError) as told:
        OPENED[file](path)
    assert str(told.value) == f"expected an index at {path}: file is not a database\n{remedy}"


@pytest.mark.parametrize("file", OPENED)
def test_one_that_is_in_no_place_for_files(file: str, tmp_path: Path) -> None:
    """Of a folder is told that it is to be seen to."""
    path = tmp_path / file
    path.mkdir()
    with pytest.raises(IndexFileError, match=r"unable to open database file\nsee to its folder: that it is there"):
        OPENED[file](path)


def test_one_that_another_program_has_locked(tmp_path: Path) -> None:
    """It waits as long as SQLite does, and says so."""
    path = tmp_path / "ledger"
    LedgerFile(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    ledger = LedgerFile(path)
    ledger.rows("PRAGMA busy_timeout = 1")
    with pytest.raises(IndexBusyError, match="another program has it locked"), ledger.transaction():
        pass
    ledger.close()
    other.close()
