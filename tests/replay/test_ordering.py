"""The order in which an agent met the events of a key is kept, whatever order they come in, and whichever do not come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antiphon.bus.activity import Handled
from antiphon.bus.record import Record, TopicPartition
from antiphon.replay.ordering import Ordering
from antiphon.replay.recording import Handling

KEYS = ("k0", "k1")
COUNT = 8


def handling(number: int) -> Handling:
    entry = Handled(
        event_id=f"e{number}",
        event_type="claim.filed",
        correlation_id=KEYS[number % 2],
        topic="claim.filed",
        partition=0,
        offset=number,
        attempt=1,
        outcome="completed",
        started_us=number,
        duration_us=1,
        queue_us=1,
    )
    return Handling(agent="payer", version="1", entry=entry)


def record(number: int) -> Record:
    return Record(f"topic{number % 3}", 0, number, b"k", b"", [("ce_id", f"e{number}".encode())], 0)


@given(st.permutations(range(COUNT)), st.sets(st.sampled_from(range(COUNT))))
def test_events_of_a_key_come_in_their_order(arriving: list[int], missing: set[int]) -> None:
    """All of them as soon as they can, and what waits for one that never comes once somebody says so."""
    ordering, passed = Ordering([handling(number) for number in range(COUNT)]), list[int]()
    for number in arriving:
        if number not in missing:
            ordering.arrived("payer", record(number), lambda one: passed.append(one.offset))
    waited = len(ordering.held)
    while ordering.held:
        ordering.let_go()
    came = [number for number in range(COUNT) if number not in missing]

    assert [[one for one in passed if one % 2 == key] for key in (0, 1)] == [
        [one for one in came if one % 2 == key] for key in (0, 1)
    ]
    assert waited == 0 or missing


def test_what_nobody_knows_of_is_not_held() -> None:
    """An event that was not handled then waits for none; what is given anew is taken anew."""
    ordering, passed = Ordering([handling(number) for number in range(COUNT)]), list[int]()
    ordering.arrived("payer", record(99), lambda one: passed.append(one.offset))
    ordering.arrived("payer", record(2), lambda one: passed.append(one.offset))
    ordering.forget("payer", [TopicPartition("topic2", 0)])
    for number in (0, 2):
        ordering.arrived("payer", record(number), lambda one: passed.append(one.offset))

    assert (passed, len(ordering.held)) == ([99, 0, 2], 0)


def test_what_is_given_of_one_partition_takes_nothing_from_another() -> None:
    """A group gives partitions one after the other: what came of the first is held still when the second is there."""
    ordering, passed = Ordering([handling(number) for number in range(COUNT)]), list[int]()
    ordering.arrived("payer", record(2), lambda one: passed.append(one.offset))
    ordering.forget("payer", [TopicPartition("topic2", 1)])
    ordering.arrived("payer", record(0), lambda one: passed.append(one.offset))

    assert passed == [0, 2]
