"""What has still to be exported, and what was: beside the index, never in it.

    waiting     workflows of which something was read that may not have been sent
    sent        the ids of a workflow's spans that were
    notes       what else is to be remembered

A workflow is written down here before what was read of it is in the index, and
a span when the endpoint has taken it. So whatever a tracer is ended by, nothing
is left out; and what is sent twice is at most what was under way when it was
killed. It is no part of the index, as an index can be made again and this
cannot: what others were sent stands on no topic.

It stands in a file, or, where several tracers share an index in PostgreSQL, in a
schema beside that; then one of them sends at a time, and the others stand by.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from antiphon.tracing.index.database import Row

_FIRST = """
CREATE TABLE waiting (
    workflow BLOB PRIMARY KEY, touched_us BIGINT NOT NULL, since_us BIGINT NOT NULL, next_us BIGINT NOT NULL,
    tries INTEGER NOT NULL, failed_us BIGINT NOT NULL
) WITHOUT ROWID;
CREATE INDEX by_next ON waiting (tries, next_us);
CREATE TABLE sent (workflow BLOB PRIMARY KEY, spans BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
FORMS = {1: _FIRST}
"""What makes each version out of the one before."""
_TOUCH = """
INSERT INTO waiting VALUES (?, ?, ?, ?, 0, 0) ON CONFLICT (workflow) DO UPDATE
SET touched_us = excluded.touched_us, next_us = CASE
    WHEN waiting.tries > 0 AND waiting.next_us > excluded.next_us THEN waiting.next_us ELSE excluded.next_us
END
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
_SENT = "INSERT INTO sent VALUES (?, ?) ON CONFLICT (workflow) DO UPDATE SET spans = excluded.spans"
_ID_BYTES = 8


class Store(Protocol):
    """What keeps a ledger's tables. Every call blocks, one thread at a time; raises `IndexFileError` where it cannot be kept."""

    def alone(self) -> bool:
        """Say whether whoever asks is the one that sends, and from now on stays so while it is connected."""
        ...

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Iterable[Row]: ...

    def many(self, statement: str, rows: Sequence[Row]) -> None:
        """Do *statement* once for each of *rows*."""
        ...

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """Make what is done inside visible together when it ends, or none of it where it raises."""
        ...

    def close(self) -> None: ...


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
    """What those who write one index have to export, and have exported. Blocks and raises as its store does."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def close(self) -> None:
        self._store.close()

    def alone(self) -> bool:
        """Say whether this one is to send what waits; another one may be doing so."""
        return self._store.alone()

    # -- what waits ---------------------------------------------------------

    def touch(self, workflows: Collection[bytes], *, now_us: int, look_us: int) -> None:
        """Note that something of *workflows* is read; they are to be looked at from *look_us* on."""
        if workflows:
            self._all(_TOUCH, [(key, now_us, now_us, look_us) for key in workflows])

    def due(self, *, now_us: int, at_most: int, probing: bool = False) -> list[Waiting]:
        """Return workflows that are to be looked at, the longest due first.

        One that was refused before is returned alone, and only if there are no
        others; *probing*, one alone and rather such a one.
        """
        if probing:
            return [Waiting(*row) for row in self._store.rows(_PROBE, (now_us,))]
        fresh = [Waiting(*row) for row in self._store.rows(_FRESH, (now_us, at_most))]
        return fresh or [Waiting(*row) for row in self._store.rows(_AGAIN, (now_us,))]

    def waiting(self) -> int:
        """Return how many workflows wait."""
        [(count,)] = self._store.rows("SELECT count(*) FROM waiting")
        return int(count)

    def put_off(self, looks: Mapping[bytes, int]) -> None:
        """Have workflows looked at again at these times, or when something more of them is read."""
        self._all("UPDATE waiting SET next_us = ? WHERE workflow = ?", [(us, key) for key, us in looks.items()])

    def refused(self, workflows: Iterable[bytes], *, now_us: int, look_us: int) -> None:
        """Note that the endpoint did not take *workflows*."""
        self._all(
            "UPDATE waiting SET tries = tries + 1, next_us = ?, failed_us = CASE tries WHEN 0 THEN ? ELSE failed_us END "
            "WHERE workflow = ?",
            [(look_us, now_us, key) for key in workflows],
        )

    def done(self, some: Sequence[Waiting]) -> None:
        """Note that nothing of these is left to do; those of which more was read meanwhile go on waiting."""
        with self._store.transaction():
            self._store.many(
                "DELETE FROM waiting WHERE workflow = ? AND touched_us = ?",
                [(one.workflow, one.touched_us) for one in some],
            )
            self._store.many(
                "UPDATE waiting SET tries = 0, since_us = touched_us WHERE workflow = ?",
                [(one.workflow,) for one in some],
            )

    def goes_on(self, workflows: Iterable[bytes], *, now_us: int, look_us: int) -> None:
        """Note that all there is of *workflows* was sent, and that more will come."""
        self._all(
            "UPDATE waiting SET since_us = ?, next_us = ?, tries = 0 WHERE workflow = ?",
            [(now_us, look_us, key) for key in workflows],
        )

    # -- what was sent ------------------------------------------------------

    def sent(self, workflow: bytes) -> frozenset[str]:
        """Return the ids of the spans of *workflow* that the endpoint has taken."""
        ids = self._spans(workflow)
        return frozenset(ids[start : start + _ID_BYTES].hex() for start in range(0, len(ids), _ID_BYTES))

    def _spans(self, workflow: bytes) -> bytes:
        found = [*self._store.rows("SELECT spans FROM sent WHERE workflow = ?", (workflow,))]
        return found[0][0] if found else b""

    def taken(self, spans: Mapping[bytes, Iterable[str]]) -> None:
        """Note that the endpoint has taken *spans*: ids by workflow."""
        with self._store.transaction():
            rows = [(key, self._spans(key) + b"".join(map(bytes.fromhex, ids))) for key, ids in spans.items()]
            self._store.many(_SENT, rows)

    def remembered(self, after: bytes, *, at_most: int) -> list[bytes]:
        """Return the workflows behind *after* of which something was sent, in the order of their keys."""
        statement = "SELECT workflow FROM sent WHERE workflow > ? ORDER BY workflow LIMIT ?"
        return [workflow for (workflow,) in self._store.rows(statement, (after, at_most))]

    def forget(self, workflows: Iterable[bytes]) -> None:
        """Forget what was sent of *workflows*."""
        self._all("DELETE FROM sent WHERE workflow = ?", [(one,) for one in workflows])

    # -- itself -------------------------------------------------------------

    def note(self, name: str, first: str) -> str:
        """Return what is noted under *name*; where nothing is, note *first*."""
        self._all("INSERT INTO notes VALUES (?, ?) ON CONFLICT DO NOTHING", [(name, first)])
        [(value,)] = self._store.rows("SELECT value FROM notes WHERE name = ?", (name,))
        return str(value)

    def _all(self, statement: str, rows: Sequence[Row]) -> None:
        with self._store.transaction():
            self._store.many(statement, rows)
