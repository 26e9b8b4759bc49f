"""Running again with real workers, on topics of its own: `replay.<id>.`, made for one replay and removed after it.

    recorded state ──▶ seeds ─┐
    recorded events ─▶ fed ───┴▶ workers behind a fence ──▶ activity of the sandbox, compared with the recorded one

The workers are those that run in production; what differs is what they are
given. Their bus writes under the sandbox's namespace alone, and nobody undoes
anything there, as no coordinator runs. Ids come out as they were, so what one
agent says is what the next one hears.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Sequence

from antiphon.agents.worker import Worker
from antiphon.bus.activity import Activity
from antiphon.bus.claims import Claims
from antiphon.bus.consumer import Consumer
from antiphon.bus.names import ACTIVITY, Names, sandbox_namespace
from antiphon.bus.port import Bus
from antiphon.bus.record import TopicPartition
from antiphon.bus.topics import ensure
from antiphon.replay.came import came_of, differences
from antiphon.replay.candidates import check
from antiphon.replay.choice import Choice
from antiphon.replay.compare import Rules
from antiphon.replay.compared import Compared
from antiphon.replay.conditions import Conditions
from antiphon.replay.effects import Effects
from antiphon.replay.feeding import Feed, seeds
from antiphon.replay.fence import Fenced
from antiphon.replay.leftovers import new_id
from antiphon.replay.ordering import Ordering
from antiphon.replay.pace import Pace
from antiphon.replay.reading import read_recording
from antiphon.replay.recording import Handling, Recording, StatesBefore
from antiphon.replay.schemas import KeptSchemas
from antiphon.schemas.codec import Codec
from antiphon.schemas.store import SchemaStore
from antiphon.tracing.records import decoded

_GRACE_S = 5.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ground:
    """Where a sandbox is made: beside a mesh, on its brokers, within its namespace."""

    bus: Bus
    names: Names
    store: SchemaStore
    """Where the schemas are that events were written with; nothing is published there."""
    partitions: int
    claims: Claims = dataclasses.field(default_factory=Claims)


class SandboxReplay:
    """Has *consumers* handle again what *recording* holds, under a namespace of this replay's own on *ground*.

    One is good for one `run`. *on_progress* is told now and then how many
    handlings are over, and how many are owed at that moment.
    """

    def __init__(
        self,
        recording: Recording,
        consumers: Sequence[Consumer],
        ground: Ground,
        *,
        effects: Effects = Effects.RECORDED,
        rules: Rules = Rules(),  # noqa: B008 - frozen
        pace: Pace | None = None,
        on_progress: Callable[[int, int], None] = lambda done, owed: None,
    ) -> None:
        self.names = Names(ground.names.topic(sandbox_namespace(new_id())))
        """Its own: whatever it writes stands under them."""
        self._recording = recording
        self._consumers = {consumer.name: consumer for consumer in consumers}
        self._conditions = Conditions(recording, effects)
        self._store = KeptSchemas(behind=ground.store)
        self._codec = Codec(self._store)
        self._claims = ground.claims.apart()
        self._ordering = Ordering([])
        self._ground = ground
        self._bus = Fenced(ground.bus, self.names)
        self._partitions = max([ground.partitions, *(one.entry.partition + 1 for one in recording.handlings)])
        self._effects = effects
        self._rules = rules
        self._pace = pace or Pace()
        self._states = StatesBefore(recording.handlings, recording.changes)
        self._on_progress = on_progress

    async def run(self, chosen: Sequence[Handling]) -> list[Compared]:
        """Handle *chosen* again and return what came of each, in their order; the sandbox is gone then, however it ends.

        Raises `CandidateError` before anything is made, `UnrecordedEffectError` where
        effects are forbidden, `OutsideSandboxError` where a worker would write elsewhere, and `BusError`.
        """
        check(self._consumers.values(), chosen)
        own = [handling for handling in chosen if handling.agent in self._consumers]
        self._ordering = Ordering(own)
        self._bus = Fenced(self._ground.bus, self.names, arriving=self._conditions.arriving, ordering=self._ordering)
        try:
            await self._handle(own)
            again = await read_recording(self._bus, self.names, self._codec, Choice(), claims=self._claims)
        finally:
            await self._bus.remove(self.names.namespace)
        by_pair = {handling.pair: handling for handling in again.handlings}
        return [await self._compared(handling, by_pair.get(handling.pair), again) for handling in own]

    async def _handle(self, own: Sequence[Handling]) -> None:
        consumers = [self._conditions.under(consumer) for consumer in self._consumers.values()]
        await ensure(self._bus, consumers, self.names, partitions=self._partitions, may_create=True)
        feed = Feed(self._recording, own, self._consumers)
        self._ordering.on_hold = lambda: self._let_go(feed)
        await self._claims.keep(feed.large())
        await self._bus.publish(seeds(own, self._states, self.names))
        worker = Worker(
            self._bus,
            consumers,
            names=self.names,
            store=self._store,
            claims=self._claims,
            partitions=self._partitions,
            grace_s=_GRACE_S,
        )
        working, feeding = asyncio.create_task(worker.run()), asyncio.create_task(self._feed(feed))
        try:
            await asyncio.wait([working, feeding], return_when=asyncio.FIRST_COMPLETED)
            if working.done():  # only by an error
                working.result()
            feeding.result()
        finally:
            worker.stop()
            feeding.cancel()
            await asyncio.wait([working, feeding], timeout=2 * _GRACE_S)
            working.cancel()
            await asyncio.wait([working, feeding])

    async def _feed(self, feed: Feed) -> None:
        """Give what is due, hear what was handled, and return when nothing is left to be given or handled."""
        topic = self.names.topic(ACTIVITY)
        places = {TopicPartition(topic, partition): 0 for partition in range(self._partitions)}
        await self._give(feed)
        async with contextlib.aclosing(self._bus.read(places)) as records:
            while not feed.over:
                told = await decoded(self._codec, Activity, await anext(records))
                if told is not None:
                    for entry in told.deliveries:
                        feed.handled(told.agent, entry)
                if self._effects is Effects.FORBID and self._conditions.refused is not None:
                    raise self._conditions.refused
                self._on_progress(feed.done, feed.owed)
                self._let_go(feed)
                await self._give(feed)

    def _let_go(self, feed: Feed) -> None:
        """Where all that is owed is held back, what the first of it waits for does not come this time."""
        if self._ordering.held and feed.only_owes(self._ordering.held):
            self._ordering.let_go()

    async def _give(self, feed: Feed) -> None:
        for one in feed.due():
            await self._pace.next(one.handling.entry.started_us)
            # Owed first: it may be handled before the answer to its publishing is here.
            feed.given(one)
            await self._bus.publish([one.outgoing(self.names)])

    async def _compared(self, handling: Handling, again: Handling | None, found: Recording) -> Compared:
        if self._recording.event_of(handling) is None:
            return Compared(handling=handling, skipped="its event is gone from its topic")
        recorded = came_of(self._recording, handling)
        if recorded is None:
            return Compared(handling=handling, skipped="an event that it emitted is gone from its topic")
        if again is None:
            return Compared(handling=handling, skipped="its event did not come: what led to it came out differently")
        got = came_of(found, again)
        if got is None:
            return Compared(handling=handling, skipped="an event that it emitted could not be read in the sandbox")
        entry = again.entry
        return Compared(
            handling=handling,
            differences=await differences(self._codec, recorded, got, self._rules),
            state_known=self._states.before(handling).known,
            raised=got.raised,
            traceback="" if entry.error is None else entry.error.traceback,
            duration_us=entry.duration_us,
            usage=entry.usage,
            confidence=entry.confidence,
        )
