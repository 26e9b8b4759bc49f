"""Running again in this process: handlers are called with what was recorded, and nothing leaves.

There is no bus here, and so nothing that could be published, committed or
undone: what a handler emits is compared and dropped, the state it changes is a copy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from time import perf_counter_ns
from typing import TypeAlias

from antiphon.bus.claims import Claims
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import current
from antiphon.bus.error_text import message_of, traceback_of
from antiphon.bus.errors import HandlerTimeoutError
from antiphon.bus.handler import Handler
from antiphon.bus.middleware.lineage import unsealed
from antiphon.replay.attempt import Attempt, Terms, unread
from antiphon.replay.came import Came, came_of, differences, said_of
from antiphon.replay.candidates import check
from antiphon.replay.compare import Difference, Raised, Rules
from antiphon.replay.compared import Compared
from antiphon.replay.effects import Effects
from antiphon.replay.pace import Pace
from antiphon.replay.recording import Before, Handling, Recording, StatesBefore
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import UnknownSchemaError
from antiphon.schemas.event import Event, seal

Around: TypeAlias = Callable[[Consumer, Handling, Event], Handler | None]
"""Asked before each handling: returns the handler to call, or None to pass it over. Whoever looks on may wait in it."""


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
        # What is said is compared and dropped, so nobody needs it sealed.
        self._handlers = {consumer.name: unsealed(consumer.handler) for consumer in consumers}
        self._codec = codec
        self._terms = Terms(codec=codec, claims=claims or Claims(), effects=effects)
        self._rules = rules
        self._pace = pace
        self._around = around
        self._states = StatesBefore(recording.handlings, recording.changes)
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

    async def _again(self, consumer: Consumer, handling: Handling) -> Compared:  # noqa: C901, PLR0912 - see below
        """Handle it once more. In one piece, as `Runner._handle` is: a call more costs every event."""
        entry = handling.entry
        record = self._recording.event_of(handling)
        if record is None:
            return Compared(handling=handling, skipped="its event is gone from its topic")
        was = said_of(self._recording, handling)
        if was is None:
            return Compared(handling=handling, skipped="an event that it emitted is gone from its topic")
        before = self._states.before(handling)
        if self._carried and not before.known:
            before = Before(known=False, value=self._carried.get((handling.agent, handling.state_key)))
        attempt = Attempt(self._terms, handling, record, before.value, consumer.version)
        limit_s = consumer.timeout_s
        began_ns = perf_counter_ns()
        try:
            event_class, value = consumer.hears[entry.event_type], record.value or b""
            try:
                event = self._codec.decode(event_class, value)
            except UnknownSchemaError:
                event = await self._terms.decode(event_class, value)
            handler = self._handlers[handling.agent]
            if self._around is not None:
                asked = self._around(consumer, handling, event)
                if asked is None:
                    return Compared(handling=handling, skipped="it was passed over")
                handler, began_ns = asked, perf_counter_ns()
            attempt.event = event
            seal(event, unread(record))
            token = current.set(attempt)
            try:
                called = handler(event) if limit_s is None else _in_time(consumer.name, limit_s, handler, event)
                produced = await called
            finally:
                # Whoever runs this has the same context, and may publish: he is no handler.
                current.reset(token)
            took_us = (perf_counter_ns() - began_ns) // 1_000
            if attempt.results is not None and attempt.refused is not None:
                raise attempt.refused  # the handler may have caught it
            if consumer.emits is None:
                await self._codec.announce({type(made) for made in produced})
            # Through Avro, as what was recorded went: what its schema cannot hold is lost on both sides.
            encode = self._codec.encode
            said = [(made.__event__.type, encode(made)) for made in produced]
            after = attempt.value if attempt.mappings is None else attempt.after()
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # The handler's own doing: it awaited something that somebody cancelled.
            return await self._failed(attempt, error, began_ns, known=before.known)
        except Exception as error:
            return await self._failed(attempt, error, began_ns, known=before.known)
        if after is not None or self._carried:
            self._carried[handling.agent, handling.state_key] = after
        same = said == was and entry.error is None
        return Compared(
            handling=handling,
            differences=[] if same else await self._differences(handling, Came(said)),
            state_known=before.known,
            duration_us=took_us,
            usage=attempt.usage,
            confidence=attempt.confidence,
        )

    async def _failed(self, attempt: Attempt, error: BaseException, began_ns: int, *, known: bool) -> Compared:
        took_us = (perf_counter_ns() - began_ns) // 1_000
        if self._terms.effects is Effects.FORBID and attempt.refused is not None:
            raise attempt.refused
        handling = attempt.handling
        self._carried[handling.agent, handling.state_key] = attempt.value
        raised = Raised(type(error).__name__, message_of(error))
        return Compared(
            handling=handling,
            differences=await self._differences(handling, Came([], raised)),
            state_known=known,
            raised=raised,
            traceback=traceback_of(error),
            duration_us=took_us,
            usage=attempt.usage,
            confidence=attempt.confidence,
        )

    async def _differences(self, handling: Handling, got: Came) -> list[Difference]:
        recorded = came_of(self._recording, handling)
        return [] if recorded is None else await differences(self._codec, recorded, got, self._rules)


async def _in_time(agent: str, limit_s: float, handler: Handler, event: Event) -> Sequence[Event]:
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            return await handler(event)
    except TimeoutError as error:
        if limit.expired():
            raise HandlerTimeoutError(agent, limit_s) from error
        raise
