"""Which workflows a canary handles, what may be a canary of what, and who is told that there are two versions."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import Agent, Event
from antiphon.bus.canary import beside, uneven
from antiphon.bus.consumer import Consumer, Lane
from antiphon.bus.errors import CanaryError
from antiphon.bus.heartbeat import AgentSeen, canary
from antiphon.bus.share import WHOLE, Share, place

SHARES = st.integers(0, WHOLE).map(Share)


@given(st.text(), SHARES, SHARES)
def test_a_larger_share_has_all_of_a_smaller_one(id: str, one: Share, other: Share) -> None:
    """Raising it moves workflows from the old version to the new one, never back; nothing has none, all has all."""
    small, large = sorted([one, other])
    assert large.takes(id) or not small.takes(id)
    assert (Share(0).takes(id), Share(WHOLE).takes(id)) == (False, True)


@given(SHARES)
def test_a_share_is_read_as_it_is_written(share: Share) -> None:
    """`antiphon config` shows what a worker goes by."""
    assert Share.parse(str(share)) == share


@pytest.mark.parametrize("text", ["", "10", "0.1", "101%", "100.01%", "-1%", "1.234%", "1e1%", "ten%", "%", "\u0661%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    """0.1 might be a tenth or a thousandth: it has to be said."""
    with pytest.raises(
        ValueError, match=r"a percentage from 0% to 100% with at most two decimals, such as 10% or 0\.5%"
    ):
        Share.parse(text)


def test_places_stay_what_they_are() -> None:
    """Workers of all releases must agree: these are the first eight bytes of SHA-256, modulo 10,000."""
    assert [place(id) for id in ("", "order-7", "0199f2c1-0000-7000-8000-000000000001")] == [1652, 5383, 6036]


@pytest.mark.parametrize("percent", [1, 10, 50])
def test_a_share_is_about_that_share(percent: int) -> None:
    """Of a hundred thousand ids that differ in their last digits alone, within four standard deviations."""
    share, count = Share(percent * 100), 100_000
    taken = sum(share.takes(f"0199f2c1-0000-7000-8000-{number:012x}") for number in range(count))
    deviation = (count * percent / 100 * (1 - percent / 100)) ** 0.5
    assert abs(taken - count * percent / 100) < 4 * deviation


# What may be a canary of what.


class Opened(Event):
    n: int


class Asked(Event):
    n: int


class Answered(Event):
    n: int


class Closed(Event):
    n: int


def agent(version: str, *, say: Callable[[Agent], Any] = lambda made: None, **options: Any) -> Consumer:
    """An agent that answers what is opened; *say* adds to it."""
    made = Agent("desk", version=version, **options)

    @made.on(Opened)
    async def opened(event: Opened) -> Answered:
        return Answered(n=event.n)

    say(made)
    return made.consumer()


def hears_more(made: Agent) -> None:
    @made.on(Asked)
    async def asked(event: Asked) -> Answered:
        return Answered(n=event.n)


def says_more(made: Agent) -> None:
    @made.on(Asked)
    async def asked(event: Asked) -> Closed:
        return Closed(n=event.n)


def undoes(made: Agent) -> None:
    @made.undoes(Answered)
    async def undo(event: Answered) -> None:
        return None


def joins(made: Agent) -> None:
    @made.on(Asked, Closed, join=True)
    async def both(asked: Asked, closed: Closed) -> Answered:
        return Answered(n=asked.n + closed.n)


def hears_them_apart(made: Agent) -> None:
    hears_more(made)

    @made.on(Closed)
    async def closed(event: Closed) -> Answered:
        return Answered(n=event.n)


def holds(made: Agent) -> None:
    @made.on(Asked, holds="n")
    async def asked(event: Asked) -> Answered:
        return Answered(n=event.n)


def elsewhere(made: Agent) -> None:
    class Moved(Event, type="asked", topic="questions"):
        n: int

    @made.on(Moved)
    async def asked(event: Moved) -> Answered:
        return Answered(n=event.n)


DIFFERENCES = [
    (
        agent("1"),
        agent("1"),
        ["expected a version other than '1', by which traces tell them apart, got the same: say version="],
    ),
    (agent("1"), agent("2", say=hears_more), ["expected it to hear opened, got asked, opened"]),
    (agent("1", say=hears_more), agent("2"), ["expected it to hear asked, opened, got opened"]),
    (
        agent("1", say=hears_more),
        agent("2", say=says_more),
        ["expected it to emit nothing but answered, got answered, closed"],
    ),
    (
        agent("1", say=hears_more),
        agent("2", say=elsewhere),
        [
            "expected asked to be declared with topic='asked', key=None, fails=False, "
            "got topic='questions', key=None, fails=False"
        ],
    ),
    (agent("1"), agent("2", say=undoes), ["expected it to undo nothing, got answered"]),
    (agent("1", say=undoes), agent("2"), ["expected it to undo answered, got nothing"]),
    (agent("1", say=joins), agent("2", say=hears_them_apart), ["expected it to join asked + closed, got nothing"]),
    (agent("1", say=hears_more), agent("2", say=holds), ["expected it to hold nothing, got n for asked"]),
    (
        agent("1"),
        dataclasses.replace(agent("2"), lane=Lane.PARTITION),
        ["expected agents, got a saga or the coordinator: a saga takes its earlier versions as previous="],
    ),
    (agent("1"), dataclasses.replace(agent("2"), name="desk2"), ["expected an agent named 'desk', got 'desk2'"]),
    (
        agent("1"),
        dataclasses.replace(agent("2"), emits=None),
        ["expected it to emit nothing but answered, got anything"],
    ),
]


@pytest.mark.parametrize(("stable", "other", "differences"), DIFFERENCES)
def test_what_cannot_stand_in_is_refused(stable: Consumer, other: Consumer, differences: list[str]) -> None:
    """Where a workflow could not go from one version to the other, or others would have to know of two."""
    with pytest.raises(CanaryError) as caught:
        beside(stable, other, Share(1_000))
    assert str(caught.value).splitlines() == [
        f"the canary {other.version} of 'desk' cannot have a share of its workflows:",
        *differences,
        "Have it agree in that; or deploy it as a whole, which a rolling deployment does worker by worker",
    ]


def test_an_event_that_leads_to_more_is_refused() -> None:
    """What it may lead to is what the coordinator waits for."""

    def answers(made: Agent) -> None:
        @made.on(Asked)
        async def asked(event: Asked) -> Closed:
            return Closed(n=event.n)

    def swaps(made: Agent) -> None:
        @made.on(Asked)
        async def asked(event: Asked) -> Answered | Closed:
            return Closed(n=event.n)

    with pytest.raises(CanaryError) as caught:
        beside(agent("1", say=answers), agent("2", say=swaps), Share(1))
    assert caught.value.differences == ("expected asked to lead to nothing but closed, got answered, closed",)
    assert beside(agent("1", say=swaps), agent("2", say=answers), Share(1)).share == Share(1)


def test_what_belongs_to_the_consumer_is_the_stable_ones() -> None:
    """Concurrency and guarantee are of the group; retries and the time-out of whoever handles."""
    both = beside(
        agent("1", concurrency=7, timeout=3, guarantee="exactly_once"),
        agent("2", concurrency=70, timeout=30, guarantee="at_least_once"),
        Share(5_000),
    )
    mine, others = both.version_for("order-8"), both.version_for("order-7")
    assert [(one.version, one.timeout_s) for one in (mine, others)] == [("2", 30), ("1", 3)]
    assert (both.concurrency, both.guarantee.value, both.topics) == (7, "exactly_once", ("opened",))


# Who is told.


def seen(instance: str, consumer: Consumer) -> AgentSeen:
    return AgentSeen(
        agent=consumer.name,
        version=consumer.version,
        instance=instance,
        started_us=0,
        time_us=0,
        interval_s=1,
        capacity=1,
        canary=canary(consumer),
    )


def test_workers_that_differ_in_their_share_are_found() -> None:
    """Those of one agent; what another agent's have is another matter."""
    alone = agent("1")
    tenth, fifth = (beside(alone, agent("2"), Share(n)) for n in (1_000, 2_000))
    other = dataclasses.replace(tenth, name="other")
    workers = [seen("c", fifth), seen("a", tenth), seen("b", tenth), seen("d", alone), seen("x", other)]
    assert uneven(workers) == {"desk": {"2 for 10%": ["a", "b"], "2 for 20%": ["c"], "no canary": ["d"]}}
    assert uneven(workers[1:3] + workers[4:]) == {}
