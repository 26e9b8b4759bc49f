"""Finding what is odd about a workflow's events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from antiphon.bus.subscriptions import Subscriptions
from antiphon.schemas.envelope import format_time
from antiphon.tracing.delivered import Delivered
from antiphon.tracing.graph import Graph
from antiphon.tracing.seen import AGENT_SOURCE, SeenEvent
from antiphon.tracing.warning import Kind, TraceWarning


def oddities(
    events: Mapping[str, SeenEvent],
    graph: Graph,
    deliveries: Sequence[Delivered],
    mesh: Subscriptions,
    *,
    ghosts: Mapping[str, str],
) -> Iterator[TraceWarning]:
    """Yield everything odd, event by event in causal order, then what only activity knows of."""
    versions = {emitted.id: delivery.version for delivery in deliveries for emitted in delivery.emitted}
    for id in graph.order:
        event = events[id]
        yield from _about_causes(event, events, graph)
        yield from _about_itself(event)
        yield from _about_declaration(event, mesh, versions.get(id))
    yield from _about_deliveries(events, deliveries)
    named = {id for gone in graph.missing.values() for id in gone}
    for id in sorted(ghosts.keys() - named):
        yield TraceWarning(
            Kind.MISSING_EVENT, id, f"activity names {ghosts[id]} {id}, but no topic holds it; it may have expired"
        )


def _about_causes(event: SeenEvent, events: Mapping[str, SeenEvent], graph: Graph) -> Iterator[TraceWarning]:
    type = event.envelope.type
    for gone in graph.missing.get(event.id, ()):
        yield TraceWarning(Kind.MISSING_PARENT, event.id, f"{type} was caused by {gone}, which was not seen")
    if event.id in graph.cut:
        yield TraceWarning(Kind.CYCLE, event.id, f"the causes of {type} lead back to itself; it is shown as a root")
    for cause in graph.parents[event.id]:
        early_us = events[cause].envelope.time_us - event.envelope.time_us
        if early_us > 0:
            yield TraceWarning(
                Kind.CLOCK_SKEW,
                event.id,
                f"{type} from {event.envelope.source} is {early_us / 1_000:.3f} ms earlier than its cause "
                f"{events[cause].envelope.type} from {events[cause].envelope.source}: their clocks differ",
            )


def _about_deliveries(events: Mapping[str, SeenEvent], deliveries: Sequence[Delivered]) -> Iterator[TraceWarning]:
    """Yield where an agent began with an event before it was made, unless what it then said tells of that."""
    for delivery in deliveries:
        event = events.get(delivery.event_id)
        if event is None:
            continue
        made_us = event.envelope.time_us
        said = (events[emitted.id] for emitted in delivery.emitted if emitted.id in events)
        if delivery.started_us < made_us and not any(one.envelope.time_us < made_us for one in said):
            yield TraceWarning(
                Kind.CLOCK_SKEW,
                event.id,
                f"{delivery.agent} on {delivery.instance} began with {event.envelope.type} "
                f"{(made_us - delivery.started_us) / 1_000:.3f} ms before {event.envelope.source} made it: their clocks differ",
            )


def _about_itself(event: SeenEvent) -> Iterator[TraceWarning]:
    type, deadline_us = event.envelope.type, event.envelope.deadline_us
    if deadline_us is not None and event.envelope.time_us > deadline_us:
        late_ms = (event.envelope.time_us - deadline_us) / 1_000
        yield TraceWarning(
            Kind.LATE, event.id, f"{type} was made {late_ms:.3f} ms after its deadline, {format_time(deadline_us)}"
        )
    if event.problem is not None:
        yield TraceWarning(Kind.UNDECODABLE, event.id, f"the data of {type} could not be read: {event.problem}")


def _about_declaration(event: SeenEvent, mesh: Subscriptions, version: str | None) -> Iterator[TraceWarning]:
    source = event.envelope.source
    if not source.startswith(AGENT_SOURCE) or event.is_undo_request:
        return
    agent = source.removeprefix(AGENT_SOURCE)
    declared = mesh.declared(agent, version)
    if declared is not None and event.envelope.type not in declared:
        yield TraceWarning(
            Kind.UNDECLARED_EVENT,
            event.id,
            f"{agent} emitted {event.envelope.type}, but declares {', '.join(sorted(declared))}",
        )


def conflicts(sightings: Mapping[str, Sequence[SeenEvent]]) -> Iterator[TraceWarning]:
    """Yield the ids under which different events were seen. Sightings come first one first."""
    for id, seen in sightings.items():
        first = seen[0].content() if len(seen) > 1 else None
        other = next((event for event in seen[1:] if event.content() != first), None)
        if other is not None:
            yield TraceWarning(
                Kind.ID_CONFLICT,
                id,
                f"{_place(other)} holds another event of this id; the one at {_place(seen[0])} is shown",
            )


def _place(event: SeenEvent) -> str:
    return f"{event.topic}[{event.partition}]@{event.offset}"
