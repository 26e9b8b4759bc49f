"""What a bus promises of consumer groups: who gets what, from where, and how it changes hands."""

# ruff: noqa: S101, PLR2004 - tests assert numbers

from __future__ import annotations

import asyncio

import pytest

from antiphon.bus.errors import CommitError, OffsetsGoneError, UnknownTopicError
from antiphon.bus.port import Assigned, Bus, Jumped, MissingOffsets, Transaction
from antiphon.bus.record import Committed, TopicPartition
from antiphon.testing.conformance.world import (
    Promises,
    everything,
    fresh,
    membership,
    new_topic,
    numbered,
    partitions,
    values,
)
from antiphon.testing.reading import Reading
from antiphon.testing.waiting import eventually


class GroupPromises(Promises):
    """Groups, and what their members take."""

    async def test_a_new_group_starts_at_the_beginning(self, bus: Bus) -> None:
        """What was published before the first agent came is not lost to it."""
        topic = await new_topic(bus, "orders")
        await bus.publish(numbered(topic, 3))
        async with Reading(await bus.join(membership(fresh("group"), topic))) as reading:
            records = [*await reading.got(3)]
            await bus.publish(numbered(topic, 2, first=3))
            await reading.got(5)
            assert (reading.owned, records) == ({TopicPartition(topic, 0): None}, (await everything(bus, topic))[:3])
            assert values(reading.records) == [b"0", b"1", b"2", b"3", b"4"]

    async def test_assigned_partitions_are_paused(self, bus: Bus) -> None:
        """Nothing comes before the member has said that it is ready for it."""
        topic = await new_topic(bus, "orders", 2)
        ready, waiting = partitions(topic, 2)
        await bus.publish(numbered(topic, 2, partition=1, first=100))
        async with Reading(await bus.join(membership(fresh("group"), topic)), resumes=False) as reading:
            await reading.owns([ready, waiting])
            reading.member.resume([ready])
            for number in range(3):
                await bus.publish(numbered(topic, 1, first=number))
                await reading.got(number + 1)
            before = reading.offsets
            reading.member.resume([waiting])
            await reading.got(5)
            assert (before, reading.offsets) == ({ready: [0, 1, 2]}, {ready: [0, 1, 2], waiting: [0, 1]})

    async def test_pausing_loses_and_repeats_nothing(self, bus: Bus) -> None:
        """A paused partition is quiet, others go on, and it continues where it stopped."""
        topic = await new_topic(bus, "orders", 2)
        paused, other = partitions(topic, 2)
        async with Reading(await bus.join(membership(fresh("group"), topic))) as reading:
            await bus.publish(numbered(topic, 1))
            await reading.got(1)
            reading.member.pause([paused])
            await bus.publish(numbered(topic, 200, first=1) + numbered(topic, 1, partition=1))
            await reading.until(lambda: len(reading.offsets.get(other, [])) == 1, "the other partition's record")
            quiet = len(reading.offsets[paused])
            await bus.publish(numbered(topic, 200, first=201) + numbered(topic, 1, partition=1))
            await reading.until(lambda: len(reading.offsets[other]) == 2, "the other partition's second record")
            assert len(reading.offsets[paused]) == quiet
            reading.member.resume([paused])
            await reading.until(lambda: len(reading.offsets[paused]) >= 401, "the paused partition's records")
            assert reading.offsets[paused] == [*range(401)]

    async def test_pause_and_resume_of_what_is_not_owned(self, bus: Bus) -> None:
        """A member may be late to hear that a partition is gone."""
        topic = await new_topic(bus, "orders")
        async with Reading(await bus.join(membership(fresh("group"), topic))) as reading:
            await reading.owns(partitions(topic, 1))
            gone = [TopicPartition(topic, 7), TopicPartition(fresh("nothing"), 0)]
            reading.member.pause(gone)
            reading.member.resume(gone)
            await bus.publish(numbered(topic, 1))
            assert values(await reading.got(1)) == [b"0"]

    async def test_going_on_where_the_group_has_committed(self, bus: Bus) -> None:
        """Offset and metadata come back to whoever is next; so do the records from there."""
        topic, group = await new_topic(bus, "orders"), fresh("group")
        partition = TopicPartition(topic, 0)
        await bus.publish(numbered(topic, 5))
        async with Reading(await bus.join(membership(group, topic))) as reading:
            await reading.got(5)
            await reading.member.commit(Transaction([], {partition: Committed(3, "beside it")}))
        async with Reading(await bus.join(membership(group, topic, instance="two"))) as reading:
            assert values(await reading.got(2)) == [b"3", b"4"]
            assert reading.owned == {partition: Committed(3, "beside it")}

    @pytest.mark.parametrize(
        ("policy", "came"), [(MissingOffsets.EARLIEST, [b"0", b"1", b"2", b"3"]), (MissingOffsets.LATEST, [b"3"])]
    )
    async def test_an_offset_that_is_not_there(self, bus: Bus, policy: MissingOffsets, came: list[bytes]) -> None:
        """Reading goes on where the membership says, says that it does, and does not do so twice."""
        topic, group = await new_topic(bus, "orders"), fresh("group")
        partition = TopicPartition(topic, 0)
        await bus.publish(numbered(topic, 3))
        await self._commit(bus, group, partition, Committed(100, "of another log"))
        async with Reading(await bus.join(membership(group, topic, on_missing_offsets=policy))) as reading:
            await reading.until(lambda: bool(reading.jumps) and bool(reading.owned), "the jump")
            await bus.publish(numbered(topic, 1, first=3))
            assert values(await reading.got(len(came))) == came
            to = 0 if policy is MissingOffsets.EARLIEST else 3
            assert reading.jumps == [Jumped(partition, 100, 0, 3, to, anew=True)]
        async with Reading(await bus.join(membership(group, topic, on_missing_offsets=policy))) as again:
            assert values(await again.got(len(came))) == came
            assert (again.jumps, again.owned) == ([], {partition: Committed(to)})

    async def test_stopping_at_an_offset_that_is_not_there(self, bus: Bus) -> None:
        """A person decides; the error says what was expected, what is there and what can be done."""
        topic, group = await new_topic(bus, "orders"), fresh("group")
        await bus.publish(numbered(topic, 3))
        await self._commit(bus, group, TopicPartition(topic, 0), Committed(100))
        stops = membership(group, topic, on_missing_offsets=MissingOffsets.STOP)
        async with Reading(await bus.join(stops)) as reading:
            with pytest.raises(OffsetsGoneError, match=r"at offset 100 of orders-\w+\[0\], got 0 to 3: .*=earliest"):
                await reading.got(1)

    async def test_joining_for_a_topic_that_does_not_exist(self, bus: Bus) -> None:
        """Is an error at once, not a wait for ever."""
        with pytest.raises(UnknownTopicError):
            await bus.join(membership(fresh("group"), fresh("nothing")))

    async def _commit(self, bus: Bus, group: str, partition: TopicPartition, committed: Committed) -> None:
        async with Reading(await bus.join(membership(group, partition.topic))) as reading:
            await reading.owns([partition])
            await reading.member.commit(Transaction([], {partition: committed}))

    async def test_metadata_of_four_thousand_characters(self, bus: Bus) -> None:
        """There is room for which events above the committed offset are finished."""
        topic, group = await new_topic(bus, "orders"), fresh("group")
        partition, metadata = TopicPartition(topic, 0), "r" + "AZaz09+/" * 500
        await bus.publish(numbered(topic, 1))
        async with Reading(await bus.join(membership(group, topic))) as reading:
            await reading.got(1)
            await reading.member.commit(Transaction([], {partition: Committed(0, metadata)}))
        async with Reading(await bus.join(membership(group, topic))) as reading:
            await reading.owns([partition])
            assert reading.owned == {partition: Committed(0, metadata)}

    async def test_groups_are_independent(self, bus: Bus) -> None:
        """Each gets everything, and nobody is disturbed when another comes or goes."""
        topic = await new_topic(bus, "orders", 2)
        async with Reading(await bus.join(membership(fresh("first"), topic))) as first:
            await first.owns(partitions(topic, 2))
            changes = [*first.changes]
            async with Reading(await bus.join(membership(fresh("second"), topic))) as second:
                await bus.publish(numbered(topic, 2))
                assert values(await second.got(2)) == values(await first.got(2)) == [b"0", b"1"]
            await bus.publish(numbered(topic, 1, first=2))
            await first.got(3)
            assert first.changes == changes

    async def test_members_share(self, bus: Bus) -> None:
        """Every partition has one owner, and every record comes once."""
        topic, group = await new_topic(bus, "orders", 4), fresh("group")
        async with (
            Reading(await bus.join(membership(group, topic, instance="one"))) as one,
            Reading(await bus.join(membership(group, topic, instance="two"))) as two,
        ):
            await eventually(lambda: (len(one.owned), len(two.owned)) == (2, 2), what="half of the partitions for each")
            await bus.publish([record for number in range(4) for record in numbered(topic, 10, partition=number)])
            await eventually(lambda: len(one.records) + len(two.records) >= 40, what="40 records to come")
            assert one.offsets | two.offsets == {partition: [*range(10)] for partition in partitions(topic, 4)}
            assert len(one.records) == len(two.records) == 20

    async def test_topics_of_one_size_are_co_partitioned(self, bus: Bus) -> None:
        """Events of one key on several topics meet at one member: joins and state rest on it."""
        orders, payments = await new_topic(bus, "orders", 5), await new_topic(bus, "payments", 5)
        group = fresh("group")
        async with (
            Reading(await bus.join(membership(group, orders, payments, instance="one"))) as one,
            Reading(await bus.join(membership(group, orders, payments, instance="two"))) as two,
        ):
            await eventually(lambda: one.owned and two.owned and len(one.owned) + len(two.owned) == 10, what="shares")
            for reading in (one, two):
                numbers = {
                    topic: {owned.partition for owned in reading.owned if owned.topic == topic}
                    for topic in (orders, payments)
                }
                assert numbers[orders] == numbers[payments]

    async def test_a_member_that_leaves_hands_over_at_once(self, bus: Bus) -> None:
        """Not after its session's time-out."""
        topic, group = await new_topic(bus, "orders", 2), fresh("group")
        async with Reading(await bus.join(membership(group, topic, instance="one"))) as stays:
            async with Reading(await bus.join(membership(group, topic, instance="two"))) as leaves:
                await eventually(lambda: len(stays.owned) == len(leaves.owned) == 1, what="a share for each")
            left = asyncio.get_running_loop().time()
            await stays.owns(partitions(topic, 2))
            assert asyncio.get_running_loop().time() - left < membership(group).session_timeout_s

    async def test_what_is_kept_is_not_disturbed(self, bus: Bus) -> None:
        """With the broker's own assignment, work on the partitions that stay goes on through a rebalance."""
        topic, group = await new_topic(bus, "orders", 4), fresh("group")
        async with Reading(await bus.join(membership(group, topic, instance="one"))) as stays:
            # Only now: a bus may have to ask its broker first.
            if not bus.features.server_side_assignment:
                pytest.skip("the broker has no group protocol of its own: every rebalance revokes everything")
            await stays.owns(partitions(topic, 4))
            async with Reading(await bus.join(membership(group, topic, instance="two"))) as comes:
                await comes.until(lambda: len(comes.owned) == 2, "half of the partitions")
                assert (len(stays.revoked), len(stays.owned), stays.lost) == (2, 2, frozenset())

    async def test_revoked_partitions_are_kept_until_released(self, bus: Bus) -> None:
        """Who is asked to give up a partition can finish first, and commit; the next one starts behind that."""
        topic, group = await new_topic(bus, "orders", 2), fresh("group")
        await bus.publish(numbered(topic, 3) + numbered(topic, 3, partition=1))
        async with Reading(await bus.join(membership(group, topic, instance="one")), releases=False) as gives:
            await gives.got(6)
            async with Reading(await bus.join(membership(group, topic, instance="two"))) as gets:
                await gives.until(lambda: bool(gives.revoked), "a partition to be revoked")
                await gives.member.commit(
                    Transaction([], {partition: Committed(2, "done") for partition in partitions(topic, 2)})
                )
                early = dict(gets.owned)
                gives.release()
                await gets.until(lambda: bool(gets.owned), "a partition to be handed over")
                assert (early, gets.owned) == ({}, dict.fromkeys(gets.owned, Committed(2, "done")))
                assert values(await gets.got(1)) == [b"2"]

    async def test_who_does_not_release_in_time_has_lost(self, bus: Bus) -> None:
        """A rebalance does not wait for ever for a member that is stuck; that member's work there is void."""
        topic, group = await new_topic(bus, "orders", 2), fresh("group")
        await bus.publish(numbered(topic, 3) + numbered(topic, 3, partition=1))
        slow = membership(group, topic, instance="one", revoke_grace_s=1.0)
        async with Reading(await bus.join(slow), releases=False) as loses:
            await loses.got(6)
            async with Reading(await bus.join(membership(group, topic, instance="two"))) as gets:
                await loses.until(lambda: bool(loses.lost), "the revoked partition to be lost")
                await gets.until(lambda: bool(gets.owned), "the lost partition to be handed over")
                with pytest.raises(CommitError):
                    await loses.member.commit(Transaction([], {partition: Committed(3) for partition in gets.owned}))
                assert gets.owned == dict.fromkeys(gets.owned)

    async def test_what_a_change_says_is_what_is_owned(self, bus: Bus) -> None:
        """Nothing is assigned twice without being revoked or lost in between."""
        topic, group = await new_topic(bus, "orders", 3), fresh("group")
        async with Reading(await bus.join(membership(group, topic, instance="one"))) as stays:
            for instance in ("two", "three"):
                async with Reading(await bus.join(membership(group, topic, instance=instance))) as guest:
                    await guest.until(lambda: bool(guest.owned), "a share for the guest")
                await stays.owns(partitions(topic, 3))
            owned = set[TopicPartition]()
            for change in stays.changes:
                if isinstance(change, Assigned):
                    assert not owned & change.partitions.keys()
                    owned |= change.partitions.keys()
                else:
                    assert owned >= change.partitions
                    owned -= change.partitions
            assert owned == {*partitions(topic, 3)}
