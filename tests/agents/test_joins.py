"""Joins: called once for a workflow, when all have come, in whatever order."""

from __future__ import annotations

import itertools

import pytest

from antiphon import Agent, Context, Event
from antiphon.agents.errors import JoinKeyError
from antiphon.bus.delivery import Delivery
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import envelope_of
from antiphon.testing.delivery import MemoryServices, MemoryState, delivery_of, hand


class Reserved(Event):
    n: int


class Charged(Event):
    n: int


class Weighed(Event):
    n: int


class Shipped(Event):
    numbers: list[int]


class Desk:
    """One worker's view of an agent that joins three events of a workflow."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.state = MemoryState()
        self.services = MemoryServices()
        shipping = Agent("shipping")

        @shipping.on(Reserved, Charged, Weighed, join=True)
        async def ship(charged: Charged, weighed: Weighed, reserved: Reserved, context: Context) -> Shipped:
            context.state["shipped"] = True
            if self.failures:
                self.failures -= 1
                raise ConnectionError
            assert {envelope_of(event).correlation_id for event in (charged, weighed, reserved)} == {"w"}
            return Shipped(numbers=[charged.n, weighed.n, reserved.n])

        self.consumer = shipping.consumer()

    def delivery(self, event: Event, id: str, key: str | None = None) -> Delivery:
        envelope = Envelope(
            id=id, type=event.__event__.type, source="/t", time_us=1, correlation_id="w", parent_id="w", key=key
        )
        return delivery_of(event.sealed(envelope), state=self.state, services=self.services)

    async def hears(self, event: Event, id: str) -> list[Event]:
        return await hand(self.consumer, self.delivery(event, id))


PARTS = ((Reserved(n=1), "r"), (Charged(n=2), "c"), (Weighed(n=3), "w1"))


@pytest.mark.parametrize("order", [*itertools.permutations(PARTS)])
async def test_any_order(order: tuple[tuple[Event, str], ...]) -> None:
    """The last to come fires it and is the parent; the others are its causes; arguments go by annotation."""
    desk = Desk()
    first, second, last = order

    assert await desk.hears(*first) == []
    assert await desk.hears(*second) == []
    delivery = desk.delivery(*last)
    [shipped] = await hand(desk.consumer, delivery)

    assert shipped == Shipped(numbers=[2, 3, 1])
    envelope = envelope_of(shipped)
    assert (envelope.parent_id, {*envelope.causes}) == (last[1], {first[1], second[1]})
    assert delivery.causes == envelope.causes


async def test_late_duplicates_do_not_fire_again() -> None:
    """Any of the events may come again, before and after: the handler is called once."""
    desk = Desk()
    said = [await desk.hears(*part) for part in (PARTS[0], PARTS[0], *PARTS, *PARTS)]
    assert said == [[], [], [], [], [Shipped(numbers=[2, 3, 1])], [], [], []]


async def test_of_one_type_the_newest_counts() -> None:
    """A reservation was made anew while the others were still missing."""
    desk = Desk()
    await desk.hears(Reserved(n=1), "r1")
    await desk.hears(Reserved(n=9), "r2")
    await desk.hears(*PARTS[1])
    [shipped] = await desk.hears(*PARTS[2])

    assert shipped == Shipped(numbers=[2, 3, 9])
    assert envelope_of(shipped).causes == ("c", "r2")


async def test_a_handler_that_raised_is_called_again() -> None:
    """The join has fired only once its handler was through."""
    desk = Desk(failures=1)
    await desk.hears(*PARTS[0])
    await desk.hears(*PARTS[1])
    with pytest.raises(ConnectionError):
        await desk.hears(*PARTS[2])
    assert await desk.hears(*PARTS[2]) == [Shipped(numbers=[2, 3, 1])]


async def test_what_is_kept_is_small_in_the_end() -> None:
    """Once fired only that is remembered, beside the user's own state."""
    desk = Desk()
    for part in PARTS:
        await desk.hears(*part)
    assert desk.state.values == {
        "w": {"shipped": True, "antiphon.joins": {"charged+reserved+weighed": {"fired": True}}}
    }


async def test_an_event_with_a_key_of_its_own_is_set_aside() -> None:
    """It stands on another partition than the others and would wait for ever."""
    desk = Desk()
    with pytest.raises(JoinKeyError) as caught:
        await hand(desk.consumer, desk.delivery(Reserved(n=1), "r", key="order-7"))
    assert str(caught.value) == (
        "agent 'test' joins reserved: expected it keyed by its workflow, got key 'order-7'. "
        "Publish it without a key of its own."
    )


def test_the_consumer_names_what_is_joined() -> None:
    """Screens show which inputs wait for one another."""
    consumer = Desk().consumer
    assert consumer.joins == {"reserved", "charged", "weighed"} == {*consumer.hears}


async def test_what_a_newer_release_keeps_of_a_join_besides_stays() -> None:
    """While it waits, and when it has fired."""
    desk, name = Desk(), "charged+reserved+weighed"
    await desk.hears(Reserved(n=1), "r")
    desk.state.mapping("w")["antiphon.joins"][name]["since 2.0"] = [1]
    desk.state.mapping("w")["antiphon.joins"]["another"] = {"since 2.0": True}
    desk.state.keep()
    await desk.hears(Charged(n=2), "c")
    kept = desk.state.values["w"]["antiphon.joins"]
    assert (kept[name]["since 2.0"], [*kept[name]["waiting"]]) == ([1], ["reserved", "charged"])
    await desk.hears(Weighed(n=3), "w1")
    assert desk.state.values["w"]["antiphon.joins"] == {
        name: {"fired": True, "since 2.0": [1]},
        "another": {"since 2.0": True},
    }
