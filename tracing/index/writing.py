"""Writing an index: what was read, and how far, in one transaction; what follows from it, when it changed."""

from __future__ import annotations

import contextlib
import itertools
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple, cast

import orjson

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import ACTIVITY, AGENTS, COORDINATOR
from antiphon.bus.subscriptions import Subscriptions, subscriptions
from antiphon.schemas.store import AvroSchema, Reference
from antiphon.tracing.delivered import Delivered
from antiphon.tracing.index import tables
from antiphon.tracing.index.contents import Contents
from antiphon.tracing.index.database import Database, Row
from antiphon.tracing.index.keys import id_of
from antiphon.tracing.index.recurring import Numbers
from antiphon.tracing.index.rows import HOUR_US, Holds, Rows, Source, named, worker_in
from antiphon.tracing.index.standing import Facts, Judge
from antiphon.tracing.seen import SeenEvent, is_ours

_AT_ONCE = 1_000
"""Workflows whose rows are looked at in one transaction."""
_REMEMBERED = 30_000
"""Workflows of which the facts are kept in memory."""
_ASKED = 500
_IDENTITY = "identity"
_MOMENT_US = 500_000
_KNOWN = "SELECT workflow FROM workflows WHERE workflow IN ({marks}) UNION ALL SELECT workflow FROM touched WHERE workflow IN ({marks})"
_NOBODY = '{"heard": {}, "failing": [], "coordinated": false}'
_SOURCES = "INSERT INTO sources SELECT coalesce(max(no), 0) + 1, ?, ?, ? FROM sources WHERE true ON CONFLICT DO NOTHING"
_NAMES = "INSERT INTO names SELECT coalesce(max(no), 0) + 1, ? FROM names WHERE true ON CONFLICT DO NOTHING"
_TOUCH_ALL = "INSERT INTO touched SELECT workflow FROM workflows WHERE true ON CONFLICT DO NOTHING"
_TOUCH_TYPES = """
INSERT INTO touched SELECT workflow FROM events WHERE type IN ({types})
UNION SELECT workflow FROM deliveries WHERE type IN ({types})
UNION SELECT workflow FROM workflows WHERE lacking = 1
ON CONFLICT DO NOTHING
"""
_TABLES = ("events", "payloads", "deliveries", "calls", "replays", "workflows", "touched")


class Position(NamedTuple):
    """How far one partition of one source was read: the offset that comes next."""

    source: int
    partition: int
    next: int


class Writer:
    """Writes an index. One at a time; every call blocks, and raises `IndexFileError`.

    What raised has changed nothing: the same call can be made again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        known = {name: no for no, name in database.rows("SELECT no, name FROM names")}
        # Where others write too, a number is taken before it is used.
        self.numbers = Numbers(known, self._assigned if database.shared else None)
        self._contents = Contents(database)
        self._schemas = {reference for (reference,) in database.rows("SELECT reference FROM schemas")}
        self._workers: dict[str, AgentSeen] | None = None
        self._mesh: str | None = self.note("mesh")
        self._topics: set[str] = {*orjson.loads(self.note("topics") or "[]")}
        self._facts: dict[bytes, Facts] = {}
        self._seen: tuple[int, Subscriptions] | None = None

    # -- what was read ------------------------------------------------------

    def source(self, topic: str, identity: str) -> Source:
        """Return what *topic*, by its plain name and as it was made, is known as; the same for ever."""
        database = self._database
        found = [*database.rows("SELECT no FROM sources WHERE topic = ? AND identity = ?", (topic, identity))]
        if not found:
            number = self.numbers[topic]
            with database.transaction():
                self._write_names()
                database.run(_SOURCES, (topic, number, identity))
            self.numbers.fresh.clear()
            self._contents.refresh()
            found = [*database.rows("SELECT no FROM sources WHERE topic = ? AND identity = ?", (topic, identity))]
        return Source(found[0][0], _HOLDS.get(topic, Holds.EVENTS))

    def _assigned(self, name: str) -> int:
        database = self._database
        with database.transaction():
            database.run(_NAMES, (name,))
            [(number,)] = database.rows("SELECT no FROM names WHERE name = ?", (name,))
        return int(number)

    def positions(self) -> dict[tuple[int, int], int]:
        """Return the offset that comes next, by source and partition."""
        return {
            (source, part): next
            for source, part, next in self._database.rows("SELECT source, part, next FROM positions")
        }

    def write(
        self,
        rows: Rows,
        positions: Sequence[Position] = (),
        schemas: Mapping[Reference, AvroSchema] | None = None,
    ) -> None:
        """Write *rows*, and that everything before *positions* was read: both or neither. Again changes nothing."""
        database, touched = self._database, sorted(rows.touched())
        # What others write belongs to a workflow too: then there is no telling that what is written here is all of it.
        begun = {} if database.shared else {workflow: Facts() for workflow in self._new(touched)}
        lacking = {named(one): schema for one, schema in (schemas or {}).items() if named(one) not in self._schemas}
        with database.transaction():
            self._write_names()
            if lacking:
                database.many(tables.SCHEMAS, [(name, orjson.dumps(one).decode()) for name, one in lacking.items()])
            for statement, some in (
                (tables.EVENTS, rows.events),
                (tables.PAYLOADS, rows.payloads),
                (tables.DELIVERIES, rows.deliveries),
                (tables.CALLS, rows.calls),
            ):
                # Workflows that began together lie together, so rows in their order find their pages in memory.
                some.sort(key=itemgetter(0))
                database.many(statement, some)
            if rows.replays:
                database.many(tables.REPLAYS, [(workflow,) for workflow in sorted(rows.replays)])
            if rows.workers:
                database.many(tables.WORKERS, rows.workers)
            if rows.gaps:
                database.many(tables.CLOCKS, [(*at, gap) for at, gap in sorted(rows.gaps.items())])
            database.many(tables.TOUCHED, [(workflow,) for workflow in touched])
            database.many(tables.POSITIONS, positions)
            topics = self._topics | rows.topics
            if topics != self._topics:
                topics |= {*orjson.loads(self.note("topics") or "[]")}
                database.many(tables.NOTES, [("topics", orjson.dumps(sorted(topics)).decode())])
        self.numbers.fresh.clear()
        self._schemas |= lacking.keys()
        self._topics = topics
        if rows.workers:
            self._workers = None
        self._remember(rows, begun)

    def _new(self, workflows: Sequence[bytes]) -> Iterator[bytes]:
        """Yield those of *workflows*, which are sorted, of which nothing was read yet."""
        strange = [workflow for workflow in workflows if workflow not in self._facts]
        # Ids made here sort by time: most of what is new stands behind all that is there, and need not be asked for.
        behind = bisect_right(strange, self._last())
        yield from strange[behind:]
        del strange[behind:]
        for start in range(0, len(strange), _ASKED):
            some = strange[start : start + _ASKED]
            marks = ", ".join("?" * len(some))
            known = {row[0] for row in self._database.rows(_KNOWN.format(marks=marks), (*some, *some))}
            yield from (workflow for workflow in some if workflow not in known)

    def _last(self) -> bytes:
        """Return the last key of all workflows of which something was read."""
        found = (self._database.rows(f"SELECT max(workflow) FROM {table}") for table in ("workflows", "touched"))  # noqa: S608 - what comes from outside is bound
        return max(last or b"" for rows in found for (last,) in rows)

    def _remember(self, rows: Rows, begun: dict[bytes, Facts]) -> None:
        """Keep what was read of workflows of which nothing else was: so it need not be read again to say how they stand."""
        known = self._facts
        known |= begun
        for row in rows.events:
            if (facts := known.get(row[0])) is not None:
                facts.events.append(row)
        for row in rows.deliveries:
            if (facts := known.get(row[0])) is not None:
                facts.deliveries.append(row)
        for row in rows.calls:
            if (facts := known.get(row[0])) is not None:
                facts.see_call(row)
        self._fade([*itertools.islice(known, max(0, len(known) - _REMEMBERED))])

    def pass_to(self, positions: Sequence[Position]) -> None:
        """Note that before *positions* there is nothing more to read."""
        with self._database.transaction():
            self._database.many(tables.POSITIONS, positions)

    def topics(self) -> set[str]:
        """Return the plain names of the topics that activity names."""
        if self._database.shared:
            self._topics |= {*orjson.loads(self.note("topics") or "[]")}
        return {*self._topics}

    def note_all(self, notes: Mapping[str, str]) -> None:
        """Note something about the index itself."""
        with self._database.transaction():
            self._database.many(tables.NOTES, [*notes.items()])

    def identity(self) -> str:
        """Return what tells this index from every other; one that is made again is another."""
        found = self.note(_IDENTITY)
        if found is None:
            with self._database.transaction():
                found = self.note(_IDENTITY) or uuid.uuid4().hex[:12]
                self._database.many(tables.NOTES, [(_IDENTITY, found)])
        return found

    def _write_names(self) -> None:
        if self.numbers.fresh:
            self._database.many(tables.NAMES, self.numbers.fresh)

    def note(self, name: str) -> str | None:
        """Return what was noted under *name*."""
        found = [*self._database.rows("SELECT value FROM notes WHERE name = ?", (name,))]
        return found[0][0] if found else None

    # -- what follows from it -----------------------------------------------

    def left(self) -> int:
        """Return how many workflows are still to be looked at."""
        [(count,)] = self._database.rows("SELECT count(*) FROM touched")
        return int(count)

    def settle(self, *, now_us: int, at_most: int | None = None) -> int:
        """Say anew how workflows stand of which something was read; returns how many are done, 0 when all are.

        *now_us* decides whose word counts for an agent: that of its live workers, where there are any.
        """
        database = self._database
        if database.shared:
            # Others' too, and none that a transaction gave that came to nothing.
            self.numbers.clear()
            self.numbers.update({name: number for number, name in database.rows("SELECT no, name FROM names")})
        mesh = self._mesh_at(now_us)
        # A mesh may name agents that have handled nothing yet.
        for agent in mesh.agents:
            self.numbers[agent]
        at_most = min(at_most or _AT_ONCE, _AT_ONCE)
        # Where others write too, nobody may between looking and saying how it stands.
        with database.transaction() if database.shared else contextlib.nullcontext():
            found = [
                row[0] for row in database.rows("SELECT workflow FROM touched ORDER BY workflow LIMIT ?", (at_most,))
            ]
            if not found:
                return 0
            self._contents.refresh()
            names = self._contents.names | dict(cast("list[tuple[int, str]]", self.numbers.fresh))
            judge = Judge(mesh, self.numbers, names, self._contents.topics, contents=self._stitched)
            facts = self._facts_of(found)
            standings = [judge.standing(workflow, facts[workflow]) for workflow in found]
            clocks = [
                (self.numbers[cause], self.numbers[effect], hour, gap)
                for (cause, effect, hour), gap in sorted(judge.gaps().items())
            ]
            with contextlib.nullcontext() if database.shared else database.transaction():
                self._write_names()
                database.many(tables.CLOCKS, clocks)
                database.many(tables.WORKFLOWS, standings)
                database.run("DELETE FROM touched WHERE workflow BETWEEN ? AND ?", (found[0], found[-1]))
        self.numbers.fresh.clear()
        self._fade(found)
        return len(found)

    def _facts_of(self, workflows: Sequence[bytes]) -> Mapping[bytes, Facts]:
        """Return the rows of *workflows*: those that are remembered, and the others as they are kept."""
        strange = [workflow for workflow in workflows if workflow not in self._facts]
        found = {workflow: Facts() for workflow in strange}
        for start in range(0, len(strange), _ASKED):
            some = strange[start : start + _ASKED]
            marks = ", ".join("?" * len(some))
            for table, see in (
                ("events", Facts.see_event),
                ("deliveries", Facts.see_delivery),
                ("calls", Facts.see_call),
            ):
                for row in self._database.rows(f"SELECT * FROM {table} WHERE workflow IN ({marks})", some):  # noqa: S608 - what comes from outside is bound
                    see(found[row[0]], row)
        return {**found, **{workflow: self._facts[workflow] for workflow in workflows if workflow not in found}}

    def _fade(self, some: Iterable[bytes]) -> None:
        """Forget facts of *some* workflows while there are too many; they can be read again."""
        for workflow in some:
            if len(self._facts) <= _REMEMBERED:
                return
            self._facts.pop(workflow, None)

    def _stitched(self, workflow: bytes) -> tuple[str, list[SeenEvent], list[Delivered]]:
        # How a workflow stands depends on the data of the mesh's own events, and of no others.
        events = self._contents.events(workflow, decoded=is_ours)
        return id_of(workflow), events, self._contents.deliveries(workflow)

    def workers(self) -> dict[str, AgentSeen]:
        """Return the last heartbeat of every worker, by its key."""
        if self._workers is None:
            self._workers = {
                name: worker_in(seen)
                for name, seen in self._database.rows("SELECT name, seen FROM workers WHERE seen IS NOT NULL")
            }
        return self._workers

    def _mesh_at(self, now_us: int) -> Subscriptions:
        """Return the mesh as it is at *now_us*, or was a moment before; and have looked at what that changes."""
        if self._database.shared and (self._seen is None or now_us - self._seen[0] >= _MOMENT_US):
            self._workers, self._mesh = None, self.note("mesh")
        if self._workers is None or self._seen is None or not 0 <= now_us - self._seen[0] < _MOMENT_US:
            self._seen = now_us, subscriptions(self.workers().values(), now_us=now_us)
            self._touch_changed(self._seen[1])
        return self._seen[1]

    def _touch_changed(self, mesh: Subscriptions) -> None:
        """Have workflows looked at again in which other agents owe something, as the mesh is now."""
        told = {
            "heard": {type: sorted(map(list, at)) for type, at in sorted(mesh.heard.items())},
            "failing": sorted(mesh.failing),
            "coordinated": COORDINATOR in mesh.agents,
        }
        text = orjson.dumps(told).decode()
        if text == self._mesh:
            return
        before, now = (orjson.loads(one) for one in (self._mesh or _NOBODY, text))
        changed: set[str] = {*before["failing"]} ^ {*now["failing"]}
        heard: set[str] = {*before["heard"], *now["heard"]}
        changed |= {type for type in heard if before["heard"].get(type) != now["heard"].get(type)}
        with self._database.transaction():
            if before["coordinated"] != now["coordinated"]:
                self._database.run(_TOUCH_ALL)
            types = ", ".join(str(self.numbers[type]) for type in sorted(changed) if type in self.numbers)
            self._database.run(_TOUCH_TYPES.format(types=types or "-1"))
            self._database.many(tables.NOTES, [("mesh", text)])
        self._mesh = text

    # -- what is kept -------------------------------------------------------

    def forget(self, *, before_us: int | None = None, most_bytes: int | None = None) -> int:
        """Forget workflows that ended before *before_us*, then the oldest until the rest takes *most_bytes*.

        Returns how many. What is outstanding is kept until it is the oldest of too much.
        """
        gone = 0
        if before_us is not None:
            self._database.run("DELETE FROM clocks WHERE hour < ?", (before_us // HOUR_US,))
            while some := self._oldest("last_us < ? AND owing = '[]'", (before_us,)):
                gone += self._delete(some)
        while most_bytes is not None and self._database.size() > most_bytes:
            some = self._oldest("true", ())
            if not some:
                break
            gone += self._delete(some)
        return gone

    def _oldest(self, where: str, values: tuple[int, ...]) -> list[Row]:
        return [
            *self._database.rows(
                f"SELECT workflow FROM workflows WHERE {where} ORDER BY begun_us LIMIT {_AT_ONCE}",  # noqa: S608 - what comes from outside is bound
                values,
            )
        ]

    def _delete(self, workflows: Sequence[Row]) -> int:
        with self._database.transaction():
            for table in _TABLES:
                self._database.many(f"DELETE FROM {table} WHERE workflow = ?", workflows)  # noqa: S608 - what comes from outside is bound
        for (workflow,) in workflows:
            self._facts.pop(workflow, None)
        return len(workflows)


_HOLDS = {ACTIVITY: Holds.ACTIVITY, AGENTS: Holds.AGENTS}
