"""One event handed to one handler, with no bus: what a unit test needs of the worker."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

from antiphon.bus.claim import LIMIT
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Delivery, Services, State, current
from antiphon.bus.record import Record
from antiphon.bus.state import PartitionState
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.schemas.event import Event, envelope_or_none, key_of

E = TypeVar("E", bound=Event)


class MemoryState:
    """An agent's state in memory. Implements `bus.delivery.State` as a worker does: what a handler changes, `hand` keeps."""

    def __init__(self) -> None:
        self._stored: dict[str, bytes | None] = {}
        self._partition = PartitionState("state", 0, self._stored)
        self._view = self._partition.view()

    @property
    def values(self) -> dict[str, Any]:
        """What is kept, by key."""
        return {key: self._partition.load(key) for key in self._stored}

    def mapping(self, key: str) -> MutableMapping[str, Any]:
        return self._view.mapping(key)

    def changed(self) -> Mapping[str, bytes | None]:
        return self._view.changed()

    def keep(self) -> None:
        """Make the changes last, as when a delivery is committed."""
        self._partition.store(self._view.changed())
        self.drop()

    def drop(self) -> None:
        """Forget the changes, as when a handler raised."""
        self._view = self._partition.view()


class MemoryServices:
    """A worker's services without a worker. Implements `bus.delivery.Services`.

    Values are JSON rather than Avro: nothing has to be published first.
    """

    def __init__(self) -> None:
        self.effects: dict[str, dict[str, Any]] = {}
        """What side effects returned, by event id and name."""
        self.woken_at_us: list[int] = []
        """The times that `Delivery.wake_at` was given."""
        self.state_room = LIMIT

    async def decode(self, event_class: type[E], value: bytes) -> E:
        return event_class.model_validate_json(value)

    async def remember(self, delivery: Delivery, name: str, result: Any) -> None:
        self.effects.setdefault(delivery.envelope.id, {})[name] = result

    def remembered(self, delivery: Delivery) -> dict[str, Any]:
        return self.effects.get(delivery.envelope.id, {})

    def wake_at(self, time_us: int) -> None:
        self.woken_at_us.append(time_us)


def delivery_of(
    event: Event,
    *,
    agent: str = "test",
    version: str = "0",
    attempt: int = 1,
    replaying: bool = False,
    state: State | None = None,
    services: Services | None = None,
) -> Delivery:
    """Make the delivery of *event*. One that has no envelope yet becomes the root of a workflow.

    Give several deliveries the same *state* and *services* for an agent that remembers.
    """
    envelope = envelope_or_none(event)
    if envelope is None:
        envelope = Envelope.root(event.__event__.type, source="/test")
        envelope = dataclasses.replace(envelope, key=key_of(event))
        event = event.sealed(envelope)
    record = Record(
        topic=event.__event__.topic,
        partition=0,
        offset=0,
        key=(envelope.key or envelope.correlation_id).encode(),
        value=event.model_dump_json().encode(),
        headers=[*to_headers(envelope)],
        timestamp_ms=envelope.time_us // 1_000,
    )
    return Delivery(
        record=record,
        event=event,
        envelope=envelope,
        agent=agent,
        version=version,
        attempt=attempt,
        state=state or MemoryState(),
        services=services or MemoryServices(),
        replaying=replaying,
    )


async def hand(consumer: Consumer, delivery: Delivery) -> list[Event]:
    """Have *consumer* handle *delivery* as a worker would; returns what it emitted, sealed in envelopes."""
    token = current.set(delivery)
    memory = delivery.state if isinstance(delivery.state, MemoryState) else MemoryState()
    try:
        produced = [*await consumer.handler(delivery.event)]
        memory.keep()
    finally:
        memory.drop()
        current.reset(token)
    return produced
