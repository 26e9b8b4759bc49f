"""No interleaving of a rebalance lets work be committed that somebody will do again."""

from __future__ import annotations

import contextlib

import pytest

from antiphon.bus.errors import CommitError
from antiphon.bus.kafka.ownership import Ownership, Ticket
from antiphon.bus.record import TopicPartition

P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)


def test_what_was_told_can_be_committed() -> None:
    """With the group's latest word."""
    ownership = Ownership()
    ownership.hear("generation 1")
    ownership.tell([P0, P1], ownership.begin([P0, P1]))
    ownership.hear("generation 2")
    assert ownership.ticket(ownership.work([P0])) == Ticket("generation 2", 2)


def test_what_was_not_told_cannot() -> None:
    """Assigned, but the taker has not heard: nothing of it can be the taker's work."""
    ownership = Ownership()
    ownership.begin([P0])
    with pytest.raises(CommitError, match=r"orders\[0\] is not this member's any more"):
        ownership.work([P0])


def test_given_up_and_given_back_before_anybody_heard() -> None:
    """The group's word is fresh and the broker would accept it: the records would be handled twice."""
    ownership = Ownership()
    ownership.tell([P0, P1], ownership.begin([P0, P1]))
    ownership.end([P0])
    again = ownership.begin([P0])
    ownership.hear("generation 2")
    before = ownership.work([P0, P1])
    with pytest.raises(CommitError):
        ownership.ticket(before)
    ownership.untell([P0])
    ownership.tell([P0], again)
    assert ownership.ticket(ownership.work([P0, P1])).metadata == "generation 2"


def test_handed_over_before_it_was_given_up_and_given_back() -> None:
    """A thread that comes to it late, or tries it again, finds a term that the taker knows; the work is not of that one."""
    ownership = Ownership()
    ownership.tell([P0], ownership.begin([P0]))
    handed_over = ownership.work([P0])
    ownership.end([P0])
    ownership.untell([P0])
    ownership.tell([P0], ownership.begin([P0]))
    with pytest.raises(CommitError), ownership.committing(handed_over):
        pass
    assert ownership.settle([P0], within_s=0.0)


def test_one_lost_partition_spoils_the_transaction() -> None:
    """It is all or nothing."""
    ownership = Ownership()
    ownership.tell([P0, P1], ownership.begin([P0, P1]))
    ownership.end([P1])
    ownership.ticket(ownership.work([P0]))
    with pytest.raises(CommitError):
        ownership.ticket(ownership.work([P0, P1]))


def test_waiting_for_a_newer_word() -> None:
    """One that was asked for before may still be the old one: two are needed."""
    ownership = Ownership()
    ticket = ownership.ticket({})
    ownership.hear("generation 1")
    assert not ownership.newer(ticket, within_s=0.0)
    ownership.hear("generation 2")
    assert ownership.newer(ticket, within_s=0.0)


def test_a_partition_is_not_given_back_during_its_commit() -> None:
    """Its next owner would ask what is committed too early; another partition's commit holds nothing up."""
    ownership = Ownership()
    ownership.tell([P0, P1], ownership.begin([P0, P1]))
    with ownership.committing(ownership.work([P0])):
        assert (ownership.settle([P0], within_s=0.0), ownership.settle([P1], within_s=0.0)) == (False, True)
    assert ownership.settle([P0], within_s=0.0)


def test_a_commit_of_unknown_outcome_is_under_way_until_it_is_fenced() -> None:
    """It may still come to be: whoever asked now what is committed might be told what no longer holds a moment later."""
    ownership = Ownership()
    ownership.tell([P0], ownership.begin([P0]))
    with contextlib.suppress(TimeoutError), ownership.committing(ownership.work([P0])):
        raise TimeoutError
    assert not ownership.settle([P0], within_s=0.0)
    ownership.fenced()
    assert ownership.settle([P0], within_s=0.0)


def test_what_is_being_given_back_is_committed_no_more() -> None:
    """A commit that comes between the waiting and the end of it would be left behind."""
    ownership = Ownership()
    ownership.tell([P0], ownership.begin([P0]))
    ownership.settle([P0], within_s=0.0)
    with pytest.raises(CommitError), ownership.committing(ownership.work([P0])):
        pass


def test_what_hangs_is_not_waited_for_once_its_producer_is_fenced() -> None:
    """It will never count; and when its call ends after all, what began meanwhile is still under way."""
    ownership = Ownership()
    ownership.tell([P0], ownership.begin([P0]))
    with ownership.committing(ownership.work([P0])):
        ownership.fenced()
        assert ownership.settle([P0], 0.0)
        ownership.tell([P0], ownership.begin([P0]))
        with ownership.committing(ownership.work([P0])):
            assert not ownership.settle([P0], 0.0)
