"""What the client gives of a partition that is not to be read now, or not from there, nobody takes."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.kafka import polling
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.kafka.ownership import Ownership
from antiphon.bus.kafka.polling import Polling
from antiphon.bus.port import Assigned, Lost, Membership, Records, Revoked, Taken
from antiphon.bus.record import TopicPartition
from antiphon.testing.waiting import eventually

P0 = TopicPartition("orders", 0)
R0 = TopicPartition("orders.redrive", 0)
_GIVES_UP_S = 10.0


class Came:
    """A record as the client gives it."""

    def __init__(self, offset: int) -> None:
        self._offset = offset

    def error(self) -> None:
        return None

    def topic(self) -> str:
        return P0.topic

    def partition(self) -> int:
        return P0.partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def headers(self) -> list[tuple[str, bytes]]:
        return []

    def timestamp(self) -> tuple[int, int]:
        return 1, 0


class Client:
    """A `Consumer` of one partition that does what a test says, each thing once and in order; asked again it has nothing."""

    def __init__(self, committed: Sequence[int]) -> None:
        self._committed = iter(committed)
        self._polled: deque[Callable[[], Came | None]] = deque()
        self._consumed: deque[Callable[[], list[Came]]] = deque()
        self._asked = threading.Event()
        self.asked_for: list[set[TopicPartition]] = []
        """Of which partitions it was asked what is committed."""
        self.unsettled: set[TopicPartition] = set()
        """Of which a transaction is under way elsewhere."""
        self.sought: list[int] = []
        self.on_assign: Callable[[Any, list[Offset]], None]
        self.on_revoke: Callable[[Any, list[Offset]], None]

    def polls(self, act: Callable[[], Came | None], consumes: Callable[[], list[Came]] = list) -> None:
        """Have one poll do *act*, and the call for more behind it *consumes*."""
        self._consumed.append(consumes)
        self._polled.append(act)

    @property
    def has_nothing(self) -> bool:
        """Whether all that a test said is done."""
        return not self._polled

    def assigns(self, *partitions: TopicPartition) -> None:
        self.on_assign(self, [Offset(*partition) for partition in partitions or (P0,)])

    def revokes(self) -> None:
        self.on_revoke(self, [Offset(*P0)])

    def subscribe(self, _: list[str], *, on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.on_assign, self.on_revoke = on_assign, on_revoke

    def poll(self, wait_s: float) -> Came | None:
        if self._polled:
            came = self._polled.popleft()()
            if came is None:
                self._consumed.popleft()  # nobody asks for more of nothing
            return came
        self._asked.wait(min(wait_s, 0.001))
        return None

    def consume(self, _: int, __: float) -> list[Came]:
        return self._consumed.popleft()()

    def committed(self, partitions: list[Offset], timeout: float) -> list[Offset]:
        self.asked_for.append({TopicPartition(one.topic, one.partition) for one in partitions})
        return [self._answer(TopicPartition(one.topic, one.partition)) for one in partitions]

    def _answer(self, partition: TopicPartition) -> Any:
        if partition in self.unsettled:
            return SimpleNamespace(**partition._asdict(), error=KafkaError(KafkaError.UNSTABLE_OFFSET_COMMIT))
        return Offset(*partition, next(self._committed))

    def seek(self, offset: Offset) -> None:
        self.sought.append(offset.offset)

    def consumer_group_metadata(self) -> object:
        return object()

    def pause(self, _: list[Offset]) -> None:
        pass

    resume = incremental_assign = incremental_unassign = pause

    def list_topics(self, *_: object, **__: object) -> Any:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))  # noqa: SLF001 - as librdkafka spells its own errors

    def close(self) -> None:
        pass


@asynccontextmanager
async def polling_of(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    *,
    topics: tuple[str, ...] = (P0.topic,),
    ownership: Ownership | None = None,
) -> AsyncGenerator[Polling]:
    def make(*_: object, **__: object) -> Client:
        return client

    monkeypatch.setattr(polling, "Consumer", make)
    member = Polling(
        KafkaConfig(bootstrap_servers="127.0.0.1:1"),
        Membership(group="g", topics=topics, instance="i", deciding=R0.topic),
        GroupProtocol.CONSUMER,
        ownership or Ownership(),
        lambda: True,
        lambda: None,
        embedded=False,
    )
    member.start()
    try:
        yield member
    finally:
        member.close()
        await asyncio.wrap_future(member.finished)


async def taken(member: Polling, kind: type[Taken]) -> Any:
    async with asyncio.timeout(_GIVES_UP_S):
        got = await member.inbox.take()
    assert isinstance(got, kind), got
    return got


async def resume(member: Polling, client: Client) -> None:
    """Return once it is sought: what the client has in hand before that is not what was asked for."""
    sought = len(client.sought)
    member.inbox.resume([P0])
    member.resume([P0])
    await eventually(lambda: len(client.sought) > sought, _GIVES_UP_S, what="the partition to be sought")


async def offsets(member: Polling) -> list[int]:
    return [record.offset for record in (await taken(member, Records)).records]


async def test_what_was_in_hand_when_a_partition_was_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Given back it begins where it is committed: what came late, from further on, would pass for all that comes before it."""
    client = Client([0, 1])
    client.polls(client.assigns)
    async with polling_of(client, monkeypatch) as member:
        await taken(member, Assigned)
        await resume(member, client)
        client.polls(lambda: Came(0))
        assert await offsets(member) == [0]
        member.inbox.pause([P0])
        member.pause([P0])

        def taken_away() -> list[Came]:
            client.revokes()
            client.assigns()
            return []

        client.polls(lambda: Came(2), taken_away)
        (await taken(member, Revoked)).release()
        assert (await taken(member, Assigned)).partitions[P0].offset == 1
        await resume(member, client)
        client.polls(lambda: Came(1), lambda: [Came(2)])
        assert (await offsets(member), client.sought) == ([1, 2], [0, 1])


async def test_what_comes_before_a_partition_is_to_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has just been given, and one of which is only known since when: it is sought first, and read from there."""
    client = Client([OFFSET_BEGINNING])
    client.polls(client.assigns)
    client.polls(lambda: Came(0))
    async with polling_of(client, monkeypatch) as member:
        await taken(member, Assigned)
        client.polls(lambda: Came(1))
        await eventually(lambda: client.has_nothing, _GIVES_UP_S, what="that to be polled")
        await resume(member, client)
        client.polls(lambda: Came(0), lambda: [Came(1)])
        assert (await offsets(member), client.sought) == ([0, 1], [OFFSET_BEGINNING])


async def test_a_client_that_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told again where to go on, unless it is there by now: a topic is long."""
    client = Client([0])
    client.polls(client.assigns)
    async with polling_of(client, monkeypatch) as member:
        await taken(member, Assigned)
        await resume(member, client)
        client.polls(lambda: Came(0), lambda: [Came(1), Came(2)])
        client.polls(lambda: Came(0), lambda: [Came(1)])
        client.polls(lambda: Came(3), lambda: [Came(0), Came(1)])
        client.polls(lambda: Came(2), lambda: [Came(3), Came(4), Came(5)])
        got = [await offsets(member) for _ in range(3)]
        assert (got, client.sought) == ([[0, 1, 2], [3], [4, 5]], [0, 3, 4])


async def test_what_shares_state_is_given_once_nothing_of_it_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is given one partition of a number restores its state: a transaction of another one may still change that."""
    client = Client([0, 0, 7, 7])
    client.polls(lambda: client.assigns(P0, R0))
    ownership = Ownership()
    async with polling_of(client, monkeypatch, topics=(P0.topic, R0.topic), ownership=ownership) as member:
        assert (await taken(member, Assigned)).partitions.keys() == {P0, R0}
        with ownership.committing(ownership.work([P0])):
            member.restart()
            await taken(member, Lost)
            for _ in range(3):
                client.polls(lambda: None)
            await eventually(lambda: client.has_nothing, _GIVES_UP_S, what="that to be polled")
            assert len(client.asked_for) == 1
        given = (await taken(member, Assigned)).partitions
        assert {partition: committed.offset for partition, committed in given.items()} == {P0: 7, R0: 7}


async def test_what_shares_state_and_is_under_way_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a partition that is given later: who had the number before may still be committing work of that one."""
    client = Client([0, 0, 0, 0, 0])
    client.unsettled = {P0}
    client.polls(lambda: client.assigns(R0))
    async with polling_of(client, monkeypatch, topics=(P0.topic, R0.topic)) as member:
        await eventually(lambda: len(client.asked_for) > 1, _GIVES_UP_S, what="it to be asked again")
        assert client.asked_for[0] == {P0, R0}
        client.unsettled = set()
        assert (await taken(member, Assigned)).partitions.keys() == {R0}
        asked = len(client.asked_for)
        client.polls(lambda: client.assigns(P0))
        # What is worked on by now does not hold up the rest.
        assert (await taken(member, Assigned)).partitions.keys() == {P0}
        assert client.asked_for[asked:] == [{P0}]


class Noting(Ownership):
    """Notes of what it was asked whether anything is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[set[TopicPartition]] = []

    def settle(self, partitions: Collection[TopicPartition], within_s: float) -> bool:
        self.settled.append(set(partitions))
        return super().settle(partitions, within_s)


async def test_what_is_let_go_with_a_partition_that_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its state goes to somebody else: not before a transaction of what shares it is through."""
    client = Client([0, 0])
    client.polls(lambda: client.assigns(P0, R0))
    ownership = Noting()
    async with polling_of(client, monkeypatch, topics=(P0.topic, R0.topic), ownership=ownership) as member:
        await taken(member, Assigned)
        ownership.settled.clear()
        client.polls(lambda: client.on_revoke(client, [Offset(*R0)]))
        revoked = await taken(member, Revoked)
        member.again(frozenset({P0}))
        revoked.release()
        await eventually(lambda: {P0, R0} in ownership.settled, _GIVES_UP_S, what="both to be waited for")
