"""The roll of a mesh: the last heartbeat of every worker, read by whoever belongs to no group."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import TypeVar

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import AGENTS, Names
from antiphon.bus.port import Bus
from antiphon.bus.record import Record, TopicPartition
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import RegistryError, SchemaError, UnknownSchemaError
from antiphon.schemas.event import Event

log = logging.getLogger(__name__)

E = TypeVar("E", bound=Event)


async def read_agents(bus: Bus, names: Names, codec: Codec) -> list[AgentSeen]:
    """Return the last heartbeat of every worker that `antiphon.agents` still holds."""
    latest: dict[bytes | None, AgentSeen] = {}
    places = await bus.bounds([names.topic(AGENTS)])
    async for record in between(bus, places):
        seen = None if record.value is None else await decoded(codec, AgentSeen, record)
        latest.pop(record.key, None)
        if seen is not None:
            latest[record.key] = seen
    return [*latest.values()]


async def between(bus: Bus, places: Mapping[TopicPartition, tuple[int, int]]) -> AsyncIterator[Record]:
    """Yield what stands between the bounds of each place."""
    start = {place: first for place, (first, end) in places.items() if first < end}
    if start:
        async for record in bus.read(start, {place: places[place][1] for place in start}):
            yield record


async def decoded(codec: Codec, event_class: type[E], record: Record) -> E | None:
    """Decode what the mesh wrote about itself; None, and a word in the log, where somebody wrote something else."""
    value = record.value or b""
    try:
        try:
            return codec.decode(event_class, value)
        except UnknownSchemaError as error:
            await codec.learn(error.reference)
            return codec.decode(event_class, value)
    except RegistryError:
        raise
    except SchemaError as error:
        where = {"topic": record.topic, "partition": record.partition, "offset": record.offset, "reason": str(error)}
        log.warning("a record of the mesh's own could not be read", extra=where)
        return None
