"""The agents of the mesh as their heartbeats tell: who hears what, and what can be undone.

Read beside the coordinator's own events, whole, whatever its partitions: an
agent that joins is known without anybody being deployed again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.names import AGENTS, Names
from antiphon.bus.port import Bus
from antiphon.bus.record import Record
from antiphon.bus.subscriptions import Subscriptions, is_live, subscriptions
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import RegistryError, SchemaError, UnknownSchemaError

log = logging.getLogger(__name__)

PATIENCE_US = 600_000_000
"""An agent of which there was no sign of life for longer is waited for no more; what it does when it is back comes late."""

_RECKON_US = 5_000_000


class Roster:
    """Follows `antiphon.agents`."""

    def __init__(self, *, clock_us: Callable[[], int]) -> None:
        self._clock_us = clock_us
        self._seen: dict[bytes | None, AgentSeen] = {}
        self._known: Subscriptions | None = None
        self._reckoned_us = 0
        self._read = asyncio.Event()

    async def subscriptions(self) -> Subscriptions:
        """Return what is known now; waits until all that was there at the start is read."""
        await self._read.wait()
        now_us = self._clock_us()
        # A sign of life changes nothing but who is still there; that may wait a little.
        if self._known is None or not 0 <= now_us - self._reckoned_us < _RECKON_US:
            waited_for = [
                seen
                for seen in self._seen.values()
                if is_live(seen, now_us=now_us) or now_us - seen.time_us < PATIENCE_US
            ]
            self._known, self._reckoned_us = subscriptions(waited_for, now_us=now_us), now_us
        return self._known

    async def follow(self, bus: Bus, names: Names, codec: Codec) -> None:
        """Read on until cancelled."""
        bounds = await bus.bounds([names.topic(AGENTS)])
        ends = {place: end for place, (_, end) in bounds.items()}
        start = {place: first for place, (first, _) in bounds.items()}
        async for record in bus.read(start, {place: ends[place] for place in start}):
            await self._see(record, codec)
        self._read.set()
        async for record in bus.read(ends):
            await self._see(record, codec)

    async def _see(self, record: Record, codec: Codec) -> None:
        before = self._seen.pop(record.key, None)
        seen = None if record.value is None else await _decoded(record, codec)
        if seen is not None:
            self._seen[record.key] = seen
        if before is None or seen is None or _says(before) != _says(seen):
            self._known = None


def _says(seen: AgentSeen) -> tuple[object, ...]:
    return (seen.stopped, seen.hears, seen.emits, seen.undoes)


async def _decoded(record: Record, codec: Codec) -> AgentSeen | None:
    value = record.value or b""
    try:
        try:
            return codec.decode(AgentSeen, value)
        except UnknownSchemaError as error:
            await codec.learn(error.reference)
            return codec.decode(AgentSeen, value)
    except RegistryError:
        raise
    except SchemaError as error:
        log.warning("a heartbeat could not be read", extra={"offset": record.offset, "reason": str(error)})
        return None
