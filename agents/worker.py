"""The worker: runs agents in this process until it is told to stop."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import platform
from collections.abc import Iterable, Sequence
from typing import Any

from antiphon.bus.activity import Activity
from antiphon.bus.claims import Claims
from antiphon.bus.clock import Clock, WallClock
from antiphon.bus.consumer import Consumer
from antiphon.bus.contracts import tell_schemas
from antiphon.bus.engine import Engine, EngineSettings
from antiphon.bus.errors import BusError
from antiphon.bus.guard import MAX_HOPS, Unreadable
from antiphon.bus.heartbeat import AgentSeen, InFlight, canary, hears, says
from antiphon.bus.names import AGENTS, Names
from antiphon.bus.port import Bus, MissingOffsets
from antiphon.bus.pressure import Bounds
from antiphon.bus.readers import Readers
from antiphon.bus.record import Outgoing
from antiphon.bus.rights import rights_of_all, role_of
from antiphon.bus.states import StateSettings
from antiphon.bus.telemetry import SILENT, Status, Telemetry
from antiphon.bus.topics import ensure
from antiphon.bus.undo import UndoRequested
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, now_us, to_headers
from antiphon.schemas.event import Event
from antiphon.schemas.ids import root_id
from antiphon.schemas.store import Framing, SchemaStore

log = logging.getLogger(__name__)

# Of the events a stop waits for, so many are named.
_OLDEST = 3


class Worker:
    """Runs *consumers*, each as one member of its own group.

    A worker creates the topics its agents lack (unless told not to), publishes
    their schemas, says on `antiphon.agents` that it is there, and runs until
    `stop`. Agents in one worker share nothing but the process.
    """

    def __init__(  # noqa: PLR0913 - keyword-only, each a thing of its own
        self,
        bus: Bus,
        consumers: Sequence[Consumer],
        *,
        names: Names,
        store: SchemaStore,
        claims: Claims | None = None,
        instance: str | None = None,
        partitions: int | None = None,
        create_topics: bool = True,
        grace_s: float = 30.0,
        on_missing_offsets: MissingOffsets = MissingOffsets.EARLIEST,
        bounds: Bounds = Bounds(),  # noqa: B008 - frozen
        heartbeat_s: float = 5.0,
        session_timeout_s: float = 10.0,
        progress_s: float = 5.0,
        max_hops: int = MAX_HOPS,
        unreadable: Unreadable = Unreadable.REFUSE,
        telemetry: Telemetry = SILENT,
        state: StateSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._bus = bus
        self._telemetry = telemetry
        self._consumers = tuple(consumers)
        self._names = names
        self._store = store
        self._codec = Codec(store)
        self._claims = claims or Claims()
        self.instance = instance or new_instance()
        self._partitions = partitions
        self._create_topics = create_topics
        self._grace_s = grace_s
        self._on_missing_offsets = on_missing_offsets
        self._bounds = bounds
        self._heartbeat_s = heartbeat_s
        self._session_timeout_s = session_timeout_s
        self._progress_s = progress_s
        self._max_hops = max_hops
        self._unreadable = unreadable
        self._state = state or StateSettings()
        self._clock = clock or WallClock()
        self._started_us = now_us()
        self._engines: list[Engine] = []
        self._stopping = asyncio.Event()
        self.started = asyncio.Event()
        """Set once its topics are there and its groups have been asked: what could be wrong with a start is not."""
        self.ready = asyncio.Event()
        """Set once every agent has its first partitions."""

    async def run(self) -> int:
        """Run until stopped; returns how many deliveries had to be abandoned at the end (0: a clean stop).

        Raises `BusError` and `RegistryError` where it cannot start or go on, and `BreaksReadersError` where
        other agents could not read what its own would say.
        """
        await self._check_rights()
        width = await ensure(
            self._bus, self._consumers, self._names, partitions=self._partitions, may_create=self._create_topics
        )
        await self._check_rights()
        await self._ask_readers()
        await self._codec.announce(self._classes(), topic_of=self._names.topic)
        await self._tell_schemas()
        self._engines = [self._engine(consumer, width) for consumer in self._consumers]
        followers = [
            asyncio.ensure_future(consumer.follows(self._bus, self._names, self._codec))
            for consumer in self._consumers
            if consumer.follows is not None
        ]
        engines = [asyncio.create_task(engine.run(grace_s=self._grace_s)) for engine in self._engines]
        life = [
            asyncio.create_task(self._watch_ready()),
            asyncio.create_task(self._measure_on()),
            asyncio.create_task(self._beat_on()),
            asyncio.create_task(self._tell_progress()),
        ]
        stopping = asyncio.create_task(self._stopping.wait())
        self.started.set()
        try:
            # An engine or a follower ends early only by an error; then the whole worker does.
            await asyncio.wait([stopping, *engines, *followers], return_when=asyncio.FIRST_COMPLETED)
            for engine in self._engines:
                engine.drain()
            abandoned = sum(await asyncio.gather(*engines))
            for follower in followers:
                if follower.done():
                    await follower
            return abandoned
        finally:
            for task in [*life, stopping, *engines, *followers]:
                task.cancel()
            await asyncio.wait([*life, stopping, *engines, *followers])
            await self._say_goodbye()

    @property
    def handed_back(self) -> int:
        """How many deliveries were in hand when it was told to stop, and are left to others: given up, or taken away."""
        return sum(engine.handed_back for engine in self._engines)

    def stop(self) -> None:
        """Stop in an orderly way: take nothing more, finish what runs, commit, leave."""
        self._stopping.set()
        for engine in self._engines:
            engine.drain()

    # Seen from outside; any thread may ask.

    def statuses(self) -> list[Status]:
        """Say how each agent stands; none do before `run` has made their topics."""
        return [engine.status() for engine in self._engines]

    def in_hand(self, task: asyncio.Task[Any]) -> dict[str, object] | None:
        """Return the log fields of the event that *task* is handling, if it is handling one."""
        found = (engine.in_hand(task) for engine in self._engines)
        return next((fields for fields in found if fields is not None), None)

    def _engine(self, consumer: Consumer, width: int) -> Engine:
        settings = EngineSettings(
            instance=self.instance,
            partitions=width,
            max_hops=self._max_hops,
            session_timeout_s=self._session_timeout_s,
            # A dead worker's transaction must be over when its partitions move on.
            transaction_timeout_s=0.8 * self._session_timeout_s,
            on_missing_offsets=self._on_missing_offsets,
            state=self._state,
            clock=self._clock,
            **dataclasses.asdict(self._bounds),
        )
        return Engine(
            self._bus,
            consumer,
            names=self._names,
            codec=self._codec,
            settings=settings,
            claims=self._claims,
            telemetry=self._telemetry,
        )

    async def _ask_readers(self) -> None:
        """Before anything is on the wire: whether all who read what its agents write can. Raises `BreaksReadersError`."""
        readers = Readers(self._bus, self._names, self._codec, policy=self._unreadable)
        for version in (version for consumer in self._consumers for version in consumer.versions):
            await readers.check(version.emits or (), agent=version.name)

    async def _tell_schemas(self) -> None:
        try:
            await tell_schemas(self._bus, self._names, self._classes())
        except BusError as error:
            # Nobody's work depends on it; whoever asks whom a change would break is told that it is not known.
            log.warning("its schemas are not told to others", extra={"reason": str(error)})

    async def _check_rights(self) -> None:
        """Raise `MissingRightError` for all that lacks at once. Of topics that were just made it is known only then."""
        roles = [role_of(consumer) for consumer in self._consumers]
        registry = self._store.framing is Framing.CONFLUENT
        rights = rights_of_all(roles, self._names, creates=False, registry=registry)
        needed = list(dict.fromkeys(right for some in rights.values() for right in some))
        await self._bus.require(needed)

    def _classes(self) -> set[type[Event]]:
        classes: set[type[Event]] = {Activity, AgentSeen, UndoRequested}
        for version in (version for consumer in self._consumers for version in consumer.versions):
            classes |= {*version.hears.values(), *(version.emits or ())}
        return classes

    async def _tell_progress(self) -> None:
        """While it stops, say every few seconds what that waits for."""
        await self._stopping.wait()
        while True:
            await asyncio.sleep(self._progress_s)
            waiting = {consumer.name: engine.in_flight() for consumer, engine in self._running()}
            for agent, in_hand in waiting.items():
                if in_hand:
                    oldest = [_told(one) for one in in_hand[:_OLDEST]]
                    extra = {"agent": agent, "left": len(in_hand), "oldest": oldest}
                    log.info("stopping: waiting for handlers", extra=extra)
            if not any(waiting.values()):
                log.info("stopping: every handler is done; waiting for the broker")

    def _running(self) -> Iterable[tuple[Consumer, Engine]]:
        return zip(self._consumers, self._engines, strict=True)

    async def _watch_ready(self) -> None:
        for engine in self._engines:
            await engine.ready.wait()
        self.ready.set()

    # Heartbeats.

    async def _measure_on(self) -> None:
        # Apart from the heartbeats: a broker that is slow to answer must not make them late.
        await self.ready.wait()
        while True:
            for engine in self._engines:
                try:
                    await engine.measure()
                except Exception as error:
                    log.debug("lag is not known", extra={"reason": str(error)})
            await asyncio.sleep(self._heartbeat_s)

    async def _beat_on(self) -> None:
        while True:
            try:
                await self._beat()
            except Exception as error:
                # A heartbeat that fails is late, nothing more; the engines notice a broker that is gone.
                log.warning("heartbeat not written", extra={"reason": str(error)})
            await asyncio.sleep(self._heartbeat_s)

    async def _say_goodbye(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self._beat(stopped=True)
        except Exception as error:
            log.warning("last heartbeat not written", extra={"reason": str(error)})

    async def _beat(self, *, stopped: bool = False) -> None:
        await self._bus.publish(
            [self._heartbeat(consumer, engine, stopped=stopped) for consumer, engine in self._running()]
        )

    def _heartbeat(self, consumer: Consumer, engine: Engine, *, stopped: bool) -> Outgoing:
        lag = engine.status().lag
        seen = AgentSeen(
            agent=consumer.name,
            version=consumer.version,
            instance=self.instance,
            started_us=self._started_us,
            time_us=now_us(),
            interval_s=self._heartbeat_s,
            stopped=stopped,
            hears=hears(consumer),
            emits=says(consumer),
            undoes=sorted(consumer.undoes),
            capacity=consumer.concurrency,
            in_flight=engine.in_flight(),
            max_hops=self._max_hops,
            lag=None if lag is None else sum(lag.values()),
            canary=canary(consumer),
        )
        key = f"{consumer.name}/{self.instance}"
        envelope = Envelope.root(AgentSeen.__event__.type, source=f"/agents/{consumer.name}")
        return Outgoing(self._names.topic(AGENTS), key.encode(), self._codec.encode(seen), to_headers(envelope))


def _told(job: InFlight) -> dict[str, object]:
    return {"event_id": job.event_id, "type": job.type, "since_s": round((now_us() - job.since_us) / 1e6, 1)}


def new_instance() -> str:
    """Make a name no other worker has: whoever shares one fences the other."""
    return f"{platform.node() or 'worker'}-{os.getpid()}-{root_id()[-6:]}"
