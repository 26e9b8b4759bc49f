"""Running again in this process: handlers are called with what was recorded, and nothing leaves.

There is no bus here, and so nothing that could be published, committed or
undone: what a handler emits is compared and dropped, the state it changes is a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, MutableMapping, Sequence
from time import perf_counter_ns
from typing import Any, TypeAlias, TypeVar

import orjson

from antiphon.bus.claims import Claims
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Delivery, current
from antiphon.bus.error_text import message_of, traceback_of
from antiphon.bus.errors import HandlerTimeoutError
from antiphon.bus.handler import Handler
from antiphon.bus.record import Record
from antiphon.bus.state import dump
from antiphon.replay.came import Came, came_of, differences
from antiphon.replay.candidates import check
from antiphon.replay.compare import Raised, Rules
from antiphon.replay.compared import Compared
from antiphon.replay.effects import Effects, Results
from antiphon.replay.errors import UnrecordedEffectError
from antiphon.replay.pace import Pace
from antiphon.replay.recording import UNKNOWN, Before, Handling, Recording, states_before
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import from_headers
from antiphon.schemas.errors import UnknownSchemaError
from antiphon.schemas.event import Event, seal

E = TypeVar("E", bound=Event)

Around: TypeAlias = Callable[[Consumer, Handling, Event], Handler | None]
"""Asked before each handling: returns the handler to call, or None to pass it over. Whoever looks on may wait in it."""

_NOT_RUN = Came([])


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
        pace: Pace | None = None,
        around: Around | None = None,
    ) -> None:
        self._recording = recording
        self._consumers = {consumer.name: consumer for consumer in consumers}
        self._codec = codec
        self._effects = effects
        self._rules = rules
        self._claims = claims or Claims()
        self._pace = pace
        self._around = around
        self._states = states_before(recording.handlings, recording.changes)
        self._carried: dict[tuple[str, str], bytes | None] = {}

    async def run(self, chosen: Sequence[Handling]) -> AsyncGenerator[Compared, None]:
        """Handle each of *chosen* again, one after the other, and yield what came of it.

        Raises `CandidateError` before anything runs, and `UnrecordedEffectError`
        where effects are forbidden.
        """
        check(self._consumers.values(), chosen)
        await self._codec.announce({made for consumer in self._consumers.values() for made in consumer.emits or ()})
        for handling in chosen:
            consumer = self._consumers.get(handling.agent)
            if consumer is not None:
                if self._pace is not None:
                    await self._pace.next(handling.entry.started_us)
                yield await self._again(consumer, handling)

    async def _again(self, consumer: Consumer, handling: Handling) -> Compared:
        record = self._recording.event_of(handling)
        if record is None:
            return Compared(handling=handling, skipped="its event is gone from its topic")
        recorded = came_of(self._recording, handling)
        if recorded is None:
            return Compared(handling=handling, skipped="an event that it emitted is gone from its topic")
        before = self._states.get(handling.pair, UNKNOWN)
        if not before.known:
            before = Before(known=False, value=self._carried.get((handling.agent, handling.state_key)))
        attempt = _Attempt(consumer, handling, record, before.value, self._codec, self._claims, self._effects)
        got = await attempt.run(self._around)
        if got is _NOT_RUN:
            return Compared(handling=handling, skipped="it was passed over")
        if self._effects is Effects.FORBID and attempt.refused is not None:
            raise attempt.refused
        self._carried[handling.agent, handling.state_key] = attempt.after
        delivery, error = attempt.delivery, attempt.error
        return Compared(
            handling=handling,
            differences=[] if got == recorded else await differences(self._codec, recorded, got, self._rules),
            state_known=before.known,
            raised=got.raised,
            traceback="" if error is None else traceback_of(error),
            duration_us=attempt.took_us,
            usage=() if delivery is None else delivery.usage,
            confidence=None if delivery is None else delivery.confidence,
        )


class _Attempt:
    """One handling that is done again, and what stands in for its worker. Implements `delivery.Services` and `delivery.State`."""

    __slots__ = (
        "_claims",
        "_codec",
        "_consumer",
        "_effects",
        "_handling",
        "_mappings",
        "_record",
        "_results",
        "_value",
        "after",
        "delivery",
        "error",
        "took_us",
    )

    def __init__(
        self,
        consumer: Consumer,
        handling: Handling,
        record: Record,
        value: bytes | None,
        codec: Codec,
        claims: Claims,
        effects: Effects,
    ) -> None:
        self._consumer = consumer
        self._handling = handling
        self._record = record
        self._value = value
        self._codec = codec
        self._claims = claims
        self._effects = effects
        self._mappings: dict[str, dict[str, Any]] | None = None
        self._results: dict[str, Any] | None = None
        self.delivery: Delivery | None = None
        self.error: BaseException | None = None
        self.took_us = 0
        self.after = value
        """The state that stands after it, which is that before it where it raised."""

    async def run(self, around: Around | None) -> Came:
        """Return what it came to; `_NOT_RUN` where *around* passes it over."""
        began_ns = perf_counter_ns()
        consumer, record = self._consumer, self._record
        try:
            event = await _decoded(self._codec, consumer.hears[self._handling.entry.event_type], record.value or b"")
            handler = consumer.handler
            if around is not None:
                asked = around(consumer, self._handling, event)
                if asked is None:
                    return _NOT_RUN
                handler, began_ns = asked, perf_counter_ns()
            produced = await self._called(handler, event)
            self.took_us = (perf_counter_ns() - began_ns) // 1_000
            refused = self.refused
            if refused is not None:
                raise refused
            if consumer.emits is None:
                await self._codec.announce({type(made) for made in produced})
            # Through Avro, as what was recorded went: what its schema cannot hold is lost on both sides.
            encode = self._codec.encode
            said = [(made.__event__.type, encode(made)) for made in produced]
            if self._mappings is not None:
                self.after = self.changed().get(self._handling.state_key, self._value)
            return Came(said)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The handler's own doing: it awaited something that somebody cancelled.
            return self._failed(error, began_ns)
        except Exception as error:
            return self._failed(error, began_ns)

    async def _called(self, handler: Handler, event: Event) -> Sequence[Event]:
        record, entry, consumer = self._record, self._handling.entry, self._consumer
        envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        seal(event, envelope)
        self.delivery = Delivery(
            record=record,
            event=event,
            envelope=envelope,
            agent=consumer.name,
            version=consumer.version,
            attempt=entry.attempt,
            state=self,
            services=self,
            replaying=True,
            started_us=entry.started_us,
        )
        current.set(self.delivery)
        if consumer.timeout_s is None:
            return await handler(event)
        limit = asyncio.timeout(consumer.timeout_s)
        try:
            async with limit:
                return await handler(event)
        except TimeoutError as error:
            if limit.expired():
                raise HandlerTimeoutError(consumer.name, consumer.timeout_s) from error
            raise

    def _failed(self, error: BaseException, began_ns: int) -> Came:
        self.took_us = (perf_counter_ns() - began_ns) // 1_000
        self.error = error
        return Came([], Raised(type(error).__name__, message_of(error)))

    # State.

    def mapping(self, key: str) -> MutableMapping[str, Any]:
        if self._mappings is None:
            self._mappings = {}
        if key not in self._mappings:
            value = self._value if key == self._handling.state_key else None
            self._mappings[key] = {} if value is None else orjson.loads(value)
        return self._mappings[key]

    def changed(self) -> Mapping[str, bytes | None]:
        """Return what stands now under each key that was looked at. Raises `StateNotJsonError`, as it would have then."""
        return {key: dump(key, mapping) for key, mapping in (self._mappings or {}).items()}

    # Services.

    @property
    def refused(self) -> UnrecordedEffectError | None:
        """The first side effect that would have run and has no record: the handler may have caught it."""
        return self._results.refused if isinstance(self._results, Results) else None

    async def decode(self, event_class: type[E], value: bytes) -> E:
        return await _decoded(self._codec, event_class, await self._claims.resolve(value))

    async def remember(self, delivery: Delivery, name: str, result: Any) -> None:
        if self._effects is Effects.LIVE:
            self.remembered(delivery)[name] = result

    def remembered(self, delivery: Delivery) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        if self._results is None:
            entry = self._handling.entry
            recorded = Results(self._handling.agent, entry.event_id, entry.effects)
            self._results = {} if self._effects is Effects.LIVE else recorded
        return self._results

    @property
    def state_room(self) -> int:
        return self._claims.limit

    def wake_at(self, time_us: int) -> None:
        """Nobody is woken: what was due then is recorded too."""


async def _decoded(codec: Codec, event_class: type[E], value: bytes) -> E:
    try:
        return codec.decode(event_class, value)
    except UnknownSchemaError as error:
        await codec.learn(error.reference)
        return codec.decode(event_class, value)
