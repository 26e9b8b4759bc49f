"""The read API of an index: the five questions, for whoever asks in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Self

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.subscriptions import Subscriptions, subscriptions
from antiphon.schemas.envelope import now_us
from antiphon.tracing.candidate import Candidate
from antiphon.tracing.clocks import Clock, Gaps, ahead
from antiphon.tracing.confidence import Confidence, Sure, confidences, quantile
from antiphon.tracing.index.address import Place, opened
from antiphon.tracing.index.contents import Contents
from antiphon.tracing.index.database import Database
from antiphon.tracing.index.keys import id_of, key_of, ranges
from antiphon.tracing.index.outlook import Outlook, outlooks
from antiphon.tracing.index.rows import HOUR_US, worker_in
from antiphon.tracing.index.search import STALLS, Listed, Search, search
from antiphon.tracing.index.spending import By, Spending, spending
from antiphon.tracing.index.tables import NO_REPLAY
from antiphon.tracing.state import State
from antiphon.tracing.workflow import Workflow, weave

AS_OF, BEHIND, CLUSTER = "as_of", "behind", "cluster"
"""Notes that a tracer leaves."""
_SAMPLE = 100_000
_DIGITS = 12


class Durations(NamedTuple):
    """How long workflows of one type took that have ended, in microseconds."""

    type: str
    workflows: int
    p50_us: float
    p95_us: float
    p99_us: float


class Extent(NamedTuple):
    """What an index holds, and how far it has come."""

    workflows: int
    events: int
    deliveries: int
    left: int
    """Workflows of which something was read, and that lists do not show yet as they are."""
    bytes: int
    as_of_us: int | None
    """When a tracer last wrote to it; None: never."""
    behind: int | None
    """Offsets that it had not read then; some hold no record."""
    cluster: str | None
    """The brokers that it was read from."""


class Index:
    """What a tracer has read of a mesh. Asking costs the mesh nothing, and sees the last that was committed.

        with Index.opened(path) as index:
            for found in index.workflows(Search(failed=True, limit=10)):
                print(found.correlation_id, found.failed_agent)

    One thread at a time may ask. Whatever is wrong with it raises `IndexFileError`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._contents = Contents(database)

    @classmethod
    def opened(cls, place: Place) -> Self:
        """Open an index that somebody else may be writing: a file's path, or the address of a database.

        Raises `NoIndexError` where there is none.
        """
        return cls(opened(place, writes=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    # -- who works on what --------------------------------------------------

    def agents(self) -> list[AgentSeen]:
        """Return the last heartbeat of every worker that was seen."""
        statement = "SELECT seen FROM workers WHERE seen IS NOT NULL ORDER BY name"
        return [worker_in(seen) for (seen,) in self._database.rows(statement)]

    def _mesh(self, at_us: int | None) -> Subscriptions:
        return subscriptions(self.agents(), now_us=now_us() if at_us is None else at_us)

    # -- what became of it, and how long it took ----------------------------

    def workflow(self, correlation_id: str, *, at_us: int | None = None) -> Workflow | None:
        """Return one workflow, stitched; None where nothing was read of it. *at_us* decides who is live: now."""
        return next(self.stitched([key_of(correlation_id)], at_us=at_us), None)

    def outlooks(self, keys: Sequence[bytes]) -> dict[bytes, Outlook | None]:
        """Return how the workflows of *keys* stand, without stitching: see `outlook`."""
        return outlooks(self._database, keys)

    def stitched(self, keys: Iterable[bytes], *, at_us: int | None = None) -> Iterator[Workflow]:
        """Yield the workflows of *keys*, stitched, of which anything was read."""
        mesh = self._mesh(at_us)
        for key in keys:
            events, deliveries = self._contents.events(key), self._contents.deliveries(key)
            if events or deliveries:
                times = [*(event.envelope.time_us for event in events), *(one.started_us for one in deliveries)]
                known = self._gaps(min(times) // HOUR_US, max(times) // HOUR_US)
                yield weave(id_of(key), events, deliveries, mesh, known=known)

    def _gaps(self, first: int, last: int) -> Gaps:
        statement = (
            "SELECT c.name, e.name, min(least_us) FROM clocks JOIN names c ON c.no = cause JOIN names e ON e.no = effect "
            "WHERE hour BETWEEN ? AND ? GROUP BY c.name, e.name"
        )
        return {(cause, effect): gap for cause, effect, gap in self._database.rows(statement, (first, last))}

    def clocks(self) -> list[Clock]:
        """Return the clocks that were off in the last two hours of which something was read."""
        [(last,)] = self._database.rows("SELECT max(hour) FROM clocks")
        return [] if last is None else [Clock(*one) for one in ahead(self._gaps(last - 1, last)).items()]

    def workflows(self, wanted: Search, *, at_us: int | None = None) -> Iterator[Listed]:
        """Yield the workflows that are *wanted*, as they stood when the tracer last wrote."""
        self._contents.refresh()
        return search(self._database, self._contents, wanted, self._mesh(at_us).live)

    def versions(self, agent: str | None = None) -> list[str]:
        """Return the versions of *agent*, or of every agent, that handled anything: those that a search can be for."""
        statement = "SELECT DISTINCT d.version, d.agent FROM deliveries d"
        found = {version for version, of in self._database.rows(statement) if agent in (None, self._contents.name(of))}
        return sorted(map(self._contents.name, found))

    def find(self, beginning: str) -> list[Candidate]:
        """Return the workflows whose id begins so; where there is none, those that have an event whose id does."""
        found = {key for low, high in ranges(beginning) for key in self._keys("workflow", low, high)}
        if not found:
            # The time in a caused event's id is its workflow's, so it is looked for there first.
            near = ranges(beginning[:_DIGITS])[0] if len(beginning) > _DIGITS else None
            for low, high in ranges(beginning):
                found |= {*self._owners(low, high, near)} or {*self._owners(low, high, None)}
        return sorted((self._candidate(key) for key in found), key=lambda one: (one.time_us, one.correlation_id))

    def _keys(self, column: str, low: bytes, high: bytes) -> Iterator[bytes]:
        for table in ("workflows", "touched"):
            statement = f"SELECT {column} FROM {table} WHERE {column} >= ? AND {column} < ?"  # noqa: S608 - what comes from outside is bound
            yield from (row[0] for row in self._database.rows(statement, (low, high)))

    def _owners(self, low: bytes, high: bytes, near: tuple[bytes, bytes] | None) -> Iterator[bytes]:
        statement, values = "SELECT DISTINCT workflow FROM events WHERE id >= ? AND id < ?", [low, high]
        if near is not None:
            statement += " AND workflow >= ? AND workflow < ?"
            values += near
        yield from (row[0] for row in self._database.rows(statement, values))

    def _candidate(self, key: bytes) -> Candidate:
        found = [*self._database.rows("SELECT type, begun_us FROM workflows WHERE workflow = ?", (key,))]
        type, begun_us = found[0] if found else (None, 0)
        return Candidate(id_of(key), type or "", begun_us)

    def durations(self, *, since_us: int | None = None) -> list[Durations]:
        """Return how long workflows took that ended well or ill, by type, the slowest first. Of the newest 100,000; replays left out."""
        ended = f"owing = '[]' AND type IS NOT NULL AND begun_us >= ? AND {NO_REPLAY}"
        statement = f"SELECT type, last_us - begun_us FROM workflows WHERE {ended} ORDER BY begun_us DESC LIMIT ?"  # noqa: S608 - what comes from outside is bound
        by_type: dict[str, list[int]] = {}
        for type, took_us in self._database.rows(statement, (since_us or 0, _SAMPLE)):
            by_type.setdefault(type, []).append(took_us)
        found = list[Durations]()
        for type, some in by_type.items():
            took = sorted(map(float, some))
            found.append(Durations(type, len(took), *(quantile(took, share) for share in (0.5, 0.95, 0.99))))
        return sorted(found, key=lambda one: (-one.p95_us, one.type))

    def states(self, *, at_us: int | None = None, replays: bool = False) -> dict[str, int]:
        """Return how many workflows are in which state; those of live replays only where *replays* are asked for."""
        live = self._mesh(at_us).live
        production = "true" if replays else NO_REPLAY
        closed = f"SELECT state, count(*) FROM workflows WHERE state NOT IN (?, ?) AND {production} GROUP BY state"  # noqa: S608 - what comes from outside is bound
        counts = {state: int(count) for state, count in self._database.rows(closed, sorted(STALLS))}
        wanted = Search(states=[*STALLS, State.STALLED], replays=replays)
        for listed in search(self._database, self._contents, wanted, live):
            counts[listed.state.value] = counts.get(listed.state.value, 0) + 1
        return counts

    # -- what it cost, and how sure agents are ------------------------------

    def cost(self, by: By, *, since_us: int | None = None, replays: bool = False) -> list[Spending]:
        """Return what model calls cost, each counted once, the dearest first; days in their order.

        Those of live replays only where *replays* are asked for.
        """
        self._contents.refresh()
        return spending(self._database, self._contents.names, by, since_us=since_us, replays=replays)

    def confidence(self, *, threshold: float, since_us: int | None = None, replays: bool = False) -> list[Confidence]:
        """Return how sure each version of each agent was, and whether that falls; in live replays too where *replays* are asked for."""
        self._contents.refresh()
        names = self._contents.names
        statement = "SELECT agent, version, started_us, confidence FROM deliveries WHERE confidence IS NOT NULL AND started_us >= ?"
        if not replays:
            statement += f" AND {NO_REPLAY}"
        answers = [
            Sure(names[agent], names[version], time_us, confidence)
            for agent, version, time_us, confidence in self._database.rows(statement, (since_us or 0,))
        ]
        return confidences(answers, threshold=threshold)

    # -- itself -------------------------------------------------------------

    def extent(self) -> Extent:
        """Return what it holds, and how far it has come. Counts, so it takes a while where there is much."""
        as_of, behind = self.note(AS_OF), self.note(BEHIND)
        return Extent(
            workflows=self._count("workflows"),
            events=self._count("events"),
            deliveries=self._count("deliveries"),
            left=self._count("touched"),
            bytes=self._database.size(),
            as_of_us=None if as_of is None else int(as_of),
            behind=None if behind is None else int(behind),
            cluster=self.note(CLUSTER),
        )

    def _count(self, table: str) -> int:
        [(count,)] = self._database.rows(f"SELECT count(*) FROM {table}")  # noqa: S608 - what comes from outside is bound
        return int(count)

    def note(self, name: str) -> str | None:
        """Return what a tracer noted under *name*."""
        found = [*self._database.rows("SELECT value FROM notes WHERE name = ?", (name,))]
        return found[0][0] if found else None
