"""Running again in this process: handlers are called with what was recorded, and nothing leaves.

There is no bus here, and so nothing that could be published, committed or
undone: what a handler emits is compared and dropped, the state it changes is a copy.
"""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import AsyncGenerator, Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from antiphon.bus.claims import Claims
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Delivery, Usage, current
from antiphon.bus.error_text import message_of
from antiphon.bus.record import Record
from antiphon.bus.state import PartitionState
from antiphon.replay.compare import Difference, Raised, Result, Rules, Said, compare
from antiphon.replay.effects import Effects, Results
from antiphon.replay.errors import CandidateError
from antiphon.replay.recording import UNKNOWN, Before, Handling, Recording, states_before
from antiphon.schemas.codec import Codec, reference_of, to_json
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import SchemaError, UnknownSchemaError
from antiphon.schemas.event import Event, envelope_of

E = TypeVar("E", bound=Event)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
    """One handling that was run again, or could not be."""

    handling: Handling
    differences: Sequence[Difference] = ()
    skipped: str | None = None
    """Why it could not be run."""
    state_known: bool = True
    """False: it ran on the state that the replay itself had come to, or on none."""
    raised: Raised | None = None
    traceback: str = ""
    duration_us: int = 0
    usage: Sequence[Usage] = ()
    confidence: float | None = None


class HandlerReplay:
    """Handles again what *recording* holds, by *consumers*; everybody else's handlings are left as they are."""

    def __init__(
        self,
        recording: Recording,
        consumers: Sequence[Consumer],
        codec: Codec,
        *,
        effects: Effects = Effects.RECORDED,
        rules: Rules = Rules(),  # noqa: B008 - frozen
        claims: Claims | None = None,
    ) -> None:
        self._recording = recording
        self._consumers = {consumer.name: consumer for consumer in consumers}
        self._codec = codec
        self._effects = effects
        self._rules = rules
        self._claims = claims or Claims()
        self._states = states_before(recording.handlings, recording.changes)
        self._carried: dict[tuple[str, str], Before] = {}

    def check(self, chosen: Sequence[Handling]) -> None:
        """Raise `CandidateError` where an agent does not hear what it is to handle again."""
        for name, consumer in self._consumers.items():
            types = {handling.entry.event_type for handling in chosen if handling.agent == name}
            if deaf := sorted(types - consumer.hears.keys()):
                raise CandidateError(name, deaf, sorted(consumer.hears))

    async def run(self, chosen: Sequence[Handling]) -> AsyncGenerator[Compared, None]:
        """Handle each of *chosen* again, one after the other, and yield what came of it.

        Raises `CandidateError` before anything runs, and `UnrecordedEffectError`
        where effects are forbidden.
        """
        self.check(chosen)
        await self._codec.announce({made for consumer in self._consumers.values() for made in consumer.emits or ()})
        for handling in chosen:
            consumer = self._consumers.get(handling.agent)
            if consumer is not None:
                yield await self._again(consumer, handling)

    async def _again(self, consumer: Consumer, handling: Handling) -> Compared:
        record = self._recording.event_of(handling)
        if record is None:
            return Compared(handling=handling, skipped="its event is gone from its topic")
        recorded = self._recorded(handling)
        if recorded is None:
            return Compared(handling=handling, skipped="an event that it emitted is gone from its topic")
        before = self._before(handling)
        values: dict[str, bytes | None] = {} if before.value is None else {handling.state_key: before.value}
        state = PartitionState("state", record.partition, values)
        results = Results(handling.agent, handling.entry.event_id, handling.entry.effects)
        services = _Services(self._codec, self._claims, results, live=self._effects is Effects.LIVE)
        got, delivery, error, took_us = await self._handled(consumer, handling, record, state, services)
        if results.refused is not None and self._effects is Effects.FORBID:
            raise results.refused
        self._keep(handling, delivery, before)
        return Compared(
            handling=handling,
            differences=[]
            if got == recorded
            else compare(await self._read(recorded), await self._read(got), self._rules),
            state_known=before.known,
            raised=got.raised,
            traceback="" if error is None else "".join(traceback.format_exception(error)),
            duration_us=took_us,
            usage=() if delivery is None else delivery.usage,
            confidence=None if delivery is None else delivery.confidence,
        )

    async def _handled(
        self, consumer: Consumer, handling: Handling, record: Record, state: PartitionState, services: _Services
    ) -> tuple[_Outcome, Delivery | None, Exception | None, int]:
        delivery: Delivery | None = None
        began = perf_counter()
        try:
            event = await _decoded(self._codec, consumer.hears[handling.entry.event_type], record.value or b"")
            envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
            event = event.sealed(envelope)
            delivery = Delivery(
                record=record,
                event=event,
                envelope=envelope,
                agent=consumer.name,
                version=consumer.version,
                attempt=handling.entry.attempt,
                state=state.view(),
                services=services,
                replaying=True,
                started_us=handling.entry.started_us,
            )
            token = current.set(delivery)
            try:
                produced = await consumer.handler(event)
            finally:
                current.reset(token)
            took_us = int((perf_counter() - began) * 1e6)
            if services.results.refused is not None:
                raise services.results.refused
            if consumer.emits is None:
                await self._codec.announce({type(made) for made in produced})
            # Through Avro, as what was recorded went: what its schema cannot hold is lost on both sides.
            said = [(envelope_of(made).type, self._codec.encode(made)) for made in produced]
            return _Outcome(said), delivery, None, took_us
        except Exception as error:
            took_us = int((perf_counter() - began) * 1e6)
            return _Outcome([], Raised(type(error).__name__, message_of(error))), delivery, error, took_us

    def _recorded(self, handling: Handling) -> _Outcome | None:
        """Return what was recorded; None where a part of it is gone."""
        error = handling.entry.error
        if error is not None:
            return _Outcome([], Raised(error.type, error.message))
        said: list[tuple[str, bytes]] = []
        for emitted in handling.entry.emitted:
            record = self._recording.events.get(emitted.id)
            if record is None:
                return None
            said.append((emitted.type, record.value or b""))
        return _Outcome(said)

    async def _read(self, outcome: _Outcome) -> Result:
        return Result([Said(type, await _data(self._codec, value)) for type, value in outcome.said], outcome.raised)

    def _before(self, handling: Handling) -> Before:
        """Return the state to run on: the recorded one, or what this replay itself has come to."""
        recorded = self._states.get(handling.pair, UNKNOWN)
        if recorded.known:
            return recorded
        return self._carried.get((handling.agent, handling.state_key), UNKNOWN)

    def _keep(self, handling: Handling, delivery: Delivery | None, before: Before) -> None:
        changed: Mapping[str, bytes | None] = {} if delivery is None else delivery.state.changed()
        value = changed.get(handling.state_key, before.value)
        self._carried[handling.agent, handling.state_key] = Before(known=False, value=value)


class _Outcome(NamedTuple):
    """What one handling came to, as bytes: two that are alike are the same, and need not be read."""

    said: list[tuple[str, bytes]]
    raised: Raised | None = None


class _Services:
    """What a delivery asks of its worker, where there is none. Implements `bus.delivery.Services`."""

    def __init__(self, codec: Codec, claims: Claims, results: Results, *, live: bool) -> None:
        self._codec = codec
        self._claims = claims
        self.results = results
        self._live: dict[str, Any] | None = {} if live else None

    async def decode(self, event_class: type[E], value: bytes) -> E:
        return await _decoded(self._codec, event_class, await self._claims.resolve(value))

    async def remember(self, delivery: Delivery, name: str, result: Any) -> None:  # noqa: ARG002 - the protocol's
        if self._live is not None:
            self._live[name] = result

    def remembered(self, delivery: Delivery) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        return self.results if self._live is None else self._live

    def wake_at(self, time_us: int) -> None:
        """Nobody is woken: what was due then is recorded too."""


async def _decoded(codec: Codec, event_class: type[E], value: bytes) -> E:
    try:
        return codec.decode(event_class, value)
    except UnknownSchemaError as error:
        await codec.learn(error.reference)
        return codec.decode(event_class, value)


async def _data(codec: Codec, value: bytes) -> Any:
    """Return an event's data as JSON; what is not to be shown is the same on both sides."""
    try:
        await codec.learn(reference_of(value))
        return to_json(codec.shown(value))
    except SchemaError as error:
        return f"(unreadable: {error})"
