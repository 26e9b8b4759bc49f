"""The chain of events that determined when a workflow was done: the one to shorten."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from antiphon.tracing.delivered import Delivered
from antiphon.tracing.graph import Graph
from antiphon.tracing.seen import SeenEvent


def critical_path(
    events: Mapping[str, SeenEvent],
    graph: Graph,
    deliveries: Iterable[Delivered],
    *,
    leaving_out: Collection[str],
) -> tuple[str, ...]:
    """Return the ids, root first, that lead to what ended last.

    An event ends when it was made, or when the last delivery that emitted
    nothing was through with it: what did emit something goes on in what it
    emitted. Of a join's parents, the last to be made is the one it waited for.
    Undoing (*leaving_out*) is no part of it: the path is about the work.
    """
    ends = {id: event.envelope.time_us for id, event in events.items() if id not in leaving_out}
    for delivery in deliveries:
        if not delivery.emitted and delivery.event_id in ends:
            ends[delivery.event_id] = max(ends[delivery.event_id], delivery.ended_us)
    if not ends:
        return ()
    place = {id: index for index, id in enumerate(graph.order)}
    current = max(ends, key=lambda id: (ends[id], place[id]))
    path = [current]
    while parents := [id for id in graph.parents[current] if id in ends]:
        current = max(parents, key=lambda id: (events[id].envelope.time_us, place[id]))
        path.append(current)
    return tuple(reversed(path))


def undo_events(graph: Graph, events: Mapping[str, SeenEvent]) -> frozenset[str]:
    """Return the undo requests, and all that came of them: the coordinator's aftermath, by the coordinator's rule."""
    found: set[str] = set()
    for id in graph.order:
        if events[id].is_undo_request or not found.isdisjoint(graph.parents[id]):
            found.add(id)
    return frozenset(found)
