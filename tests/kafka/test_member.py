"""Members of groups, where the broker fails them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import asynccontextmanager

import pytest
from cluster import KafkaCluster, NoKafkaError
from confluent_kafka import TopicPartition as Offset

from antiphon.bus.errors import BusError, CommitError
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.embedded import EmbeddedBroker
from antiphon.bus.kafka.polling import Polling
from antiphon.bus.port import Assigned, Member, Membership, Transaction
from antiphon.bus.record import Committed, Outgoing, TopicPartition
from antiphon.testing.conformance.world import everything, fresh, membership, new_topic, numbered, values
from antiphon.testing.reading import Reading
from antiphon.testing.waiting import eventually


@asynccontextmanager
async def bus_at(address: str, **config: float) -> AsyncGenerator[KafkaBus]:
    bus = KafkaBus(KafkaConfig(bootstrap_servers=address, **config))  # type: ignore[arg-type] # all of them times
    try:
        yield bus
    finally:
        await bus.close()


@pytest.fixture(scope="module")
def fragile() -> Iterator[KafkaCluster]:
    """A Kafka of this file's own, to be stopped and started; KIP-848's group protocol is known to it, and off."""
    cluster = KafkaCluster(features=["group.version=0"], restarts=True)
    try:
        cluster.start()
    except (FileNotFoundError, NoKafkaError) as error:
        if os.environ.get("ANTIPHON_REQUIRE_KAFKA"):
            pytest.fail(f"Java and Maven are required here: {error}")
        pytest.skip(f"needs Java and Maven: {error}")
    yield cluster
    cluster.stop()


@pytest.mark.kafka
async def test_a_group_protocol_that_is_switched_off(fragile: KafkaCluster) -> None:
    """The first member finds out and joins by the classic one; those after it know."""
    async with bus_at(fragile.bootstrap_servers) as bus:
        topic, group = await new_topic(bus, "orders", 2), fresh("group")
        await bus.publish(numbered(topic, 2))
        async with Reading(await bus.join(membership(group, topic))) as reading:
            assert values(await reading.got(2)) == [b"0", b"1"]
        assert not bus.features.server_side_assignment


@pytest.mark.kafka
async def test_a_broker_that_comes_back(fragile: KafkaCluster) -> None:
    """A member outlives it: it goes on where it was, and what it commits then counts."""
    async with bus_at(fragile.bootstrap_servers) as bus:
        orders, shipped, group = await new_topic(bus, "orders"), await new_topic(bus, "shipped"), fresh("group")
        await bus.publish(numbered(orders, 1))
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.got(1)
            [broker] = fragile.brokers
            broker.kill()
            broker.start()
            broker.wait()
            await bus.publish(numbered(orders, 1, first=1))
            await reading.until(lambda: b"1" in values(reading.records), "the record written after the outage")
            done = Transaction([Outgoing(shipped, None, b"done", [], 0)], {TopicPartition(orders, 0): Committed(2)})
            try:
                await reading.member.commit(done)
            except CommitError:
                # The group may have begun anew: then so does the member.
                since = len(reading.records)
                await reading.member.restart()
                await reading.until(lambda: len(reading.records) >= since + 2, "both records again")
                await reading.member.commit(done)

        async def shown() -> bool:
            return bool(await everything(bus, shipped))

        # What is committed is seen once the broker has ended the transaction on every partition: it has just begun.
        await eventually(shown, 60, what="what was committed to be seen")
        assert values(await everything(bus, shipped)) == [b"done"]


@pytest.mark.embedded
async def test_closing_while_the_broker_hangs() -> None:
    """In bounded time: nobody waits for an answer that does not come."""
    async with EmbeddedBroker() as broker, bus_at(broker.bootstrap_servers) as bus:
        topic = await new_topic(bus, "orders")
        member = await bus.join(membership(fresh("group"), topic))
        await member.take()
        assert broker.pid is not None
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            await member.close()
            assert time.monotonic() - started < 12.0
        finally:
            os.kill(broker.pid, signal.SIGCONT)


@pytest.mark.embedded
async def test_a_commit_while_the_broker_hangs() -> None:
    """It fails within its time-out. Once the broker answers again the member goes on; after the end nothing is committed."""
    async with EmbeddedBroker() as broker, bus_at(broker.bootstrap_servers) as bus:
        topic = await new_topic(bus, "orders")
        impatient = Membership(
            group=fresh("group"), topics=(topic,), instance="one", session_timeout_s=6.0, transaction_timeout_s=1.0
        )
        async with Reading(await bus.join(impatient)) as reading:
            await reading.owns([TopicPartition(topic, 0)])
            offsets = {TopicPartition(topic, 0): Committed(0)}
            assert broker.pid is not None
            os.kill(broker.pid, signal.SIGSTOP)
            try:
                with pytest.raises(CommitError):
                    await reading.member.commit(Transaction([], offsets))
            finally:
                os.kill(broker.pid, signal.SIGCONT)
            await reading.member.restart()
            await reading.until(lambda: bool(reading.lost and reading.owned), "the partition to be given again")
            await reading.member.commit(Transaction([], offsets))
        with pytest.raises(CommitError):
            await reading.member.commit(Transaction([], offsets))


@pytest.mark.embedded
async def test_brokers_that_do_not_come_back() -> None:
    """The member fails in the end, so that somebody starts it again or looks."""
    broker = EmbeddedBroker()
    address = await broker.start()
    async with bus_at(address, give_up_s=0.5) as bus:
        topic = await new_topic(bus, "orders")
        member = await bus.join(membership(fresh("group"), topic))
        await member.take()
        await broker.stop()
        with pytest.raises(BusError) as caught:
            await _take_until_it_fails(member)
        assert f"no broker at {address} (connection refused" in str(caught.value)
        await member.close()


@pytest.mark.embedded
async def test_a_slow_taker_loses_nothing() -> None:
    """Fetching is held up while it is behind; order and content are as ever."""
    async with EmbeddedBroker() as broker, bus_at(broker.bootstrap_servers, prefetch=20, batch=10) as bus:
        topic = await new_topic(bus, "orders")
        await bus.publish(numbered(topic, 300))
        member = await bus.join(membership(fresh("group"), topic))
        async with Reading(member, resumes=False) as reading:
            await reading.owns([TopicPartition(topic, 0)])
            await reading.stop()
            member.resume([TopicPartition(topic, 0)])
            behind = member._polling.inbox  # type: ignore[attr-defined] # noqa: SLF001 - that it holds up is seen nowhere else
            await eventually(lambda: behind.full and member._polling._throttled, what="fetching to be held up")  # type: ignore[attr-defined] # noqa: SLF001 - as above
            async with reading:
                assert values(await reading.got(300)) == [b"%d" % number for number in range(300)]


async def _take_until_it_fails(member: Member) -> None:
    while True:
        await member.take()


@pytest.mark.kafka
async def test_a_commit_that_begins_while_the_member_begins_again(kafka: str) -> None:
    """It is refused; or it counts, and what is given then begins behind it: nothing is handled twice."""
    async with bus_at(kafka) as bus:
        orders, shipped, group = await new_topic(bus, "orders"), await new_topic(bus, "shipped"), fresh("group")
        place = TopicPartition(orders, 0)
        await bus.publish(numbered(orders, 20))
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.owns([place])
            counted = 0
            for offset in range(1, 11):
                reading.changes.clear()
                await reading.member.restart()
                # Many records take a while to go out, and their offsets go last.
                many = [Outgoing(shipped, None, b"done", [], 0)] * 3_000
                with contextlib.suppress(CommitError):
                    await reading.member.commit(Transaction(many, {place: Committed(offset)}))
                    counted = offset
                await reading.until(lambda: len(reading.changes) == 2, "what was lost to be given")
                assert reading.changes[-1] == Assigned({place: Committed(counted) if counted else None})


@pytest.mark.kafka
async def test_a_client_that_reads_from_elsewhere(kafka: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An assigned partition may be read from its beginning in spite of the seek: what was committed is not given again."""
    resume, gone_astray = vars(Polling)["_resume"], asyncio.Event()

    def go_astray(polling: Polling, partitions: Collection[TopicPartition]) -> None:
        resume(polling, partitions)
        for partition in partitions if not gone_astray.is_set() else ():
            vars(polling)["_client"].consumer.seek(Offset(*partition, 0))
            gone_astray.set()

    async with bus_at(kafka) as bus:
        topic, group = await new_topic(bus, "orders"), fresh("group")
        await bus.publish(numbered(topic, 6))
        async with Reading(await bus.join(membership(group, topic))) as reading:
            await reading.owns([TopicPartition(topic, 0)])
            await reading.member.commit(Transaction([], {TopicPartition(topic, 0): Committed(4)}))
        monkeypatch.setattr(Polling, "_resume", go_astray)
        async with Reading(await bus.join(membership(group, topic))) as reading:
            assert values(await reading.got(2)) == [b"4", b"5"]
            assert gone_astray.is_set()
