"""What a handler is told when real workers handle an event again: what it was told then."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Delivery, Outcome, Services, current
from antiphon.bus.record import Record
from antiphon.bus.retry import RetryPolicy
from antiphon.replay.effects import Effects, Results
from antiphon.replay.errors import UnrecordedEffectError
from antiphon.replay.recording import Recording
from antiphon.schemas.envelope import parse_time
from antiphon.schemas.event import Event

E = TypeVar("E", bound=Event)

_DEADLINE = "ce_deadline"
_DEADLINE_THEN = "antiphon_replay_deadline"
_ID = "ce_id"


class Conditions:
    """Makes of consumers those that a sandbox runs. What was not handled then is handled as if it were new."""

    def __init__(self, recording: Recording, effects: Effects) -> None:
        self._entries = {handling.pair: handling.entry for handling in recording.handlings}
        self._effects = effects
        self.refused: UnrecordedEffectError | None = None
        """The first side effect that would have run and had no record."""

    def arriving(self, agent: str, record: Record) -> Record:
        """Return *record* with its deadline put aside: all of them are over by now. What expired then does so again."""
        said = dict(record.headers)
        if _DEADLINE not in said:
            return record
        entry = self._entries.get(((said.get(_ID) or b"").decode(errors="replace"), agent))
        if entry is not None and entry.outcome == Outcome.EXPIRED:
            return record
        headers = [(_DEADLINE_THEN if name == _DEADLINE else name, value) for name, value in record.headers]
        return dataclasses.replace(record, headers=headers)

    def under(self, consumer: Consumer) -> Consumer:
        """Return *consumer* as it was then: no undos, the attempt that was the last one, its side effects from their record."""

        async def handler(event: Event) -> Sequence[Event]:
            delivery = current.get()
            event = self._as_then(delivery, event)
            entry = self._entries.get((delivery.envelope.id, consumer.name))
            if entry is not None:
                delivery.attempt, delivery.started_us = entry.attempt, entry.started_us
            if self._effects is Effects.LIVE:
                return await consumer.handler(event)
            recorded = {} if entry is None else entry.effects
            results = Results(consumer.name, delivery.envelope.id, recorded)
            delivery.services = _Told(delivery.services, results)
            try:
                produced = await consumer.handler(event)
            finally:
                self.refused = self.refused or results.refused
            if results.refused is not None:
                raise results.refused
            return produced

        return dataclasses.replace(consumer, handler=handler, undoes={}, retry=RetryPolicy(attempts=1))

    def _as_then(self, delivery: Delivery, event: Event) -> Event:
        delivery.replaying = True
        deadline = dict(delivery.record.headers).get(_DEADLINE_THEN)
        if deadline is None:
            return event
        delivery.envelope = dataclasses.replace(delivery.envelope, deadline_us=parse_time(deadline.decode()))
        delivery.event = event.sealed(delivery.envelope)
        return delivery.event


class _Told:
    """A worker's services, but for side effects: those have happened. Implements `bus.delivery.Services`."""

    def __init__(self, services: Services, results: Results) -> None:
        self._services = services
        self._results = results

    async def decode(self, event_class: type[E], value: bytes) -> E:
        return await self._services.decode(event_class, value)

    async def remember(self, delivery: Delivery, name: str, result: Any) -> None:
        """Nothing: whatever is remembered was recorded."""

    def remembered(self, delivery: Delivery) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        return self._results

    @property
    def state_room(self) -> int:
        return self._services.state_room

    def wake_at(self, time_us: int) -> None:
        self._services.wake_at(time_us)
