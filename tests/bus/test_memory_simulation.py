"""Workers that crash, stall and lose answers, in orders drawn from a seed: at the end everything was done once."""

import asyncio
import random

import pytest

from antiphon.bus.errors import CommitError, MemberFailedError
from antiphon.bus.memory import MemoryBus, MemoryMember, Point
from antiphon.bus.offsets import Progress
from antiphon.bus.port import Assigned, Jumped, Lost, Membership, Records, Revoked, TopicSpec, Transaction
from antiphon.bus.record import Outgoing, Record, TopicPartition
from antiphon.testing import eventually
from antiphon.testing.virtual import run_virtually

PARTITIONS, RECORDS = 3, 120


class Copier:
    """Copies one topic to another, finishing in any order and committing a few at a time; gives up when it must."""

    def __init__(self, member: MemoryMember, chance: random.Random) -> None:
        self.member = member
        self._chance = chance
        self._progress: dict[TopicPartition, Progress] = {}
        self._in_hand: list[Record] = []

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._take())
                tasks.create_task(self._commit())
        except* MemberFailedError:
            pass  # it crashed, or another took its name

    async def _take(self) -> None:
        while True:
            match await self.member.take():
                case Assigned(partitions):
                    for partition, committed in partitions.items():
                        self._progress[partition] = Progress.from_committed(committed)
                    self.member.resume([*partitions])
                case Revoked(partitions, release):
                    self._forget(partitions)
                    release()
                case Lost(partitions):
                    self._forget(partitions)
                case Jumped():
                    pass
                case Records(records):
                    for record in records:
                        if self._progress[TopicPartition(record.topic, record.partition)].take(record.offset):
                            self._in_hand.append(record)

    def _forget(self, partitions: frozenset[TopicPartition]) -> None:
        for partition in partitions:
            self._progress.pop(partition, None)
        self._in_hand = [it for it in self._in_hand if TopicPartition(it.topic, it.partition) in self._progress]

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(0)
            self._chance.shuffle(self._in_hand)
            batch = [self._in_hand.pop() for _ in range(min(len(self._in_hand), self._chance.randint(1, 9)))]
            if not batch:
                # Nothing in hand: let time pass rather than spin.
                await asyncio.sleep(0.001)
                continue
            touched: dict[TopicPartition, Progress] = {}
            for record in batch:
                partition = TopicPartition(record.topic, record.partition)
                touched[partition] = self._progress[partition]
                touched[partition].finish(record.offset)
            outputs = [Outgoing("out", None, record.value, [], record.partition) for record in batch]
            try:
                await self.member.commit(Transaction(outputs, {tp: it.committed() for tp, it in touched.items()}))
            except CommitError:
                self._forget(frozenset(self._progress))
                await self.member.restart()


class Chaos:
    """Puts faults at the members' points, and starts another worker for every one that is gone."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self._left = 25
        self.bus = MemoryBus(seed=seed, faults=self._fault)
        self.workers: dict[MemoryMember, asyncio.Task[None]] = {}
        self._started = 0

    async def start(self) -> None:
        self._started += 1
        # A name may come again while its former bearer still lives.
        name = f"worker-{self._chance.randrange(6)}"
        member = await self.bus.join(Membership(group="copy", topics=("in",), instance=name, revoke_grace_s=0.005))
        self.workers[member] = asyncio.create_task(Copier(member, self._chance).run())

    async def _fault(self, point: Point, member: MemoryMember) -> None:
        if self._left == 0 or self._chance.random() > 0.1:
            return
        self._left -= 1
        match self._chance.randrange(5):
            case 0:
                self.bus.crash(member, unnoticed_s=self._chance.choice((0.0, 0.002)))
            case 1:
                self.bus.expire(member)
            case 2 if point is not Point.TAKE:
                raise CommitError("TIMED_OUT")
            case 3:
                await asyncio.sleep(0.003)
            case _:
                await self.start()

    async def copied(self) -> bool:
        for member, task in [*self.workers.items()]:
            if task.done():
                task.result()
                del self.workers[member]
        while len(self.workers) < 2:
            await self.start()
        return len(await read(self.bus)) >= RECORDS

    async def stop(self) -> None:
        for member, task in self.workers.items():
            task.cancel()
            await member.close()
        await asyncio.gather(*self.workers.values(), return_exceptions=True)


async def read(bus: MemoryBus) -> list[Record]:
    bounds = await bus.bounds(["out"])
    stop = {partition: end for partition, (_, end) in bounds.items()}
    return [record async for record in bus.read(dict.fromkeys(stop, 0), stop)]


WANTED = [(number % PARTITIONS, b"%d" % number) for number in range(RECORDS)]


async def simulate(seed: int) -> list[tuple[int, bytes]]:
    """Return what was copied, partition and value, in the order of the topic."""
    chaos = Chaos(seed)
    await chaos.bus.create([TopicSpec("in", PARTITIONS), TopicSpec("out", PARTITIONS)])
    await chaos.bus.publish([Outgoing("in", None, value, [], partition) for partition, value in WANTED])
    try:
        await eventually(chaos.copied, what="everything to be copied")
    finally:
        await chaos.stop()
    return [(record.partition, record.value or b"") for record in await read(chaos.bus)]


@pytest.mark.parametrize("seed", range(60))
def test_everything_once(seed: int) -> None:
    """No lost-write, no duplicate, no aborted-read, whatever goes wrong in the middle of a commit."""
    assert sorted(run_virtually(simulate(seed))) == sorted(WANTED)


def test_a_seed_gives_the_same_run_again() -> None:
    """With time-outs and all, so that what a simulation finds can be looked at."""
    runs = [run_virtually(simulate(seed)) for seed in (1, 1, 2, 2)]
    assert (runs[0] == runs[1], runs[2] == runs[3], runs[0] == runs[2]) == (True, True, False)
