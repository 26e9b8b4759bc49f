"""The promises of what keeps an index's tables, whatever that is."""

# ruff: noqa: S101, PLR2004 - tests assert numbers

from __future__ import annotations

import contextlib

import orjson

from antiphon.tracing.index import tables
from antiphon.tracing.index.contents import Contents
from antiphon.tracing.index.database import Database
from antiphon.tracing.index.search import Search, search

MANY = 250


class _Halt(Exception):  # noqa: N818 - it is no error
    """Raised in the middle of a transaction."""


class IndexSuite:
    """Inherit it, and give a fixture `database`: one that is open to be written, and empty."""

    @staticmethod
    def _event(n: int, content: bytes = b"v") -> tuple[object, ...]:
        return (b"workflow", 1, 0, n, 0, content)

    def _places(self, database: Database) -> list[int]:
        return [place for (place,) in database.rows("SELECT place FROM payloads ORDER BY place")]

    def test_what_is_written_again_is_there_once(self, database: Database) -> None:
        """Many rows or few, alone or among others; the first of those that are known alike stays."""
        database.many(tables.PAYLOADS, [self._event(n) for n in range(MANY)])
        database.many(tables.PAYLOADS, [self._event(n, b"later") for n in range(-1, MANY + 1)] * 2)
        database.many(tables.PAYLOADS, [])
        assert self._places(database) == [*range(-1, MANY + 1)]
        found: dict[bytes, int] = dict(database.rows("SELECT content, count(*) FROM payloads GROUP BY content"))
        assert found == {b"v": MANY, b"later": 2}

    def test_all_of_a_transaction_or_nothing(self, database: Database) -> None:
        """What raised has changed nothing, and the same can be done again."""
        with contextlib.suppress(_Halt), database.transaction():
            database.many(tables.PAYLOADS, [self._event(n) for n in range(MANY)])
            assert len(self._places(database)) == MANY
            raise _Halt
        assert self._places(database) == []
        with database.transaction():
            database.many(tables.PAYLOADS, [self._event(7)])
        assert self._places(database) == [7]

    def test_values_come_back_as_they_were(self, database: Database) -> None:
        """Bytes of every kind, numbers up to 63 bits, nothing; ids sort as bytes do."""
        most, every = (1 << 63) - 1, bytes(range(256))
        rows = [
            (every, 1, 0, most, every, 1, 1, most, None, 0, None),
            (b"\xffb", -1, 0, 0, b"", 1, 1, -most, b"\0", -(1 << 31), '{"a": "\\u0000"}'),
            (b"\0", 1, 0, 0, b"", 1, 1, 0, None, 0, "ü"),
        ]
        database.many(tables.EVENTS, rows)
        assert [*database.rows("SELECT * FROM events ORDER BY workflow")] == [rows[2], rows[0], rows[1]]
        between = "SELECT place FROM events WHERE workflow >= ? AND workflow < ?"
        assert sorted(database.rows(between, (b"\0", b"\xffa"))) == [(0,), (most,)]

    def test_text_that_a_database_may_not_hold(self, database: Database) -> None:
        """Anybody can write the character 0 into a header: it is kept, or something in its place, and found again."""
        database.run("INSERT INTO names VALUES (?, ?)", (1, "order\0placed"))
        assert [*database.rows("SELECT no FROM names WHERE name = ?", ("order\0placed",))] == [(1,)]

    def test_of_a_workers_heartbeats_the_last_one_stays(self, database: Database) -> None:
        """In whatever order they come, several at once."""
        beats = [("a/1", 1, 0, place, str(place)) for place in (3, 9, 4)]
        database.many(tables.WORKERS, beats)
        database.many(tables.WORKERS, beats[:1])
        assert [*database.rows("SELECT place, seen FROM workers")] == [(9, "9")]

    def test_an_agent_is_found_by_its_name(self, database: Database) -> None:
        """Letter by letter, whatever signs it has: in a list of those that handled something, or of those that owe something."""
        names = ["a_b", "a%b", "a\\b", 'a"b', "äb", "axb", "_"]
        lists = [(orjson.dumps([name]).decode(), "[]") for name in names]
        lists += [(owing, agents) for agents, owing in lists]
        rows = [
            (str(n).encode(), "running", None, n, n, 1, agents, None, owing, 0, '{"amount":0,"currency":"USD"}')
            for n, (agents, owing) in enumerate(lists)
        ]
        database.many(tables.WORKFLOWS, rows)
        contents = Contents(database)
        found = {
            name: [one.begun_us for one in search(database, contents, Search(agent=name), ())] for name in [*names, "b"]
        }
        assert found == {**{name: [n + len(names), n] for n, name in enumerate(names)}, "b": []}

    def test_rows_are_read_while_others_are(self, database: Database) -> None:
        """A question may be asked before the answer to another one was heard to its end."""
        database.many(tables.PAYLOADS, [self._event(n) for n in range(3)])
        outer = database.rows("SELECT place FROM payloads ORDER BY place")
        assert (next(outer), self._places(database), [*outer]) == ((0,), [0, 1, 2], [(1,), (2,)])

    def test_how_many_were_changed(self, database: Database) -> None:
        """And what that takes: something."""
        database.many(tables.PAYLOADS, [self._event(n) for n in range(3)])
        assert database.run("DELETE FROM payloads WHERE place >= ?", (1,)) == 2
        assert database.size() > 0

    def test_statements_fit_their_tables(self, database: Database) -> None:
        """Each that the writer has says as many values as its table has columns."""
        some = (
            (tables.DELIVERIES, (b"w", b"e", 1, 0, 1, 1, 1, 1, 1, 0, 0, 0.5, None, None)),
            (tables.CALLS, (b"w", b"e", 1, 0, 1, 1, 0, 1, 1, 0, 0, 0.25, "USD", 7, None)),
            (tables.REPLAYS, (b"w",)),
            (tables.CLOCKS, (1, 2, 3, -4)),
            (tables.TOUCHED, (b"w",)),
            (tables.WORKFLOWS, (b"w", "running", None, 0, 0, 1, "[]", None, "[]", 0, "{}")),
            (tables.POSITIONS, (1, 0, 7)),
            (tables.SCHEMAS, ("#1", "{}")),
            (tables.NAMES, (1, "a")),
            (tables.NOTES, ("as_of", "1")),
        )
        for statement, row in some:
            for _ in range(2):
                database.many(statement, [row])
            table = statement.split()[2]
            if table != "notes":
                assert [*database.rows(f"SELECT * FROM {table}")] == [row]  # noqa: S608 - ours
