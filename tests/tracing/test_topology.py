"""Who says what to whom, and what looks wrong about it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from agency import VOYAGE, RefundCard
from voyage import (
    CardCharged,
    CardRefused,
    ChargeCard,
    HotelFull,
    HotelReserved,
    ReserveHotel,
    ReserveTrain,
    TrainFull,
    TrainReserved,
)

from antiphon.agents.agent import Agent
from antiphon.bus.consumer import Consumer
from antiphon.bus.heartbeat import AgentSeen, hears, says
from antiphon.schemas.event import Event
from antiphon.testing.story import Story
from antiphon.tracing.topology import (
    AgentNode,
    Finding,
    Kind,
    document,
    from_consumer,
    from_heartbeats,
    lint,
    mermaid,
)


def node(name: str, *, hears: str = "", says: str = "", undoes: str = "", fails: str = "") -> AgentNode:
    return AgentNode(
        agent=name,
        version="0",
        hears={type: type for type in hears.split()},
        says={type: type for type in says.split()},
        undoes=frozenset(undoes.split()),
        fails=frozenset(fails.split()),
    )


class Seen(Event, type="it.seen"):
    pass


class PutAside(Event, type="it.reserved"):
    pass


class Approved(Event, type="it.approved"):
    pass


def kinds(*agents: AgentNode) -> list[tuple[Kind, str]]:
    return [(finding.kind, finding.about) for finding in lint(agents)]


COORDINATOR = node("compensation", hears="antiphon.activity.recorded")


def test_a_chain_begins_and_ends_somewhere() -> None:
    """Notes, not warnings: every mesh has a beginning and an end."""
    assert kinds(node("a", hears="x", says="y"), node("b", hears="y", says="z")) == [
        (Kind.DEAD_SUBSCRIPTION, "x"),
        (Kind.ORPHAN_EVENT, "z"),
        (Kind.UNNOTICED_AGENT, "b"),
    ]


def test_a_cycle_is_found_once() -> None:
    """However many events it goes through."""
    circle = [node("a", hears="x", says="y"), node("b", hears="y", says="z"), node("c", hears="z", says="x")]

    assert kinds(*circle) == [(Kind.CYCLE, "x")]


def test_what_can_end_a_cycle_decides_what_is_said_of_it() -> None:
    """A hop limit ends every circle; where that alone does, or there is none, it is no mere note."""

    def said(*agents: AgentNode) -> list[tuple[Kind, str]]:
        circles = (Kind.CYCLE, Kind.LIMITED_CYCLE)
        return [(finding.kind, finding.remedy.split(":")[0]) for finding in lint(agents) if finding.kind in circles]

    ping, pong = node("ping", hears="x", says="y done"), node("pong", hears="y", says="x")
    endless = dataclasses.replace(pong, max_hops=0)

    assert said(ping, pong) == [(Kind.LIMITED_CYCLE, "fine if something ends it")]
    assert said(ping, endless) == [
        (Kind.CYCLE, "set ANTIPHON_MAX_HOPS for the workers of pong, which have no hop limit")
    ]
    assert said(dataclasses.replace(ping, says={"y": "y"}), pong) == [
        (Kind.CYCLE, "say something else once it is enough")
    ]


def test_a_join_of_what_no_event_leads_to_is_found() -> None:
    """Its inputs are of different workflows. What nobody here says may come into any."""
    join = dataclasses.replace(node("policy", hears="a b", says="c"), joins=frozenset({"a", "b"}))
    apart = [node("left", hears="x", says="a"), node("right", hears="y", says="b"), join]
    together = [node("left", hears="x", says="a"), node("right", hears="a", says="b"), join]

    assert (Kind.SEPARATE_JOIN, "policy") in kinds(*apart)
    assert Kind.SEPARATE_JOIN not in {kind for kind, _ in kinds(*together)}
    assert Kind.SEPARATE_JOIN not in {kind for kind, _ in kinds(apart[0], join)}


def test_an_agent_that_nobody_would_miss_is_found() -> None:
    """It says nothing that anybody hears, and undoes nothing: where it is down, all seems well."""
    mesh = [node("a", hears="x", says="y"), node("sink", hears="y"), node("keeper", hears="y", says="z", undoes="z")]
    [found] = [finding for finding in lint(mesh) if finding.kind is Kind.UNNOTICED_AGENT]
    assert (found.about, found.message) == ("sink", "sink says nothing: where it is down, no workflow fails")


def test_an_agent_that_says_things_about_different_events_makes_no_cycle() -> None:
    """It reserves when it hears of a package, and only notes the approval: nothing comes round."""
    catalogue = Agent("catalogue")

    @catalogue.on()
    async def reserve(seen: Seen) -> PutAside:
        return PutAside()

    @catalogue.on()
    async def note(approved: Approved) -> None:
        pass

    policy = node("policy", hears="it.reserved", says="it.approved")

    assert Kind.CYCLE not in {kind for kind, _ in kinds(from_consumer(catalogue.consumer()), policy)}


def test_what_a_failure_leaves_behind_is_found() -> None:
    """Reserve undoes, charge does not, and shipping can fail after both."""
    mesh = [
        node("stock", hears="order.placed", says="stock.reserved", undoes="stock.reserved"),
        node("card", hears="stock.reserved", says="card.charged"),
        node("parcel", hears="card.charged", says="parcel.lost", fails="parcel.lost"),
    ]

    assert (Kind.MISSING_COMPENSATION, "card.charged") in kinds(*mesh, COORDINATOR)
    assert (Kind.NO_COORDINATOR, "stock") not in kinds(*mesh, COORDINATOR)


def test_undoing_without_a_coordinator_is_found() -> None:
    """Nobody would ask."""
    [found] = [
        found for found in lint([node("a", hears="x", says="y", undoes="y")]) if found.kind is Kind.NO_COORDINATOR
    ]

    assert found == Finding(
        Kind.NO_COORDINATOR,
        "a",
        "a can undo, but nobody asks them to",
        "run the coordinator: antiphon run compensation",
    )


def test_two_topics_for_one_type_are_found() -> None:
    """The hearer would wait for ever."""
    mesh = [node("a", hears="x", says="y"), AgentNode(agent="b", version="0", hears={"y": "elsewhere"}, says={})]

    assert kinds(*mesh)[0] == (Kind.TOPIC_CONFLICT, "y")


class Reserved(Event, key="shelf"):
    shelf: str


class Charged(Event):
    amount: int


def test_a_join_of_what_never_meets_is_found() -> None:
    """One input stands on the shelf's partition, the other on the workflow's."""

    async def handler(event: Event) -> list[Event]:
        return []

    hears = {event_class.__event__.type: event_class for event_class in (Reserved, Charged)}
    policy = Consumer(name="policy", hears=hears, joins=frozenset(hears), handler=handler)
    found = [finding for finding in lint([from_consumer(policy)]) if finding.kind is Kind.KEYED_JOIN]
    assert [(finding.about, finding.message) for finding in found] == [
        ("reserved", "policy joins reserved, whose class names a key of its own: the inputs never meet")
    ]


@pytest.mark.parametrize("heard", [False, True])
def test_a_saga_is_no_agent_that_forgot_to_undo(*, heard: bool) -> None:
    """Its answers lead to later steps, so nothing comes round; its commands have undos by its steps, and need none of its own."""
    consumers = [VOYAGE.consumer(), *(one.consumer() for one in clerks())]
    if heard:
        told = [
            AgentSeen(**SEEN, agent=one.name, hears=hears(one), emits=says(one), undoes=[*one.undoes])
            for one in consumers
        ]
        mesh = from_heartbeats(told)
    else:
        mesh = [from_consumer(one) for one in consumers]
    found = [(finding.kind, finding.about) for finding in lint(mesh, live=False)]
    assert found == [(Kind.DEAD_SUBSCRIPTION, "voyage.planned"), (Kind.ORPHAN_EVENT, "voyage.paid")]


def clerks() -> list[Agent]:
    """The agents of the voyage's steps. Train can refuse, for the whole workflow."""
    train, hotel, card = Agent("train"), Agent("hotel"), Agent("card")

    @train.on(ReserveTrain)
    async def ride(asked: ReserveTrain) -> TrainReserved | TrainFull: ...  # type: ignore[empty-body]

    @train.undoes(TrainReserved)
    async def walk(reserved: TrainReserved) -> None: ...

    @hotel.on(ReserveHotel)
    async def book(asked: ReserveHotel) -> HotelReserved | HotelFull: ...  # type: ignore[empty-body]

    @hotel.undoes(HotelReserved)
    async def cancel(reserved: HotelReserved) -> None: ...

    @card.on(ChargeCard)
    async def pay(asked: ChargeCard) -> CardCharged | CardRefused: ...  # type: ignore[empty-body]

    @card.on(RefundCard)
    async def refund(asked: RefundCard) -> None: ...

    return [train, hotel, card]


SEEN: dict[str, Any] = {
    "version": "0",
    "instance": "i",
    "started_us": 0,
    "time_us": 0,
    "interval_s": 1.0,
    "capacity": 1,
}


def test_read_from_heartbeats() -> None:
    """What runs says the same as its code; of several workers the newest counts."""
    story = Story()
    story.works("stock", hears=["order.changed"], version="1", at_ms=5)
    story.works(
        "stock", hears=["order.placed"], emits=["stock.reserved"], undoes=["stock.reserved"], version="2", at_ms=9
    )
    story.works("compensation", hears=["antiphon.activity.recorded"])
    agents = from_heartbeats(story.agents)
    assert [agent for agent in agents if agent.agent == "stock"] == [
        AgentNode(
            agent="stock",
            version="2",
            hears={"order.placed": "order.placed"},
            says={"stock.reserved": "stock.reserved"},
            undoes=frozenset({"stock.reserved"}),
        )
    ]
    shown = document(agents)
    assert [agent["agent"] for agent in shown["agents"]] == ["stock"]
    assert [event["type"] for event in shown["events"]] == ["order.placed", "stock.reserved"]


def test_names_are_no_syntax() -> None:
    """Heartbeats come from whoever can write to the topic."""
    assert mermaid([node('a"]', hears="x<b>")]).splitlines() == [
        "flowchart LR",
        '    e0(["x#60;b#62;"])',
        '    a0["a#34;#93;"]',
        "    e0 --> a0",
    ]
