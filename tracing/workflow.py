"""Stitching: from events and activity, in any order and however often, to one workflow.

`stitch` is a pure function. What it makes of a set of records depends on the
set alone: not on the order in which they came, nor on how often each came.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from antiphon.bus.activity import Activity
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.subscriptions import Subscriptions, subscriptions
from antiphon.schemas.envelope import format_time
from antiphon.tracing.clocks import NO_GAPS, Clock, Gaps, righted
from antiphon.tracing.critical_path import critical_path, undo_events
from antiphon.tracing.delivered import DONE, SET_ASIDE, Delivered, deliveries_of
from antiphon.tracing.document import delivery_item, event_item, milliseconds, total
from antiphon.tracing.graph import Graph, arrange
from antiphon.tracing.obligations import Outstanding, obligations
from antiphon.tracing.oddities import conflicts, oddities
from antiphon.tracing.seen import AGENT_SOURCE, SeenEvent
from antiphon.tracing.state import Facts, State, decide
from antiphon.tracing.warning import TraceWarning


@dataclasses.dataclass(frozen=True, kw_only=True)
class Workflow:
    """All that is known of one workflow."""

    correlation_id: str
    state: State
    events: tuple[SeenEvent, ...]
    """In causal order: parents before children, otherwise by time, then id."""
    deliveries: tuple[Delivered, ...]
    """By start, agent and attempt."""
    outstanding: tuple[Outstanding, ...]
    failures: tuple[str, ...]
    """Ids of the events that failed it: by their type, or because an agent set them aside."""
    failing_types: frozenset[str]
    """The types among `events` that fail a workflow."""
    undoing: bool
    """Undos were asked for, or will be."""
    critical_path: tuple[str, ...]
    warnings: tuple[TraceWarning, ...]
    missing: frozenset[str]
    """Ids that are named and were not seen."""
    clocks: tuple[Clock, ...] = ()
    """Clocks that are off, of those that told times in it. Times are as they were told; what follows from them is not."""
    extent: tuple[int | None, int | None] = (None, None)
    """When the first thing and the last thing seen happened."""

    @property
    def ended(self) -> bool:
        """Nothing is outstanding: unless a person or an outside program adds an event, nothing more will come."""
        return not self.outstanding

    @property
    def settled(self) -> bool:
        """It has ended, or is parked: waiting longer will not change it."""
        return self.ended or self.state is State.PARKED

    @property
    def replay_of(self) -> str | None:
        """The event that a live replay began it with again; None: it is no replay."""
        again = [
            (event.id != self.correlation_id, event.envelope.time_us, event.id, event.envelope.replay_of)
            for event in self.events
            if event.envelope.replay_of is not None
        ]
        return min(again)[-1] if again else None

    @property
    def failed_agent(self) -> str | None:
        """Who failed it first: who set an event aside, or said the one whose type says so; None where nobody did."""
        if not self.failures:
            return None
        first = self.failures[0]
        done = {delivery.pair for delivery in self.deliveries if delivery.outcome in DONE}
        said = next((d.agent for d in self.deliveries if any(e.id == first for e in d.emitted)), None)
        aside = next(
            (d.agent for d in self.deliveries if d.event_id == first and d.outcome in SET_ASIDE and d.pair not in done),
            None,
        )
        event = next((event for event in self.events if event.id == first), None)
        fails = event is not None and event.envelope.type in self.failing_types
        if event is not None and said is None and event.envelope.source.startswith(AGENT_SOURCE):
            said = event.envelope.source.removeprefix(AGENT_SOURCE)
        return said if fails or aside is None else aside

    def document(self) -> dict[str, Any]:
        """Return the workflow document, its keys in the promised order."""
        begun_us, last_us = self.extent
        return {
            "correlation_id": self.correlation_id,
            "type": self.type,
            "state": self.state.value,
            "started": _time(begun_us),
            "ended": _time(last_us) if self.ended else None,
            "duration_ms": milliseconds(0 if begun_us is None or last_us is None else last_us - begun_us),
            "events": [event_item(event, fails=event.envelope.type in self.failing_types) for event in self.events],
            "deliveries": [delivery_item(delivery) for delivery in self.deliveries],
            "outstanding": [pair._asdict() for pair in self.outstanding],
            "critical_path": [*self.critical_path],
            "cost": total(spent for delivery in self.deliveries for spent in delivery.usage),
            "warnings": [
                {"kind": warning.kind.value, "event_id": warning.event_id, "message": warning.message}
                for warning in self.warnings
            ],
            "clocks": [{"producer": clock.producer, "ahead_ms": milliseconds(clock.ahead_us)} for clock in self.clocks],
            "replay_of": self.replay_of,
        }

    @property
    def type(self) -> str | None:
        """Return the type of the root; of the first thing known where no root was seen."""
        root = next((event for event in self.events if event.id == self.correlation_id), None)
        roots = (event for event in self.events if not event.parents)
        first = root or next(roots, None) or next(iter(self.events), None)
        if first is not None:
            return first.envelope.type
        return next((delivery.event_type for delivery in self.deliveries), None)


def stitch(
    events: Iterable[SeenEvent],
    activity: Iterable[Activity],
    agents: Iterable[AgentSeen],
    *,
    now_us: int,
    correlation_id: str | None = None,
) -> Workflow:
    """Stitch one workflow.

    *activity* may tell of other workflows too; events of others are refused
    with `ValueError`. *correlation_id* need be given only where there may be no
    event at all. *now_us* decides which workers are live, and nothing else.
    """
    events = [*events]
    correlation_id = _only([event.envelope.correlation_id for event in events], correlation_id)
    mesh = subscriptions(agents, now_us=now_us)
    return weave(correlation_id, events, deliveries_of(correlation_id, activity), mesh)


def weave(
    correlation_id: str,
    events: Iterable[SeenEvent],
    deliveries: Sequence[Delivered],
    mesh: Subscriptions,
    *,
    known: Gaps = NO_GAPS,
) -> Workflow:
    """Stitch one workflow of which *events* and *deliveries* are all, each delivery once and in the order of `rank`.

    *known*: what else is known of how its producers' clocks differ.
    """
    sightings = _sightings(events)
    told = {id: places[0] for id, places in sightings.items()}
    graph = arrange(told)
    clocks, seen, handled = righted(told, graph.parents, deliveries, known)
    if clocks:
        graph = arrange(seen)
    ordered = [seen[id] for id in graph.order]
    ghosts = _ghosts(seen, deliveries)
    undone = undo_events(graph, seen)
    due = obligations(ordered, handled, mesh, ghosts=ghosts, undo_events=undone)
    missing = frozenset(ghosts).union(*graph.missing.values())
    facts = Facts(
        outstanding=bool(due.outstanding),
        unattended=any(agent not in mesh.live for _, agent in due.outstanding),
        failed=bool(due.failures),
        undoing=due.undoing,
        parked=due.parked,
        missing=bool(missing),
    )
    return Workflow(
        correlation_id=correlation_id,
        state=decide(facts),
        events=tuple(told[id] for id in graph.order),
        deliveries=tuple(deliveries),
        outstanding=due.outstanding,
        failures=due.failures,
        undoing=due.undoing,
        failing_types=_failing_types(ordered, deliveries, mesh.fails),
        critical_path=critical_path(seen, graph, handled, leaving_out=undone),
        warnings=_by_event(graph, [*conflicts(sightings), *oddities(told, graph, deliveries, mesh, ghosts=ghosts)]),
        missing=missing,
        clocks=clocks,
        extent=_extent(ordered, handled),
    )


def _extent(events: Sequence[SeenEvent], deliveries: Sequence[Delivered]) -> tuple[int | None, int | None]:
    times = [event.envelope.time_us for event in events]
    begun = [*times, *(delivery.started_us for delivery in deliveries if not times)]
    ended = [*times, *(delivery.ended_us for delivery in deliveries)]
    return min(begun, default=None), max(ended, default=None)


def _only(found: Sequence[str], given: str | None) -> str:
    ids = {*found} if given is None else {*found, given}
    if len(ids) != 1:
        message = (
            f"expected events of one workflow, got {len(ids)} correlation ids: {', '.join(sorted(ids)[:3]) or 'none'}"
        )
        raise ValueError(message)
    return ids.pop()


def _sightings(events: Iterable[SeenEvent]) -> dict[str, list[SeenEvent]]:
    """Group what was seen by id, the first place first."""
    sightings: defaultdict[str, list[SeenEvent]] = defaultdict(list)
    for event in events:
        sightings[event.id].append(event)
    for several in (seen for seen in sightings.values() if len(seen) > 1):
        several.sort(key=lambda event: (event.place, repr(event)))
    return sightings


def _ghosts(seen: Mapping[str, SeenEvent], deliveries: Iterable[Delivered]) -> dict[str, str]:
    """Return the events that only activity knows of, by id, with their types."""
    ghosts: dict[str, str] = {}
    for delivery in deliveries:
        ghosts[delivery.event_id] = delivery.event_type
        ghosts.update((emitted.id, emitted.type) for emitted in delivery.emitted)
    return {id: type for id, type in ghosts.items() if id not in seen}


def _failing_types(
    events: Iterable[SeenEvent], deliveries: Iterable[Delivered], fails: Callable[[str], bool]
) -> frozenset[str]:
    emitted = {emitted.type for delivery in deliveries for emitted in delivery.emitted if emitted.fails}
    types = {event.envelope.type for event in events}
    return frozenset(type for type in types if type in emitted or fails(type))


def _by_event(graph: Graph, warnings: Iterable[TraceWarning]) -> tuple[TraceWarning, ...]:
    place = {id: index for index, id in enumerate(graph.order)}
    last = len(place)
    return tuple(sorted({*warnings}, key=lambda warning: (place.get(warning.event_id, last), warning)))


def _time(us: int | None) -> str | None:
    return None if us is None else format_time(us)
