"""What a bus promises of topics: making them, writing to them, reading them."""

# ruff: noqa: S101 - tests assert

from __future__ import annotations

import asyncio
import time

import pytest

from antiphon.bus.errors import TopicCreationRefusedError, UnknownTopicError
from antiphon.bus.partition import partition_for
from antiphon.bus.port import Bus, TopicSpec
from antiphon.bus.record import Outgoing, Position, Record, TopicPartition
from antiphon.testing.conformance.world import (
    Promises,
    everything,
    fresh,
    membership,
    new_topic,
    numbered,
    outgoing,
    values,
)
from antiphon.testing.waiting import eventually

_DEADLINE_S = 30.0


class TopicPromises(Promises):
    """Topics, without groups."""

    async def test_created_topics_are_listed_and_can_be_written_to(self, bus: Bus) -> None:
        """`create` says what is new, and returns when the topics are ready."""
        small, large = fresh("small"), fresh("large")
        created = await bus.create([TopicSpec(small, 1), TopicSpec(large, 5, compact=True)])
        positions = await bus.publish([outgoing(large, b"1", partition=4, key=b"compacted topics want one")])
        topics = await bus.topics()
        assert (sorted(created), topics[small], topics[large], positions) == (
            sorted([small, large]),
            1,
            5,
            [Position(large, 4, 0)],
        )

    async def test_creating_again_changes_nothing(self, bus: Bus) -> None:
        """Every agent creates what it lacks when it starts; the first one wins."""
        topic = await new_topic(bus, "orders", 2)
        again = await bus.create([TopicSpec(topic, 7)])
        assert (again, (await bus.topics())[topic]) == ([], 2)

    async def test_creation_refused(self, bus: Bus) -> None:
        """A name that no broker takes."""
        with pytest.raises(TopicCreationRefusedError):
            await bus.create([TopicSpec("not a topic's name!", 1)])

    async def test_what_stands_under_a_namespace_is_removed(self, bus: Bus) -> None:
        """Topics and groups, and nothing beside them; doing it again does no harm."""
        name = fresh("gone")
        [inside, beside] = [f"{name}.orders", f"{name}-not.orders"]
        await bus.create([TopicSpec(inside, 2), TopicSpec(beside, 1)])
        await bus.publish([outgoing(inside, b"1")])
        member = await bus.join(membership(f"{name}.stock", inside))
        await member.close()
        removed = [await bus.remove(name)]

        async def is_gone() -> bool:
            return inside not in await bus.topics()

        await eventually(is_gone, _DEADLINE_S, what="the topic to go")
        removed.append(await bus.remove(name))
        assert (removed, beside in await bus.topics()) == ([[inside], []], True)

    async def test_a_record_comes_back_as_it_went(self, bus: Bus) -> None:
        """Key, value and headers, in order and with repetitions, are bytes the bus does not touch."""
        topic = await new_topic(bus, "orders")
        headers: list[tuple[str, bytes | None]] = [
            ("ce_id", b"1"),
            ("twice", b"a"),
            ("empty", b""),
            ("twice", "ü".encode()),
            ("none", None),
        ]
        before = time.time_ns() // 1_000_000
        [position] = await bus.publish([Outgoing(topic, b"key", b"\x00\xff", headers, 0)])
        [record] = await everything(bus, topic)
        after = time.time_ns() // 1_000_000
        assert record == Record(topic, 0, position.offset, b"key", b"\x00\xff", [*headers], record.timestamp_ms)
        # Broker and test may run on two machines' clocks.
        assert before - 60_000 <= record.timestamp_ms <= after + 60_000

    async def test_no_key_no_value_no_headers(self, bus: Bus) -> None:
        """None is not the same as empty: a record without a value is a tombstone."""
        topic = await new_topic(bus, "state")
        await bus.publish([Outgoing(topic, None, None, [], 0), Outgoing(topic, b"", b"", [], 0)])
        assert [(record.key, record.value, record.headers) for record in await everything(bus, topic)] == [
            (None, None, []),
            (b"", b"", []),
        ]

    async def test_order_within_a_partition(self, bus: Bus) -> None:
        """What is written first is read first, within one call and from one to the next."""
        topic = await new_topic(bus, "orders")
        positions = await bus.publish(numbered(topic, 300))
        positions += await bus.publish(numbered(topic, 300, first=300))
        records = await everything(bus, topic)
        assert values(records) == [b"%d" % number for number in range(600)]
        assert [record.offset for record in records] == [position.offset for position in positions]

    async def test_the_key_decides_the_partition(self, bus: Bus) -> None:
        """As `partition_for` says, so that an agent's inputs meet."""
        topic = await new_topic(bus, "orders", 5)
        keys = [b"order-%d" % number for number in range(40)]
        positions = await bus.publish([Outgoing(topic, key, b"", []) for key in keys])
        assert [position.partition for position in positions] == [partition_for(key, 5) for key in keys]
        assert {(record.key, record.partition) for record in await everything(bus, topic)} == {
            (key, partition_for(key, 5)) for key in keys
        }

    async def test_without_a_key_any_partition_will_do(self, bus: Bus) -> None:
        """Each record stands once, where `publish` says."""
        topic = await new_topic(bus, "orders", 3)
        positions = await bus.publish([Outgoing(topic, None, b"%d" % number, []) for number in range(20)])
        read = {Position(record.topic, record.partition, record.offset) for record in await everything(bus, topic)}
        assert (read, len(positions)) == (set(positions), 20)

    async def test_publishing_to_an_unknown_topic(self, bus: Bus) -> None:
        """The error names the topic; nothing is created on the way."""
        topic = fresh("ordrs")
        with pytest.raises(UnknownTopicError) as caught:
            await bus.publish([Outgoing(topic, b"key", b"value", [])])
        assert (caught.value.topic, topic in await bus.topics()) == (topic, False)

    async def test_publishing_nothing(self, bus: Bus) -> None:
        """Is done at once."""
        assert await bus.publish([]) == []

    async def test_reading_from_and_up_to(self, bus: Bus) -> None:
        """The start is included, the stop is not, though there is more."""
        topic = await new_topic(bus, "orders", 2)
        await bus.publish(numbered(topic, 9) + numbered(topic, 9, partition=1, first=100))
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        records = [record async for record in bus.read({first: 3, second: 7}, {first: 6, second: 9})]
        assert {number: values([r for r in records if r.partition == number]) for number in (0, 1)} == {
            0: [b"3", b"4", b"5"],
            1: [b"107", b"108"],
        }

    async def test_reading_in_batches(self, bus: Bus) -> None:
        """Gives what reading one at a time gives, from its start to before its stop; a batch is never empty."""
        topic = await new_topic(bus, "orders", 2)
        await bus.publish(numbered(topic, 1_200) + numbered(topic, 9, partition=1, first=5_000))
        first, second = TopicPartition(topic, 0), TopicPartition(topic, 1)
        batches = [batch async for batch in bus.read_batches({first: 3, second: 7}, {first: 1_200, second: 9})]
        records = [record for batch in batches for record in batch]
        assert {number: values([r for r in records if r.partition == number]) for number in (0, 1)} == {
            0: [b"%d" % number for number in range(3, 1_200)],
            1: [b"5007", b"5008"],
        }
        assert min(map(len, batches)) > 0
        assert [batch async for batch in bus.read_batches({first: 3}, {first: 3})] == []

    async def test_a_topic_is_told_from_another(self, bus: Bus) -> None:
        """By a word of the broker's own that stays; a broker without says none, and nothing of what is not there."""
        one, two, missing = await new_topic(bus, "orders"), await new_topic(bus, "orders"), fresh("ordrs")
        ids = await bus.identities([one, two, missing])
        assert await bus.identities([one, two]) == ids
        assert (set(ids), len({*ids.values()})) in (({one, two}, 2), (set[str](), 0))

    async def test_reading_where_there_is_nothing(self, bus: Bus) -> None:
        """Ends at once: an empty partition, and one that starts where it stops."""
        topic = await new_topic(bus, "orders", 2)
        await bus.publish(numbered(topic, 3))
        filled, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
        async with asyncio.timeout(_DEADLINE_S):
            assert [record async for record in bus.read({filled: 3, empty: 0}, {filled: 3, empty: 0})] == []

    async def test_reading_from_before_the_beginning(self, bus: Bus) -> None:
        """Means from the beginning, so that "the last ten" needs no arithmetic of its own."""
        topic = await new_topic(bus, "orders")
        await bus.publish(numbered(topic, 2))
        partition = TopicPartition(topic, 0)
        assert values([record async for record in bus.read({partition: -8}, {partition: 2})]) == [b"0", b"1"]

    async def test_a_bounded_read_waits_for_what_is_to_come(self, bus: Bus) -> None:
        """It ends when it has come up to its stop, not when there is nothing for the moment."""
        topic = await new_topic(bus, "orders")
        await bus.publish(numbered(topic, 1))
        partition = TopicPartition(topic, 0)
        reader = bus.read({partition: 0}, {partition: 2})
        async with asyncio.timeout(_DEADLINE_S):
            first = await anext(reader)
            await bus.publish(numbered(topic, 1, first=1))
            assert values([first, *[record async for record in reader]]) == [b"0", b"1"]

    async def test_following(self, bus: Bus) -> None:
        """Without a stop a reader gets what is written after it began, for ever."""
        topic = await new_topic(bus, "orders", 2)
        reader = bus.read({TopicPartition(topic, 0): 0, TopicPartition(topic, 1): 0})
        seen: list[bytes | None] = []
        async with asyncio.timeout(_DEADLINE_S):
            for number in range(4):
                await bus.publish(numbered(topic, 1, partition=number % 2, first=number))
                seen.append((await anext(reader)).value)
        assert seen == [b"0", b"1", b"2", b"3"]

    async def test_readers_do_not_disturb_each_other(self, bus: Bus) -> None:
        """Each has a position of its own."""
        topic = await new_topic(bus, "orders")
        await bus.publish(numbered(topic, 3))
        partition = TopicPartition(topic, 0)
        one, two = bus.read({partition: 0}), bus.read({partition: 1})
        async with asyncio.timeout(_DEADLINE_S):
            came = [await anext(one), await anext(two), await anext(one), await anext(two)]
        assert values(came) == [b"0", b"1", b"1", b"2"]

    async def test_bounds(self, bus: Bus) -> None:
        """First and end of every partition; a topic that does not exist has none."""
        topic = await new_topic(bus, "orders", 2)
        await bus.publish(numbered(topic, 3, partition=1))
        assert await bus.bounds([topic, fresh("nothing")]) == {
            TopicPartition(topic, 0): (0, 0),
            TopicPartition(topic, 1): (0, 3),
        }

    async def test_offsets_at_a_time(self, bus: Bus) -> None:
        """The first record that is not older; the end, where all are."""
        topic = await new_topic(bus, "orders", 2)
        partition, empty = TopicPartition(topic, 0), TopicPartition(topic, 1)
        await bus.publish(numbered(topic, 2))
        former = max(record.timestamp_ms for record in await everything(bus, topic))
        await eventually(lambda: time.time_ns() // 1_000_000 > former + 1, what="the clock to go on")
        await bus.publish(numbered(topic, 1, first=2))
        latter = (await everything(bus, topic))[-1].timestamp_ms
        found = [
            await bus.offsets_at([partition, empty], timestamp_ms)
            for timestamp_ms in (0, former + 1, latter, latter + 3_600_000)
        ]
        assert [(offsets[partition], offsets[empty]) for offsets in found] == [(0, 0), (2, 0), (2, 0), (3, 0)]
