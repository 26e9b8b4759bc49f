"""A mesh in this process: the agents of a file, on a broker in memory, for as long as `antiphon try` takes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from antiphon.agents.worker import Worker
from antiphon.bus.activity import Activity
from antiphon.bus.claims import Claims, MemoryClaims
from antiphon.bus.consumer import Consumer
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.names import ACTIVITY, Names
from antiphon.bus.publisher import Published, Publisher
from antiphon.bus.record import TopicPartition
from antiphon.replay.ledger import Ledger
from antiphon.schemas.codec import Codec
from antiphon.schemas.event import Event
from antiphon.schemas.store import MemoryStore
from antiphon.tracing.reading import read_workflow
from antiphon.tracing.records import decoded
from antiphon.tracing.workflow import Workflow

_PARTITIONS = 4
_NAMES = Names("")


class Sandbox:
    """A running mesh in memory. Made by `running`."""

    def __init__(
        self, bus: MemoryBus, codec: Codec, claims: Claims, worker: asyncio.Task[int], consumers: Sequence[Consumer]
    ) -> None:
        self._bus = bus
        self._codec = codec
        self._claims = claims
        self._worker = worker
        self._ledger = Ledger(consumers)

    async def publish(self, events: Sequence[Event]) -> list[Published]:
        """Publish *events*, each the root of a workflow."""
        publisher = Publisher(self._bus, self._codec, _NAMES, source="/cli/try", claims=self._claims)
        published = await publisher.publish(events)
        for root in published:
            self._ledger.published(root.id, root.type, root.correlation_id)
        return published

    async def outcome(self, roots: Sequence[Published], *, timeout_s: float) -> list[Workflow]:
        """Wait until nothing is outstanding in the workflows of *roots*, or the time is up; return them as they are then."""
        done: dict[str, Workflow] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._until_settled({root.correlation_id for root in roots}, done)
        return [done.get(root.correlation_id) or await self._workflow(root.correlation_id) for root in roots]

    async def _until_settled(self, waiting: set[str], done: dict[str, Workflow]) -> None:
        await self._check(waiting & {id for id in waiting if self._ledger.settled(id)}, waiting, done)
        watch = asyncio.create_task(self._watch(waiting, done))
        # A worker that dies takes the wait with it, and its error is what the user must see.
        try:
            await asyncio.wait([watch, self._worker], return_when=asyncio.FIRST_COMPLETED)
            if self._worker.done():
                await self._worker
            await watch
        finally:
            watch.cancel()

    async def _watch(self, waiting: set[str], done: dict[str, Workflow]) -> None:
        if not waiting:
            return
        start = {TopicPartition(ACTIVITY, partition): 0 for partition in range(_PARTITIONS)}
        async for record in self._bus.read(start):
            activity = await decoded(self._codec, Activity, record)
            touched: set[str] = set()
            if activity is None:
                continue
            for delivery in activity.deliveries:
                self._ledger.handled(activity.agent, delivery)
                touched.add(delivery.correlation_id)
            await self._check({id for id in touched & waiting if self._ledger.settled(id)}, waiting, done)
            if not waiting:
                return

    async def _check(self, candidates: set[str], waiting: set[str], done: dict[str, Workflow]) -> None:
        for id in candidates:
            workflow = await self._workflow(id)
            if workflow.settled:
                done[id] = workflow
                waiting.discard(id)

    async def _workflow(self, correlation_id: str) -> Workflow:
        workflow = await read_workflow(self._bus, _NAMES, self._codec, correlation_id, claims=self._claims)
        if workflow is None:
            message = f"the workflow {correlation_id} that was just published is gone"
            raise RuntimeError(message)
        return workflow


@contextlib.asynccontextmanager
async def running(consumers: Sequence[Consumer]) -> AsyncGenerator[Sandbox]:
    """Run *consumers* on a broker in memory while the context lasts."""
    bus, store = MemoryBus(partitions=_PARTITIONS), MemoryStore()
    # Whatever is configured: large events go through, and leave nothing behind.
    claims = Claims(MemoryClaims())
    worker = Worker(
        bus,
        consumers,
        names=_NAMES,
        store=store,
        claims=claims,
        instance="try",
        partitions=_PARTITIONS,
        create_topics=True,
        grace_s=0,
    )
    task = asyncio.create_task(worker.run())
    ready = asyncio.create_task(worker.ready.wait())
    try:
        await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield Sandbox(bus, Codec(store), claims, task, consumers)
    finally:
        ready.cancel()
        task.cancel()
        await asyncio.wait([task, ready])
        await bus.close()
