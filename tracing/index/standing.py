"""How a workflow stands, from its rows: what a list shows of it.

Most workflows are plain: nothing failed, nothing is undone, all that is named
was seen. What is to be said of those follows from a few facts that are gathered
while rows are written. All others are stitched, as `antiphon trace` does it; the
two agree where both may be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from antiphon.bus.activity import Spent
from antiphon.bus.subscriptions import Subscriptions
from antiphon.tracing.clocks import TOLERANCE_US, producer_of
from antiphon.tracing.delivered import DONE, SET_ASIDE, Delivered
from antiphon.tracing.document import total
from antiphon.tracing.index.database import Row
from antiphon.tracing.index.emitted import FAILS, KEY, MARKS, UUIDS, emitted_in
from antiphon.tracing.index.keys import key_of
from antiphon.tracing.index.rows import HOUR_US
from antiphon.tracing.seen import AGENT_SOURCE, UNDO_REQUESTED, SeenEvent
from antiphon.tracing.state import State
from antiphon.tracing.workflow import Workflow, weave

_CAUSES = '{"causes":'
"""How what few envelopes have begins, where several events led to one."""


_ONE_IN = 8
_QUEUE = 10
"""Where a row of `deliveries` has from when to when its event waited."""


class Standing(NamedTuple):
    """A row of `workflows`, but for the workflow's id."""

    state: str
    """As if somebody were live to do what is outstanding: whether there is, changes while nothing is read."""
    type: str | None
    begun_us: int
    last_us: int
    events: int
    agents: str
    """JSON: the agents that handled anything, sorted."""
    failed_agent: str | None
    owing: str
    """JSON: the agents that owe something, sorted."""
    lacking: int
    """1 where something is named that was not seen."""
    cost: str
    """JSON: `cost` of the workflow document."""


class Facts:
    """The rows of one workflow, in whatever order and however often each was told."""

    __slots__ = ("calls", "deliveries", "events")

    def __init__(self) -> None:
        self.events: list[Row] = []
        self.deliveries: list[Row] = []
        self.calls: list[Row] | None = None
        """None: none. Few workflows have any."""

    def see_event(self, row: Row) -> None:
        """Take a row of `events`."""
        self.events.append(row)

    def see_delivery(self, row: Row) -> None:
        """Take a row of `deliveries`."""
        self.deliveries.append(row)

    def see_call(self, row: Row) -> None:
        """Take a row of `calls`."""
        if self.calls is None:
            self.calls = []
        self.calls.append(row)


class Judge:
    """Says how workflows stand, as the mesh is by its heartbeats."""

    def __init__(
        self,
        mesh: Subscriptions,
        numbers: Mapping[str, int],
        names: Mapping[int, str],
        topics: Mapping[int, str],
        *,
        contents: Callable[[bytes], tuple[str, list[SeenEvent], list[Delivered]]],
    ) -> None:
        """*topics*: by source. *contents* reads all of a workflow, for one that is not plain."""
        self._mesh = mesh
        self._numbers = numbers
        self._names = names
        self._topics = topics
        self._contents = contents
        self._done = frozenset(numbers[outcome] for outcome in DONE if outcome in numbers)
        self._set_aside = frozenset(numbers[outcome] for outcome in SET_ASIDE if outcome in numbers)
        self._odd = frozenset(number for name, number in numbers.items() if mesh.fails(name) or name == UNDO_REQUESTED)
        self._hearers: dict[tuple[int, int], tuple[int, ...]] = {}
        self._lists: dict[frozenset[int], str] = {}
        self._workers: dict[tuple[int, int], str] = {}
        self._gaps: dict[tuple[str, str, int], int] = {}

    def standing(self, workflow: bytes, facts: Facts) -> Row:
        """Return the row of *workflow*, of which *facts* are all."""
        found = self._plain(workflow, facts)
        # By what can only come to be so: what is noted must not depend on when it was looked at.
        if workflow[-1] % _ONE_IN == 0 or [row for row in facts.deliveries if row[_QUEUE] < 0]:
            self._compare(facts)
        if found is None:
            id, seen, delivered = self._contents(workflow)
            found = _of_stitched(weave(id, seen, delivered, self._mesh))
        return (workflow, *found)

    def _plain(self, workflow: bytes, facts: Facts) -> tuple[Any, ...] | None:
        """Return how it stands where that follows from the rows alone; None where it has to be stitched."""
        events: dict[bytes, Row] = {}
        named: set[bytes] = set()
        owed: set[tuple[bytes, int]] = set()
        if not (self._saw(facts.events, events, named, owed) and workflow in events):
            return None
        if not self._heard(facts.deliveries, events, named, owed) or not named <= events.keys():
            return None
        times = [row[7] for row in facts.events]
        begun_us, last_us = min(times), max(times)
        for row in facts.events:
            parent = row[8]
            if parent is not None and row[7] < events[parent][7] - TOLERANCE_US:
                return None
        agents: set[int] = set()
        for row in facts.deliveries:
            agents.add(row[2])
            if row[3] + row[9] > last_us:  # noqa: PLR1730 - a call for each delivery costs more
                last_us = row[3] + row[9]
        return (
            _RUNNING if owed else _COMPLETED,
            self._names[events[workflow][5]],
            begun_us,
            last_us,
            len(events),
            self._listed(agents),
            None,
            self._listed({agent for _, agent in owed}),
            0,
            _NOTHING if facts.calls is None else _cost(facts.calls),
        )

    def _saw(
        self, rows: Iterable[Row], events: dict[bytes, Row], named: set[bytes], owed: set[tuple[bytes, int]]
    ) -> bool:
        hearers = self._hearers
        for row in rows:
            _, source, _, _, id, type, _, _, parent, _, more = row
            # One that stands at another place too is looked at more closely.
            if id in events and events[id] != row:
                return False
            events[id] = row
            if parent is not None:
                named.add(parent)
            if more is not None and more.startswith(_CAUSES):
                named.update(map(key_of, orjson.loads(more)["causes"]))
            who = hearers.get((type, source))
            if who is None:
                if type in self._odd:
                    return False
                who = hearers[type, source] = self._who_hears(type, source)
            for agent in who:
                owed.add((id, agent))
        return True

    def _heard(
        self, rows: Iterable[Row], events: Mapping[bytes, Row], named: set[bytes], owed: set[tuple[bytes, int]]
    ) -> bool:
        done, set_aside = self._done, self._set_aside
        for _, event, agent, _, _, _, _, _, outcome, _, queue_us, _, emitted, _ in rows:
            if event not in events or outcome in set_aside or queue_us < -TOLERANCE_US:
                return False
            if outcome in done:
                owed.discard((event, agent))
            if emitted is None:
                continue
            if len(emitted) == UUIDS:
                if emitted[MARKS] & FAILS:
                    return False
                named.add(emitted[KEY:])
                continue
            for id, _, marks in emitted_in(emitted):
                if marks & FAILS:
                    return False
                named.add(id)
        return True

    def _compare(self, facts: Facts) -> None:
        """Note by how much deliveries began after their events were made, by the clocks of whoever made and handled them."""
        makers: dict[bytes, set[str]] = {}
        for row in facts.events:
            source = self._names[row[6]]
            # Which of an agent's workers it was says its activity.
            makers[row[4]] = set() if source.startswith(AGENT_SOURCE) else {source}
        for row in facts.deliveries:
            for id, _, _ in emitted_in(row[12] or b""):
                if id in makers:
                    makers[id].add(self._worker(row))
        for row in facts.deliveries:
            effect = self._worker(row)
            for cause in makers.get(row[1], ()):
                if cause != effect:
                    at = (cause, effect, row[3] // HOUR_US)
                    self._gaps[at] = min(row[_QUEUE], self._gaps.get(at, row[_QUEUE]))

    def _worker(self, row: Row) -> str:
        at = (row[2], row[4])
        if at not in self._workers:
            self._workers[at] = producer_of(self._names[at[0]], self._names[at[1]])
        return self._workers[at]

    def gaps(self) -> dict[tuple[str, str, int], int]:
        """Return the least gaps between causes' and effects' producers in the workflows that were judged, by hour.

        Of one workflow in so many, by its id, and of all in which a delivery began before its event: enough to tell clocks apart.
        """
        return self._gaps

    def _who_hears(self, type: int, source: int) -> tuple[int, ...]:
        return tuple(self._numbers[agent] for agent in self._mesh.hearers(self._names[type], self._topics[source]))

    def _listed(self, agents: Collection[int]) -> str:
        if not agents:
            return _NOBODY
        some = frozenset(agents)
        if some not in self._lists:
            self._lists[some] = orjson.dumps(sorted(self._names[agent] for agent in some)).decode()
        return self._lists[some]


def _of_stitched(workflow: Workflow) -> Standing:
    state = workflow.state
    if state is State.STALLED:
        # Of what it is then: whoever is live now may not be when somebody asks.
        state = State.COMPENSATING if workflow.undoing else State.RUNNING
    begun_us, last_us = workflow.extent
    return Standing(
        state.value,
        workflow.type,
        begun_us or 0,
        last_us or 0,
        len(workflow.events),
        orjson.dumps(sorted({delivery.agent for delivery in workflow.deliveries})).decode(),
        workflow.failed_agent,
        orjson.dumps(sorted({agent for _, agent in workflow.outstanding})).decode(),
        int(bool(workflow.missing)),
        orjson.dumps(total(spent for delivery in workflow.deliveries for spent in delivery.usage)).decode(),
    )


def _cost(calls: Iterable[Row]) -> str:
    once = {row[1:7]: row for row in calls}
    return orjson.dumps(total(Spent(model="", cost=row[11], currency=row[12]) for row in once.values())).decode()


_RUNNING, _COMPLETED = State.RUNNING.value, State.COMPLETED.value
_NOBODY = "[]"
_NOTHING = orjson.dumps(total(())).decode()
