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
from antiphon.tracing.delivered import DONE, SET_ASIDE, Delivered
from antiphon.tracing.document import total
from antiphon.tracing.index.database import Row
from antiphon.tracing.index.keys import key_of
from antiphon.tracing.index.rows import FAILS
from antiphon.tracing.seen import UNDO_REQUESTED, SeenEvent
from antiphon.tracing.state import State
from antiphon.tracing.workflow import Workflow, weave

_CAUSES = '{"causes":'
"""How what few envelopes have begins, where several events led to one."""


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
    """What is known of one workflow from its rows, in whatever order and however often each is told."""

    __slots__ = ("agents", "begun_us", "calls", "events", "fails", "handled", "last_us", "named", "twice")

    def __init__(self) -> None:
        self.events: dict[bytes, tuple[int, int, int, int]] = {}
        """Event to source, partition, offset and type."""
        self.twice = False
        """An event stands at several places."""
        self.fails = False
        """An agent said that what it emitted fails the workflow."""
        self.named: set[bytes] = set()
        self.handled: set[tuple[bytes, int, int]] = set()
        """Event, agent and outcome."""
        self.agents: set[int] = set()
        self.calls: dict[Row, tuple[float, str]] = {}
        self.begun_us = 1 << 62
        self.last_us = 0

    def see_event(self, row: Row) -> None:
        """Take a row of `events`."""
        _, source, part, place, id, type, _, time_us, parent, _, more = row
        at = (source, part, place, type)
        if self.events.setdefault(id, at) != at:
            self.twice = True
        if parent is not None:
            self.named.add(parent)
        if more is not None and more.startswith(_CAUSES):
            self.named.update(map(key_of, orjson.loads(more)["causes"]))
        self.begun_us = min(self.begun_us, time_us)
        self.last_us = max(self.last_us, time_us)

    def see_delivery(self, row: Row) -> None:
        """Take a row of `deliveries`."""
        event, agent, end_us, emitted = row[5], row[7], row[12] + row[13], row[16]
        self.handled.add((event, agent, row[11]))
        self.agents.add(agent)
        if emitted is not None:
            for id, _, marks in orjson.loads(emitted):
                self.named.add(key_of(id))
                if marks & FAILS:
                    self.fails = True
        self.last_us = max(self.last_us, end_us)

    def see_call(self, row: Row) -> None:
        """Take a row of `calls`."""
        self.calls[row[:6]] = row[12], row[13]


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

    def standing(self, workflow: bytes, facts: Facts) -> Row:
        """Return the row of *workflow*, of which *facts* are all."""
        found = self._plain(workflow, facts)
        if found is None:
            id, seen, delivered = self._contents(workflow)
            found = _of_stitched(weave(id, seen, delivered, self._mesh))
        return (workflow, *found)

    def _plain(self, workflow: bytes, facts: Facts) -> tuple[Any, ...] | None:
        events = facts.events
        if facts.twice or facts.fails or workflow not in events or not facts.named <= events.keys():
            return None
        settled = set[tuple[bytes, int]]()
        for event, agent, outcome in facts.handled:
            if event not in events or outcome in self._set_aside:
                return None
            if outcome in self._done:
                settled.add((event, agent))
        owing = set[int]()
        hearers = self._hearers
        for id, (source, _, _, type) in events.items():
            agents = hearers.get((type, source))
            if agents is None:
                if type in self._odd:
                    return None
                agents = hearers[type, source] = self._who_hears(type, source)
            for agent in agents:
                if (id, agent) not in settled:
                    owing.add(agent)
        return (
            _RUNNING if owing else _COMPLETED,
            self._names[events[workflow][3]],
            facts.begun_us,
            facts.last_us,
            len(events),
            self._listed(facts.agents),
            None,
            self._listed(owing),
            0,
            _cost(facts.calls.values()),
        )

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
    begun_us, last_us = workflow.span()
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


def _cost(calls: Iterable[tuple[float, str]]) -> str:
    spent = [Spent(model="", cost=cost, currency=currency) for cost, currency in calls]
    return orjson.dumps(total(spent)).decode() if spent else _NOTHING


_RUNNING, _COMPLETED = State.RUNNING.value, State.COMPLETED.value
_NOBODY = "[]"
_NOTHING = orjson.dumps(total(())).decode()
