"""A mesh in memory, for tests of agents and of the mesh itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from typing import Any, TypeVar

from antiphon.agents.agent import Agent, agent_of
from antiphon.agents.worker import Worker
from antiphon.bus.activity import Activity, Handled
from antiphon.bus.claims import Claims
from antiphon.bus.consumer import Consumer
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.names import ACTIVITY, Names
from antiphon.bus.port import Bus
from antiphon.bus.publisher import Publisher
from antiphon.bus.record import Record
from antiphon.bus.topics import ensure
from antiphon.compensation.orchestrator import Saga
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, from_headers
from antiphon.schemas.event import Event
from antiphon.schemas.store import MemoryStore, SchemaStore
from antiphon.testing.waiting import eventually

E = TypeVar("E", bound=Event)


class MemoryMesh:
    """A whole mesh in this process: a bus in memory, workers, and what a read_committed reader sees.

        async def test_triage() -> None:
            mesh = MemoryMesh()
            async with mesh.running(triage):
                await mesh.publish(TicketOpened(ticket_id="7", body="refund?"))
                [triaged] = await mesh.eventually(TicketTriaged, count=1)

    The engine, the codec and the wire are those that run on Kafka. With a *bus*
    and *names* of your own it is a mesh on a real broker, agents in this process.
    """

    def __init__(
        self,
        partitions: int = 4,
        *,
        bus: Bus | None = None,
        claims: Claims | None = None,
        names: Names | None = None,
        store: SchemaStore | None = None,
    ) -> None:
        self.partitions = partitions
        self.bus: Bus = bus or MemoryBus(partitions=partitions)
        self.names = names or Names()
        self.store = store or MemoryStore()
        self.codec = Codec(self.store)
        self.claims = claims or Claims()
        self.publisher = Publisher(self.bus, self.codec, self.names, claims=self.claims)

    async def prepare(self, *agents: object) -> None:
        """Make the topics, so that events may be published before a worker starts."""
        await ensure(self.bus, consumers_of(agents), self.names, partitions=self.partitions, may_create=True)

    def worker(self, *agents: object, **more: Any) -> Worker:
        """Make a worker for *agents*: decorated functions, `Agent`s or `Consumer`s."""
        more.setdefault("heartbeat_s", 60)
        return Worker(
            self.bus,
            consumers_of(agents),
            names=self.names,
            store=self.store,
            claims=self.claims,
            partitions=self.partitions,
            **more,
        )

    @contextlib.asynccontextmanager
    async def running(self, *agents: object, **more: Any) -> AsyncGenerator[Worker]:
        """Run a worker for the length of the block, then drain it."""
        worker = self.worker(*agents, **more)
        task = asyncio.create_task(worker.run())
        await asyncio.wait([task, asyncio.create_task(worker.ready.wait())], return_when=asyncio.FIRST_COMPLETED)
        try:
            yield worker
        finally:
            worker.stop()
            async with asyncio.timeout(10):
                await task

    async def publish(self, *events: Event, key: str | None = None) -> None:
        for event in events:
            await self.publisher.publish([event], key=key)

    async def records(self, topic: str) -> list[Record]:
        """Return all that is committed on *topic*, its plain name."""
        bounds = await self.bus.bounds([self.names.topic(topic)])
        stop = {tp: end for tp, (_, end) in bounds.items()}
        return [record async for record in self.bus.read({tp: first for tp, (first, _) in bounds.items()}, stop)]

    async def events(self, event_class: type[E]) -> list[tuple[Envelope, E]]:
        """Return the committed events of a class with their envelopes."""
        found: list[tuple[Envelope, E]] = []
        for record in await self.records(event_class.__event__.topic):
            envelope = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
            if envelope.type == event_class.__event__.type:  # several may share a topic
                found.append((envelope, self.codec.decode(event_class, await self.claims.value_of(record))))
        return found

    async def handled(self) -> list[Handled]:
        """Return what activity says, in order."""
        return [
            entry
            for record in await self.records(ACTIVITY)
            for entry in self.codec.decode(Activity, record.value or b"").deliveries
        ]

    async def eventually(self, event_class: type[E], *, count: int, timeout: float = 10.0) -> list[E]:
        """Wait until *count* events of a class are committed, and return them; fails the test after *timeout* seconds."""
        found: list[E] = []

        async def there() -> bool:
            found[:] = [event for _, event in await self.events(event_class)]
            return len(found) >= count

        await eventually(there, timeout, what=f"{count} of {event_class.__event__.type}")
        return found


def consumers_of(agents: Iterable[object]) -> list[Consumer]:
    """Return *agents*, decorated functions, `Agent`s, `Saga`s or `Consumer`s, as the engine runs them."""
    return [found if isinstance(found, Consumer) else _agent(found).consumer() for found in agents]


def _agent(found: object) -> Agent | Saga:
    agent = found if isinstance(found, Saga) else agent_of(found)
    if agent is None:
        message = f"expected an agent (a function with @agent, an Agent, a Saga or a Consumer), got {found!r}"
        raise TypeError(message)
    return agent
