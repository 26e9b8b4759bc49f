"""What waits for an agent, by what its group has committed: for whom nobody is up to say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.kafka.cluster import ClusterAdministration
from antiphon.bus.offsets import Progress
from antiphon.bus.record import TopicPartition
from antiphon.bus.undo import UndoRequested
from antiphon.cli.cluster import Cluster
from antiphon.tracing.records import between

# So many offsets are looked at one by one: of a few, the ends of transactions would be the greater part.
_COUNTED = 10_000


async def unhandled(
    cluster: Cluster, admin: ClusterAdministration, name: str, workers: Sequence[AgentSeen], *, roughly: bool = False
) -> int:
    """Count the events that the agent's group has not handled; *workers* are all of them that were ever seen.

    The records themselves are read, as offsets may be no events, and of events some may be finished already.
    *roughly*: where more than ten thousand offsets lie behind, those are counted instead. Raises `BusError`.
    """
    names = cluster.names
    topics = {names.topic(part.topic) for seen in workers for part in seen.hears} | {
        names.redrive(name),
        names.undo(name),
    }
    committed = await asyncio.to_thread(admin.committed, names.group(name))
    bounds = await cluster.bus.bounds(topics & cluster.topics.keys())
    places = {
        place: (max(first, committed[place].offset if place in committed else first), end)
        for place, (first, end) in bounds.items()
    }
    offsets = sum(max(end - position, 0) for position, end in places.values())
    if roughly and offsets > _COUNTED:
        return offsets
    types = {part.type for seen in workers for part in seen.hears} | {UndoRequested.__event__.type}
    progress: Mapping[TopicPartition, Progress] = {
        place: Progress.from_committed(committed.get(place)) for place in bounds
    }
    count = 0
    async for record in between(cluster.bus, places):
        said = (dict(record.headers).get("ce_type") or b"").decode(errors="replace")
        left = progress[TopicPartition(record.topic, record.partition)].take(record.offset)
        count += left and said in types
    return count
