"""Members of a group that pause, begin again, come and go, with clients that take their time over any call.

`make jostle` reads half a million records; `ANTIPHON_JOSTLE` says another number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest

from antiphon.bus.errors import CommitError
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.client import GroupClient
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.port import Assigned, Lost, Member, Membership, Records, Revoked, Transaction
from antiphon.bus.record import Committed, Outgoing, Record, TopicPartition
from antiphon.testing.conformance.world import fresh, new_topic
from antiphon.testing.waiting import eventually

_RECORDS = int(os.environ.get("ANTIPHON_JOSTLE", "20000"))
_PARTITIONS, _SEATS = 3, 3
_AT_ONCE = 300
_UNTIL_S = 60 + _RECORDS / 500
_SLOW = (
    "incremental_assign",
    "assign",
    "incremental_unassign",
    "committed",
    "pause",
    "resume",
    "seek",
    "poll",
    "consume",
)


class Hesitant:
    """A client before and after any call to which time may pass: the machine is busy, the interpreter elsewhere."""

    def __init__(self, client: Any, chance: random.Random) -> None:
        self._client, self._chance = client, chance

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._client, name)
        if name not in _SLOW:
            return call

        def slowly(*args: Any, **kwargs: Any) -> Any:
            rare = {"poll": 0.03, "consume": 0.2}.get(name, 0.3)
            self._dawdle(rare)
            answer = call(*args, **kwargs)
            self._dawdle(rare)
            return answer

        return slowly

    def _dawdle(self, rare: float) -> None:
        if self._chance.random() < rare:
            # Seldom for longer than the half second after which the client asks some things again.
            time.sleep(self._chance.choice((0.002, 0.01, 0.02, 0.6 * self._chance.random())))


class Taker:
    """What the engine is to a member, without handlers: each partition on from where it began, in order, once."""

    def __init__(self, member: Member, seen: dict[TopicPartition, set[int]], chance: random.Random) -> None:
        self._member, self._seen, self._chance = member, seen, chance
        self._due: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self.faults: list[str] = []

    async def take(self) -> None:
        while True:
            match await self._member.take():
                case Records(records):
                    for record in records:
                        self._note(record)
                case Assigned(partitions):
                    for tp, committed in partitions.items():
                        self._due[tp] = 0 if committed is None else committed.offset
                    self._member.resume(partitions)
                case Revoked(partitions, release):
                    self._forget(partitions)
                    release()
                case Lost(partitions):
                    self._forget(partitions)
                case _:
                    pass

    def _note(self, record: Record) -> None:
        tp = TopicPartition(record.topic, record.partition)
        due = self._due.get(tp)
        if due is None:
            return
        if record.offset != due:
            self.faults.append(f"{tp}: {due} was next, {record.offset} came")
        self._due[tp] = record.offset + 1
        self._seen[tp].add(record.offset)

    def _forget(self, partitions: Collection[TopicPartition]) -> None:
        for tp in partitions:
            self._due.pop(tp, None)
            self._paused.discard(tp)

    async def jostle(self) -> None:
        while True:
            await asyncio.sleep(self._chance.random() * 0.2)
            if not self._due:
                continue
            tp = self._chance.choice([*self._due])
            match self._chance.choices(("pause", "again", "restart", "commit"), (8, 1, 1, 10))[0]:
                case "pause" if tp in self._paused:
                    self._paused.discard(tp)
                    self._member.resume([tp])
                case "pause":
                    self._paused.add(tp)
                    self._member.pause([tp])
                case "again":
                    self._forget([tp])
                    self._member.again([tp])
                case "commit":
                    await self._commit()
                case _:
                    await self._restart()

    async def _commit(self) -> None:
        try:
            await self._member.commit(Transaction([], {tp: Committed(due) for tp, due in self._due.items()}))
        except CommitError:
            await self._restart()

    async def _restart(self) -> None:
        self._forget([*self._due])
        await self._member.restart()


@asynccontextmanager
async def working(*tasks: asyncio.Task[None]) -> AsyncGenerator[None]:
    """End *tasks* behind the block, and raise what ended one of them."""
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.mark.kafka
@pytest.mark.parametrize("protocol", [None, GroupProtocol.CLASSIC], ids=["newest", "classic"])
async def test_jostled_members(kafka: str, protocol: GroupProtocol | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record comes to somebody, and to nobody before those in front of it; however the calls of the client fall."""
    seed = random.randrange(1_000_000)
    chance = random.Random(seed)
    really = GroupClient.__init__

    def hesitant(self: GroupClient, *args: Any) -> None:
        really(self, *args)
        self.consumer = Hesitant(self.consumer, chance)  # type: ignore[assignment]

    monkeypatch.setattr(GroupClient, "__init__", hesitant)
    bus = KafkaBus(KafkaConfig(bootstrap_servers=kafka, group_protocol=protocol))
    topics = [await new_topic(bus, name, _PARTITIONS) for name in ("orders", "stock")]
    group = fresh("group")
    seen = {TopicPartition(topic, number): set[int]() for topic in topics for number in range(_PARTITIONS)}
    written: Counter[TopicPartition] = Counter()
    takers: list[Taker] = []

    async def feed() -> None:
        while written.total() < _RECORDS:
            places = chance.choices([*seen], k=_AT_ONCE)
            await bus.publish([Outgoing(tp.topic, b"k", b"x" * 200, [], tp.partition) for tp in places])
            written.update(places)
            await asyncio.sleep(0.03)

    async def sit(seat: int) -> None:
        # One of them stays: whoever has had a partition before has more to mix up.
        member = await bus.join(Membership(group=group, topics=(*topics,), instance=f"{seat}-{len(takers)}"))
        taker = Taker(member, seen, chance)
        takers.append(taker)
        try:
            async with working(asyncio.create_task(taker.take()), asyncio.create_task(taker.jostle())):
                await asyncio.sleep(_UNTIL_S if seat == 0 else 0.5 + 3.0 * chance.random())
        finally:
            await member.close()

    async def occupy(seat: int) -> None:
        while True:
            await sit(seat)

    def through() -> bool:
        return any(taker.faults for taker in takers) or (
            written.total() >= _RECORDS and all(len(seen[tp]) == written[tp] for tp in seen)
        )

    try:
        async with working(asyncio.create_task(feed()), *(asyncio.create_task(occupy(seat)) for seat in range(_SEATS))):
            await eventually(through, _UNTIL_S, what=f"all records to be seen; seed {seed}")
    finally:
        await bus.close()
    assert (seed, [fault for taker in takers for fault in taker.faults]) == (seed, [])
