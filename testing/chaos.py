"""What goes wrong in one simulated run: workers that come, go, crash and stall, at moments drawn from a seed."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from antiphon.agents.worker import Worker
from antiphon.bus.clock import Clock
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import current
from antiphon.bus.engine import Engine, EngineSettings
from antiphon.bus.errors import CommitError, MemberFailedError
from antiphon.bus.memory import MemoryBus, MemoryMember, Point
from antiphon.bus.names import Names
from antiphon.bus.port import Features, Membership, TopicSpec
from antiphon.bus.record import Outgoing, Position, Record, TopicPartition
from antiphon.bus.retry import RetryPolicy
from antiphon.bus.right import Right
from antiphon.bus.state import Memory
from antiphon.bus.states import StateSettings
from antiphon.schemas.codec import Codec
from antiphon.schemas.event import Event
from antiphon.schemas.store import MemoryStore


class Fault(StrEnum):
    """What may go wrong in a simulation."""

    CRASH = "crashed"
    """A worker ends without a word, as after kill -9; its group notices at once, or after a while."""
    EXPIRE = "expired"
    """The group takes a member for dead while it lives: a zombie, as after SIGSTOP."""
    LOSE_ANSWER = "lost a commit's answer"
    """It was committed, and the worker is told that it was not."""
    REFUSE_COMMIT = "had a commit refused"
    """It was not committed."""
    DELAY = "was delayed"
    """A call to the broker takes long, up to longer than a transaction may."""
    JOIN = "was joined by another worker"
    """Which takes partitions over; it may have the name of one that lives, and fence it."""
    LEAVE = "was stopped"
    """In an orderly way: what runs is finished and committed."""
    FAIL = "raised in a handler"
    """Before the agent's own handler runs, or after. Never so often that an event is given up."""
    STALL = "stalled in a handler"
    """A handler takes long, up to longer than a partition that is wanted back waits for it."""


class SimulatedError(Exception):
    """Raised in a handler's place by a simulation."""


_ODDS = 0.08  # of a fault, at each point where there may be one
_DELAYS_S = (0.001, 0.3, 6.0, 12.0)
_AFTER_S = 30.0  # virtual; what is still to go wrong by then does not
_IN_HANDLERS = (Fault.CRASH, Fault.FAIL, Fault.STALL, Fault.JOIN, Fault.LEAVE)
_AT_COMMITS = (Fault.REFUSE_COMMIT, Fault.CRASH, Fault.EXPIRE, Fault.DELAY, Fault.JOIN, Fault.LEAVE)
_AT_ANSWERS = (Fault.LOSE_ANSWER, Fault.CRASH, Fault.EXPIRE, Fault.DELAY)
_ELSEWHERE = (Fault.CRASH, Fault.EXPIRE, Fault.DELAY, Fault.JOIN, Fault.LEAVE)
_POSSIBLE = {Point.COMMIT: _AT_COMMITS, Point.WRITTEN: _AT_COMMITS, Point.COMMITTED: _AT_ANSWERS}


@dataclasses.dataclass(eq=False)
class _Running:
    """A worker and what the simulation knows of it."""

    name: str
    worker: Worker
    task: asyncio.Task[int]
    members: list[MemoryMember] = dataclasses.field(default_factory=list[MemoryMember])
    crashed: bool = False
    stopped: bool = False


class _Worker(Worker):
    """A worker that has learnt its schemas already, as that takes longer than all else, and that may have tight limits."""

    def __init__(self, codec: Codec, chance: random.Random, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._codec = codec
        self._batch = chance.choice((1, 3, 1_000))
        self._most_pending = chance.choice((1, 2_000))
        self._commits = _Drawn(of=RetryPolicy(attempts=20, base_s=0.1, cap_s=5.0), chance=chance)
        if self._state.folder is not None:
            memory = Memory(chance.choice((1, 2_000, 64 * 1024 * 1024)))
            self._state = dataclasses.replace(self._state, memory=memory, every_s=chance.choice((0.05, 0.5, 5.0)))

    def _engine(self, consumer: Consumer, width: int) -> Engine:
        settings = EngineSettings(
            instance=self.instance,
            partitions=width,
            batch=self._batch,
            most_pending=self._most_pending,
            commits=self._commits,
            state=self._state,
            clock=self._clock,
        )
        return Engine(self._bus, consumer, names=self._names, codec=self._codec, settings=settings)


class Chaos:
    """Runs workers for *consumers* on a bus of its own, and sees to it that things go wrong until `calm`.

    With *before*, the same agents of an older version, each worker is of the one or the other until then.
    """

    def __init__(  # noqa: PLR0913 - as many as `Simulation` has
        self,
        consumers: Sequence[Consumer],
        *,
        before: Sequence[Consumer] = (),
        seed: int,
        codec: Codec,
        partitions: int,
        workers: int,
        faults: Collection[Fault],
        most: int,
        state_dir: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.chance = random.Random(f"faults of {seed}")  # noqa: S311 - a simulation has to come again
        self.bus = MemoryBus(partitions=partitions, seed=seed, faults=self._at_point)
        self.happened: list[str] = []
        """What went wrong, in order."""
        self.unexpected: list[BaseException] = []
        """What ended a worker, and should not have."""
        self._consumers = consumers
        self._versions = [consumers, before] if before else [consumers]
        self._codec = codec
        self._clock = clock
        self._partitions = partitions
        self._state = StateSettings(folder=state_dir)
        self._most_workers = workers
        self._kinds = frozenset(faults)
        self._left = self.chance.randint(1, most) if faults and most else 0
        self._running: list[_Running] = []
        self._owners: dict[MemoryMember, _Running] = {}
        self._began = asyncio.get_running_loop().time()

    @property
    def over(self) -> bool:
        """Whether nothing more will go wrong."""
        return self._left == 0 or self._now() > _AFTER_S

    def tend(self) -> None:
        """See what ended, and start another worker where none is left."""
        for running in [running for running in self._running if running.task.done()]:
            self._running.remove(running)
            error = None if running.task.cancelled() else running.task.exception()
            # One that crashed, or whose name another took, is told so by its bus.
            if error is not None and not isinstance(error, MemberFailedError):
                self.unexpected.append(error)
        if not self._running:
            self._start(f"worker-{self.chance.randrange(4)}")

    async def calm(self) -> None:
        """Let nothing more go wrong: all workers stop in an orderly way, and one takes over that nothing happens to."""
        self._left = 0
        await self._end_all()
        self._versions = [self._consumers]
        self._start("successor")

    async def end(self) -> None:
        """Stop what runs."""
        await self._end_all()

    async def _end_all(self) -> None:
        for running in self._running:
            running.worker.stop()
        if self._running:
            _, late = await asyncio.wait([running.task for running in self._running], timeout=120)
            for task in late:
                task.cancel()
                self.unexpected.append(TimeoutError(f"{task.get_name()} did not stop within 120 s"))
        self._running_done()

    def _running_done(self) -> None:
        for running in self._running:
            if running.task.done() and not running.task.cancelled():
                error = running.task.exception()
                if error is not None and not isinstance(error, MemberFailedError):
                    self.unexpected.append(error)
        self._running.clear()

    def _start(self, name: str) -> None:
        edge = _Edge(self)
        consumers = self._versions[0] if len(self._versions) == 1 else self.chance.choice(self._versions)
        worker = _Worker(
            self._codec,
            self.chance,
            edge,
            [edge.watched(consumer) for consumer in consumers],
            names=Names(),
            store=MemoryStore(),
            instance=name,
            partitions=self._partitions,
            heartbeat_s=3_600,
            state=self._state,
            clock=self._clock,
        )
        edge.running = _Running(name, worker, asyncio.create_task(worker.run(), name=name))
        self._running.append(edge.running)

    # Faults.

    async def _at_point(self, point: Point, member: MemoryMember) -> None:
        running = self._owners.get(member)
        if running is not None:
            where = f"{member.membership.group}, {point.value}"
            await self.strike(running, _POSSIBLE.get(point, _ELSEWHERE), where, member)

    async def strike(
        self, running: _Running, possible: Iterable[Fault], where: str, member: MemoryMember | None = None
    ) -> None:
        """Do one of *possible* to *running*, or, mostly, nothing."""
        if self.over or running.crashed or self.chance.random() > _ODDS:
            return
        kinds = [kind for kind in possible if kind in self._kinds and (member is not None or kind is not Fault.EXPIRE)]
        if not kinds:
            return
        kind = self.chance.choice(kinds)
        if kind is Fault.JOIN and len(self._running) >= self._most_workers:
            return
        if kind in (Fault.FAIL, Fault.STALL) and not _is_first_attempt():
            return
        self._left -= 1
        await self._do(kind, running, where, member)

    async def _do(self, kind: Fault, running: _Running, where: str, member: MemoryMember | None) -> None:
        match kind:
            case Fault.CRASH:
                await self._crash(running, where)
            case Fault.EXPIRE if member is not None:
                self._note(kind, running, where)
                self.bus.expire(member)
            case Fault.DELAY | Fault.STALL:
                delay_s = self.chance.choice(_DELAYS_S)
                self._note(kind, running, where, f"for {delay_s:g} s")
                await asyncio.sleep(delay_s)
            case Fault.JOIN:
                name = f"worker-{self.chance.randrange(4)}"
                self._note(kind, running, where, name)
                self._start(name)
            case Fault.LEAVE:
                self._note(kind, running, where)
                running.stopped = True
                running.worker.stop()
            case Fault.FAIL:
                self._note(kind, running, where)
                raise SimulatedError
            case _:
                self._note(kind, running, where)
                raise CommitError("TIMED_OUT")

    async def _crash(self, running: _Running, where: str) -> NoReturn:
        unnoticed_s = self.chance.choice((0.0, 0.5, 10.0))
        self._note(Fault.CRASH, running, where, f"unnoticed for {unnoticed_s:g} s" if unnoticed_s else "")
        running.crashed = True
        for member in running.members:
            self.bus.crash(member, unnoticed_s=unnoticed_s)
        running.task.cancel()
        await asyncio.Event().wait()  # the dead do nothing more
        raise AssertionError  # pragma: no cover - it is cancelled there

    def _note(self, kind: Fault, running: _Running, where: str, more: str = "") -> None:
        told = f"{self._now():9.4f} s  {running.name} ({where}) {kind.value} {more}"
        self.happened.append(told.rstrip())

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began

    def joined(self, member: MemoryMember, running: _Running) -> None:
        """Note whose member it is."""
        running.members.append(member)
        self._owners[member] = running


class _Edge:
    """One worker's way to the bus: a `Bus` at whose every call something may go wrong."""

    running: _Running

    def __init__(self, chaos: Chaos) -> None:
        self._chaos = chaos
        self._bus = chaos.bus

    def watched(self, consumer: Consumer) -> Consumer:
        """Return *consumer*, with a handler that may fail or stall, and waits drawn from the seed."""
        possible = [
            kind
            for kind in _IN_HANDLERS
            if kind not in (Fault.FAIL, Fault.STALL) or not consumer.retry.gives_up(1, SimulatedError())
        ]

        async def handler(event: Event) -> Sequence[Event]:
            await self._pass(possible, f"{consumer.name}, before handling")
            produced = await consumer.handler(event)
            await self._pass(possible, f"{consumer.name}, after handling")
            return produced

        retry = _Drawn(of=consumer.retry, chance=self._chaos.chance)
        canary = None if consumer.canary is None else self.watched(consumer.canary)
        return dataclasses.replace(consumer, handler=handler, retry=retry, canary=canary)

    async def _pass(self, possible: Iterable[Fault], where: str) -> None:
        for _ in range(self._chaos.chance.randrange(3)):
            await asyncio.sleep(0)
        await self._chaos.strike(self.running, possible, where)

    async def _call(self, what: str) -> None:
        if self.running.crashed:
            raise MemberFailedError(what, "it crashed")
        await self._chaos.strike(self.running, _ELSEWHERE, what)

    @property
    def features(self) -> Features:
        return self._bus.features

    async def join(self, membership: Membership) -> MemoryMember:
        await self._call(f"{membership.group}, join")
        member = await self._bus.join(membership)
        self._chaos.joined(member, self.running)
        return member

    async def publish(self, records: Sequence[Outgoing]) -> list[Position]:
        await self._call("publish")
        return await self._bus.publish(records)

    async def read(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Record, None]:
        await self._call("read")
        async for record in self._bus.read(start, stop):
            yield record

    async def read_batches(
        self, start: Mapping[TopicPartition, int], stop: Mapping[TopicPartition, int] | None = None
    ) -> AsyncGenerator[Sequence[Record], None]:
        await self._call("read")
        async for batch in self._bus.read_batches(start, stop):
            yield batch

    def partition_for(self, key: bytes, partitions: int) -> int:
        return self._bus.partition_for(key, partitions)

    async def identities(self, topics: Iterable[str]) -> dict[str, str]:
        await self._call("identities")
        return await self._bus.identities(topics)

    async def require(self, rights: Collection[Right]) -> None:
        await self._bus.require(rights)

    async def bounds(self, topics: Iterable[str], *, committed: bool = True) -> dict[TopicPartition, tuple[int, int]]:
        await self._call("bounds")
        return await self._bus.bounds(topics, committed=committed)

    async def offsets_at(self, partitions: Iterable[TopicPartition], timestamp_ms: int) -> dict[TopicPartition, int]:
        return await self._bus.offsets_at(partitions, timestamp_ms)

    async def topics(self) -> dict[str, int]:
        return await self._bus.topics()

    async def create(self, topics: Sequence[TopicSpec]) -> list[str]:
        return await self._bus.create(topics)

    async def remove(self, namespace: str) -> list[str]:
        return await self._bus.remove(namespace)

    async def close(self) -> None:
        await self._bus.close()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Drawn(RetryPolicy):
    """Another policy, with its jitter drawn from the seed."""

    of: RetryPolicy
    chance: random.Random

    def delay_s(self, attempt: int, random: random.Random) -> float:  # noqa: ARG002 - the engine's own draws differ each time
        return self.of.delay_s(attempt, self.chance)

    def gives_up(self, attempt: int, error: BaseException) -> bool:
        return self.of.gives_up(attempt, error)


def _is_first_attempt() -> bool:
    # Only that one may fail: what is given up is to be given up by the agent.
    delivery = current.get(None)
    return delivery is not None and delivery.attempt == 1
