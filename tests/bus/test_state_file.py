"""A file of state: what was written is there after a crash, or the file is made anew, and says why."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from antiphon.bus.state_file import Checkpoint, Entry, StateFile, StateFileBusyError, StateFileError

SEVEN = Entry("order-7", b'{"n":7}', 1_000)
EIGHT = Entry("account-8", b'{"n":8}', None)
END = Checkpoint("topic-id", 0, 12, 5_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "stock.state-3@a1.sqlite"


def written(path: Path) -> None:
    file = StateFile(path)
    file.write([SEVEN, EIGHT], END)
    file.close()


def test_what_was_written_is_there_again(path: Path) -> None:
    """With the checkpoint that it was written with."""
    written(path)
    file, trouble = StateFile.opened(path)
    with closing(file):
        assert (trouble, file.checkpoint, {*file.entries()}) == (None, END, {SEVEN, EIGHT})


def test_what_a_process_did_not_finish_is_not_there(path: Path) -> None:
    """Entries and checkpoint come together, or not at all: here the second of two writes fails half-way."""
    written(path)
    file = StateFile(path)
    with pytest.raises(StateFileError):
        file.write([Entry("order-7", b"{}", 2_000), Entry("order-9", b"{}", object())], END._replace(end=20))  # type: ignore[arg-type]  # what SQLite cannot take
    assert (file.checkpoint, {*file.entries()}) == (END, {SEVEN, EIGHT})
    file.close()


def test_a_deleted_value_is_gone(path: Path) -> None:
    """A tombstone leaves nothing on disk."""
    written(path)
    file = StateFile(path)
    file.write([Entry("order-7", None, None)])
    assert (file.read("order-7"), file.read("account-8"), file.oldest(9_000, 9)) == (None, b'{"n":8}', [])
    file.close()


def test_the_oldest_of_workflows_come_first(path: Path) -> None:
    """And no more than asked for; keys that are no workflows' never come."""
    file = StateFile(path)
    file.write([EIGHT, *(Entry(f"order-{n}", b"{}", 1_000 - n) for n in range(5))])
    assert (file.oldest(999, 2), file.oldest(998, 9)) == (["order-4", "order-3"], ["order-4", "order-3"])
    file.close()


def damaged(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\x55" * size)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])


def of_a_later_release(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("spoil", [damaged, cut, of_a_later_release], ids=lambda spoil: spoil.__name__)
def test_a_file_that_cannot_be_used_is_made_anew(path: Path, spoil: Callable[[Path], None]) -> None:
    """It is a copy: an empty one will do, and whoever opened it is told why."""
    written(path)
    spoil(path)
    file, trouble = StateFile.opened(path)
    with closing(file):
        assert (file.checkpoint, [*file.entries()], trouble is not None) == (None, [], True)


def test_a_changed_value_is_noticed(path: Path) -> None:
    """SQLite itself would hand it out."""
    written(path)
    path.write_bytes(path.read_bytes().replace(b'{"n":7}', b'{"n":1}'))
    file = StateFile(path)
    with closing(file), pytest.raises(StateFileError, match="not what was written"):
        file.read("order-7")


def test_another_programs_file_is_left_alone(path: Path) -> None:
    """Whatever it is doing there."""
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (n INTEGER)")
        connection.commit()
    with pytest.raises(StateFileError, match="another program's"):
        StateFile.opened(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM precious").fetchall() == [(0,)]


def test_two_workers_of_one_name_do_not_share_a_file(path: Path) -> None:
    """The second goes without; the first is not disturbed."""
    written(path)
    first = StateFile(path)
    with pytest.raises(StateFileBusyError, match="has it open"):
        StateFile.opened(path)
    first.write([Entry("order-9", b"{}", None)])
    assert first.read("order-9") == b"{}"
    first.close()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Says where, and what to do."""
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(StateFileError, match="leave ANTIPHON_STATE_DIR out"):
        StateFile.opened(tmp_path / "kept" / "x.sqlite")


def test_a_temporary_file_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is left behind, however the process ends."""
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    file = StateFile()
    file.write(Entry(f"order-{n}", b"x" * 1_000, None) for n in range(5_000))
    assert (file.read("order-4999"), [*tmp_path.iterdir()]) == (b"x" * 1_000, [])
    file.close()
