"""What the mesh says of itself: which agents were seen, and what they hear and say."""

from __future__ import annotations

from typing import TypeVar

from antiphon.tracing.subscriptions import is_live

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import AGENTS, Names
from antiphon.bus.port import Bus
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import now_us
from antiphon.schemas.errors import SchemaError, UnknownSchemaError
from antiphon.schemas.event import Event

E = TypeVar("E", bound=Event)


async def heartbeats(bus: Bus, names: Names, codec: Codec) -> list[AgentSeen]:
    """Return the last heartbeat of every worker that the topic still holds. Joins no group, moves no offset."""
    bounds = await bus.bounds([names.topic(AGENTS)])
    if not bounds:
        return []
    latest: dict[bytes | None, AgentSeen] = {}
    stop = {tp: end for tp, (_, end) in bounds.items()}
    async for record in bus.read({tp: first for tp, (first, _) in bounds.items()}, stop):
        if record.value is None:
            latest.pop(record.key, None)
            continue
        try:
            latest[record.key] = await decoded(codec, AgentSeen, record.value)
        except SchemaError:
            continue  # somebody else's record; a heartbeat that cannot be read tells nothing
    return [*latest.values()]


async def decoded(codec: Codec, event_class: type[E], value: bytes) -> E:
    """Decode *value*, learning its writer's schema where that is not known yet."""
    try:
        return codec.decode(event_class, value)
    except UnknownSchemaError as error:
        await codec.learn(error.reference)
        return codec.decode(event_class, value)


def is_up(seen: AgentSeen) -> bool:
    """Say whether the worker still runs, as far as its heartbeats tell."""
    return is_live(seen, now_us=now_us())
