"""What a bus promises of commits: all of it or nothing, once, and nothing by those who are out."""

# ruff: noqa: S101 - tests assert

from __future__ import annotations

import pytest

from antiphon.bus.errors import CommitError
from antiphon.bus.port import Assigned, Bus, Lost, Transaction
from antiphon.bus.record import Committed, Outgoing, TopicPartition
from antiphon.testing.conformance.world import (
    Promises,
    everything,
    fresh,
    membership,
    new_topic,
    numbered,
    outgoing,
    partitions,
    values,
)
from antiphon.testing.reading import Reading
from antiphon.testing.waiting import eventually


class TransactionPromises(Promises):
    """Commits, restarts and fencing."""

    async def test_records_and_offsets_are_committed_together(self, bus: Bus) -> None:
        """Several topics, several partitions, and how far their causes have been read."""
        orders, group = await new_topic(bus, "orders", 2), fresh("group")
        shipped, billed = await new_topic(bus, "shipped", 3), await new_topic(bus, "billed")
        await bus.publish(numbered(orders, 2) + numbered(orders, 2, partition=1))
        first, second = partitions(orders, 2)
        outputs = [Outgoing(shipped, b"key", b"1", [("ce_id", b"x")]), *numbered(billed, 2), *numbered(shipped, 1)]
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.got(4)
            await reading.member.commit(Transaction(outputs, {first: Committed(2), second: Committed(1, "m")}))
        await eventually(lambda: _count(bus, shipped, 2), what="two records on the first topic")
        await eventually(lambda: _count(bus, billed, 2), what="two records on the second topic")
        [keyed] = [record for record in await everything(bus, shipped) if record.key]
        assert (keyed.value, keyed.headers) == (b"1", [("ce_id", b"x")])
        async with Reading(await bus.join(membership(group, orders, instance="two"))) as reading:
            await reading.owns([first, second])
            assert reading.owned == {first: Committed(2), second: Committed(1, "m")}
            assert [(record.partition, record.value) for record in await reading.got(1)] == [(1, b"1")]

    async def test_what_is_committed_can_be_read_at_once_by_who_waits_for_it(self, bus: Bus) -> None:
        """Reading up to the end of all that was written gives a commit's records, however far its markers are."""
        orders, state, group = await new_topic(bus, "orders"), await new_topic(bus, "state", 3), fresh("group")
        await bus.publish(numbered(orders, 1))
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.got(1)
            for number in range(5):
                written = [
                    record for tp in partitions(state, 3) for record in numbered(state, 2, partition=tp.partition)
                ]
                await reading.member.commit(
                    Transaction(written, {TopicPartition(orders, 0): Committed(0, f"{number}")})
                )
                bounds = await bus.bounds([state], committed=False)
                stop = {partition: end for partition, (_, end) in bounds.items()}
                read = [record async for record in bus.read(dict.fromkeys(partitions(state, 3), 0), stop)]
                assert len(read) == 6 * (number + 1)

    async def test_how_much_is_left(self, bus: Bus) -> None:
        """Nothing once all is taken, though what stands last is a transaction's end; else what is there, or one more for that."""
        orders, shipped = await new_topic(bus, "orders"), await new_topic(bus, "shipped")
        [tp], group = partitions(shipped, 1), fresh("group")
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.owns(partitions(orders, 1))
            await reading.member.commit(Transaction(numbered(shipped, 3), {}))
            assert await reading.member.behind({tp: 0}) == {}
        async with Reading(await bus.join(membership(fresh("group"), shipped))) as reading:
            await reading.got(3)
            taken = reading.offsets[tp][-1] + 1
            await eventually(lambda: _left(reading, tp, taken, 0), what="nothing to be left")
            assert await reading.member.behind({tp: 0}) == {tp: 3}
            reading.member.pause([tp])
            await bus.publish(numbered(shipped, 5))
            assert (await reading.member.behind({tp: taken}))[tp] in {5, 6}

    async def test_one_commit_after_another(self, bus: Bus) -> None:
        """Offsets of a transactional topic may have gaps; order and content do not."""
        orders, shipped, group = await new_topic(bus, "orders"), await new_topic(bus, "shipped"), fresh("group")
        await bus.publish(numbered(orders, 3))
        async with Reading(await bus.join(membership(group, orders))) as reading:
            for record in [*await reading.got(3)]:
                offsets = {TopicPartition(orders, 0): Committed(record.offset + 1)}
                await reading.member.commit(Transaction([outgoing(shipped, record.value or b"")], offsets))
        async with Reading(await bus.join(membership(fresh("group"), shipped))) as reading:
            assert values(await reading.got(3)) == [b"0", b"1", b"2"]

    @pytest.mark.parametrize("exactly_once", [True, False])
    async def test_commits_of_records_alone_offsets_alone_and_nothing(self, bus: Bus, *, exactly_once: bool) -> None:
        """A delivery may emit nothing, and durable memory may be written before a delivery is done."""
        orders, shipped, group = await new_topic(bus, "orders"), await new_topic(bus, "shipped"), fresh("group")
        partition = TopicPartition(orders, 0)
        await bus.publish(numbered(orders, 2))
        async with Reading(await bus.join(membership(group, orders, exactly_once=exactly_once))) as reading:
            await reading.got(2)
            await reading.member.commit(Transaction([], {}))
            await reading.member.commit(Transaction(numbered(shipped, 1), {}))
            await reading.member.commit(Transaction([], {partition: Committed(1)}))
        await eventually(lambda: _count(bus, shipped, 1), what="the record")
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.owns([partition])
            assert reading.owned == {partition: Committed(1)}

    async def test_at_least_once_writes_and_commits(self, bus: Bus) -> None:
        """Without transactions there are no gaps in what is written."""
        orders, shipped, group = await new_topic(bus, "orders"), await new_topic(bus, "shipped"), fresh("group")
        partition = TopicPartition(orders, 0)
        await bus.publish(numbered(orders, 2))
        async with Reading(await bus.join(membership(group, orders, exactly_once=False))) as reading:
            await reading.got(2)
            for number in range(2):
                offsets = {partition: Committed(number + 1, "m")}
                await reading.member.commit(Transaction(numbered(shipped, 1, first=number), offsets))
        assert [(record.offset, record.value) for record in await everything(bus, shipped)] == [(0, b"0"), (1, b"1")]
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.owns([partition])
            assert reading.owned == {partition: Committed(2, "m")}

    async def test_committing_for_a_partition_that_was_given_up(self, bus: Bus) -> None:
        """Is refused, and nothing of it becomes visible, not even what concerned partitions that are kept."""
        orders, shipped, group = await new_topic(bus, "orders", 2), await new_topic(bus, "shipped"), fresh("group")
        await bus.publish(numbered(orders, 3) + numbered(orders, 3, partition=1))
        async with Reading(await bus.join(membership(group, orders, instance="one"))) as former:
            await former.got(6)
            async with Reading(await bus.join(membership(group, orders, instance="two"))) as owner:
                await owner.until(lambda: bool(owner.owned), "a partition to be handed over")
                with pytest.raises(CommitError):
                    await former.member.commit(
                        Transaction(
                            [outgoing(shipped, b"aborted")],
                            {partition: Committed(3) for partition in partitions(orders, 2)},
                        )
                    )
        await self._assert_nothing_came_of_it(bus, group, orders, shipped)

    async def test_committing_under_a_name_that_another_member_took(self, bus: Bus) -> None:
        """A worker that was taken for dead, and started anew, cannot write any more when it wakes."""
        orders, shipped, group = await new_topic(bus, "orders", 2), await new_topic(bus, "shipped"), fresh("group")
        await bus.publish(numbered(orders, 3) + numbered(orders, 3, partition=1))
        async with Reading(await bus.join(membership(group, orders, instance="same"))) as zombie:
            await zombie.got(6)
            async with Reading(await bus.join(membership(group, orders, instance="same"))) as successor:
                await successor.until(lambda: bool(successor.owned), "the successor to own something")
                with pytest.raises(CommitError):
                    await zombie.member.commit(
                        Transaction(
                            [outgoing(shipped, b"aborted")],
                            {partition: Committed(3) for partition in zombie.owned or partitions(orders, 2)},
                        )
                    )
        await self._assert_nothing_came_of_it(bus, group, orders, shipped)

    async def test_restart_gives_everything_anew(self, bus: Bus) -> None:
        """Lost, then assigned at what is truly committed; what was taken before comes again, and commits go on."""
        orders, shipped, group = await new_topic(bus, "orders", 2), await new_topic(bus, "shipped"), fresh("group")
        first, second = partitions(orders, 2)
        await bus.publish(numbered(orders, 3) + numbered(orders, 3, partition=1))
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.got(6)
            await reading.member.commit(Transaction(numbered(shipped, 1), {first: Committed(2, "m")}))
            since = len(reading.changes)
            await reading.member.restart()
            await reading.until(lambda: _assigned(reading, since) == {first, second}, "both to be assigned anew")
            await reading.got(6 + 4)
            lost = [change.partitions for change in reading.changes[since:] if isinstance(change, Lost)]
            assert frozenset[TopicPartition]().union(*lost) == {first, second}
            assert (reading.owned[first], reading.owned[second]) == (Committed(2, "m"), None)
            assert reading.offsets == {first: [0, 1, 2, 2], second: [0, 1, 2, 0, 1, 2]}
            await reading.member.commit(Transaction(numbered(shipped, 1, first=1), {first: Committed(3)}))
        await eventually(lambda: _count(bus, shipped, 2), what="what was committed before and after")
        assert values(await everything(bus, shipped)) == [b"0", b"1"]

    async def test_giving_anew_disturbs_no_other_partition(self, bus: Bus) -> None:
        """The one is lost and assigned at what is committed, the other one's work goes on and is committed."""
        orders, shipped, group = await new_topic(bus, "orders", 2), await new_topic(bus, "shipped"), fresh("group")
        first, second = partitions(orders, 2)
        await bus.publish(numbered(orders, 3) + numbered(orders, 3, partition=1))
        async with Reading(await bus.join(membership(group, orders))) as reading:
            await reading.got(6)
            await reading.member.commit(Transaction([], {first: Committed(2, "m"), second: Committed(1)}))
            since = len(reading.changes)
            reading.member.again([first, TopicPartition(orders, 7)])
            await reading.until(lambda: _assigned(reading, since) == {first}, "the one to be assigned anew")
            await reading.got(6 + 1)
            assert [change.partitions for change in reading.changes[since:] if isinstance(change, Lost)] == [{first}]
            assert reading.owned[first] == Committed(2, "m")
            assert reading.offsets == {first: [0, 1, 2, 2], second: [0, 1, 2]}
            both = {first: Committed(3), second: Committed(3)}
            await reading.member.commit(Transaction([outgoing(shipped, b"done")], both))
        await eventually(lambda: _count(bus, shipped, 1), what="what was committed for both")

    async def test_restart_after_a_refused_commit(self, bus: Bus) -> None:
        """The usual reason for one: the member goes on with what it still owns."""
        orders, shipped, group = await new_topic(bus, "orders", 2), await new_topic(bus, "shipped"), fresh("group")
        await bus.publish(numbered(orders, 1) + numbered(orders, 1, partition=1))
        async with Reading(await bus.join(membership(group, orders, instance="one"))) as reading:
            await reading.got(2)
            async with Reading(await bus.join(membership(group, orders, instance="two"))) as owner:
                await owner.until(lambda: bool(owner.owned), "a partition to be handed over")
                both = {partition: Committed(1) for partition in partitions(orders, 2)}
                with pytest.raises(CommitError):
                    await reading.member.commit(Transaction([outgoing(shipped, b"aborted")], both))
                since = len(reading.changes)
                await reading.member.restart()
                await reading.until(lambda: len(_assigned(reading, since)) == 1, "what is still owned")
                [kept] = reading.owned
                await reading.member.commit(Transaction([outgoing(shipped, b"done")], {kept: Committed(1)}))
        await eventually(lambda: _count(bus, shipped, 1), what="what was committed after the restart")
        assert values(await everything(bus, shipped)) == [b"done"]

    async def test_trying_out(self, bus: Bus) -> None:
        """Nobody sees what was tried out, and what is committed after it counts."""
        topic, group = await new_topic(bus, "orders"), fresh("group")
        async with Reading(await bus.join(membership(group, topic))) as reading:
            await reading.owns(partitions(topic, 1))
            await reading.member.try_out([outgoing(topic, b"tried")])
            await reading.member.commit(Transaction([outgoing(topic, b"committed")], {}))
            await eventually(lambda: _count(bus, topic, 1), what="what was committed")
            assert values(await everything(bus, topic)) == [b"committed"]

    async def _assert_nothing_came_of_it(self, bus: Bus, group: str, orders: str, shipped: str) -> None:
        """What is written behind an aborted transaction can be read, the aborted cannot, and no offset has moved."""
        await bus.publish([outgoing(shipped, b"behind")])
        await eventually(lambda: _count(bus, shipped, 1), what="what was written behind it")
        assert values(await everything(bus, shipped)) == [b"behind"]
        async with Reading(await bus.join(membership(group, orders, instance="three"))) as reading:
            await reading.owns(partitions(orders, 2))
            assert reading.owned == dict.fromkeys(partitions(orders, 2))


async def _count(bus: Bus, topic: str, count: int) -> bool:
    return len(await everything(bus, topic)) >= count


def _assigned(reading: Reading, since: int) -> set[TopicPartition]:
    return {
        partition
        for change in reading.changes[since:]
        if isinstance(change, Assigned)
        for partition in change.partitions
    }


async def _left(reading: Reading, partition: TopicPartition, position: int, count: int) -> bool:
    return await reading.member.behind({partition: position}) == {partition: count}
