"""A rolling deploy whose new version hears an event more: for a while an agent's workers subscribe to different topics.

Each topic is then shared out among those who subscribe to it, so the same number
of two topics may be given to two workers, and both would change the same state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack

import pytest

from antiphon import Agent, Context, Event
from antiphon.bus.kafka.bus import KafkaBus
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.numbers import Numbers
from antiphon.bus.record import Committed, TopicPartition
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.simulation import Fault, Run, SimulationError, simulate

ACCOUNTS = [f"account-{n}" for n in range(16)]
PATIENCE_S = 60.0


@pytest.fixture(params=["memory", *(pytest.param(one, marks=pytest.mark.kafka) for one in GroupProtocol)])
def mesh(request: pytest.FixtureRequest) -> MemoryMesh:
    """In memory, and on Apache Kafka by either way of sharing out."""
    if request.param == "memory":
        return MemoryMesh()
    kafka, namespace = request.getfixturevalue("kafka"), request.getfixturevalue("namespace")
    config = KafkaConfig(bootstrap_servers=kafka, group_protocol=request.param)
    return MemoryMesh(bus=KafkaBus(config), names=Names(namespace))


class Paid(Event, key="account"):
    account: str


class Refunded(Event, key="account"):
    account: str


class Booked(Event, key="account"):
    account: str
    count: int


def books(*, refunds: bool) -> Agent:
    """The agent as it was, and as it is with *refunds*: it counts what it hears of an account."""
    agent = Agent("books", version="2" if refunds else "1")

    def book(account: str, context: Context) -> Booked:
        context.state["count"] = context.state.get("count", 0) + 1
        return Booked(account=account, count=context.state["count"])

    @agent.on(Paid)
    async def pay(paid: Paid, context: Context) -> Booked:
        return book(paid.account, context)

    if refunds:

        @agent.on(Refunded)
        async def refund(refunded: Refunded, context: Context) -> Booked:
            return book(refunded.account, context)

    return agent


async def test_a_version_that_hears_more_counts_on_from_what_the_other_counted(mesh: MemoryMesh) -> None:
    """Old and new side by side, then the new one alone: whatever each account was told, its count says so, and each number once."""
    old, new = books(refunds=False), books(refunds=True)
    await mesh.prepare(new)
    told = Counter[str]()

    async def tell(*events: Paid | Refunded) -> None:
        await mesh.publish(*events)
        told.update(event.account for event in events)

    async with AsyncExitStack() as later:
        await later.enter_async_context(mesh.running(new, instance="new"))
        async with mesh.running(old, instance="old"):
            for _ in range(5):
                await tell(*(Paid(account=account) for account in ACCOUNTS))
                await tell(*(Refunded(account=account) for account in ACCOUNTS))
            # What the new version may not do yet waits; what both do goes on.
            await mesh.eventually(Booked, count=5 * len(ACCOUNTS), timeout=PATIENCE_S)
        await tell(*(Paid(account=account) for account in ACCOUNTS))
        await mesh.eventually(Booked, count=told.total(), timeout=PATIENCE_S)

    counted: dict[str, list[int]] = {account: [] for account in ACCOUNTS}
    for booked in await mesh.eventually(Booked, count=told.total(), timeout=PATIENCE_S):
        counted[booked.account].append(booked.count)
    assert counted == {account: [*range(1, told[account] + 1)] for account in ACCOUNTS}


async def test_a_version_that_is_rolled_back_leaves_nothing_half_done(mesh: MemoryMesh) -> None:
    """The old one comes back while the new one works on both: it takes over what it hears, and the counts go on."""
    old, new = books(refunds=False), books(refunds=True)
    await mesh.prepare(new)
    async with mesh.running(new, instance="new"):
        for _ in range(3):
            await mesh.publish(*(Paid(account=account) for account in ACCOUNTS))
            await mesh.publish(*(Refunded(account=account) for account in ACCOUNTS))
        await mesh.eventually(Booked, count=2 * len(ACCOUNTS), timeout=PATIENCE_S)
        async with mesh.running(old, instance="old"):
            await mesh.publish(*(Paid(account=account) for account in ACCOUNTS))
            await mesh.publish(*(Refunded(account=account) for account in ACCOUNTS))
            await mesh.eventually(Booked, count=5 * len(ACCOUNTS), timeout=PATIENCE_S)
        booked = await mesh.eventually(Booked, count=8 * len(ACCOUNTS), timeout=PATIENCE_S)

    counted: dict[str, list[int]] = {account: [] for account in ACCOUNTS}
    for one in booked:
        counted[one.account].append(one.count)
    assert counted == {account: [*range(1, 9)] for account in ACCOUNTS}


EVENTS = [event(account=account) for _ in range(3) for account in ACCOUNTS[:6] for event in (Paid, Refunded)]
COMING = {Fault.JOIN, Fault.DELAY}


def counted(run: Run) -> None:
    """Every account was told six times, and counted on each time."""
    counts: dict[str, list[int]] = {}
    for booked in run.events(Booked):
        counts.setdefault(booked.account, []).append(booked.count)
    assert counts == {account: [1, 2, 3, 4, 5, 6] for account in ACCOUNTS[:6]}, f"counted {counts}"


def simulated(seeds: int, faults: Collection[Fault]) -> None:
    simulate(
        [books(refunds=True)], EVENTS, before=[books(refunds=False)], seeds=range(seeds), faults=faults, check=counted
    )


def test_versions_that_come_and_go_count_every_event_once() -> None:
    """Workers of both, in any order, while they crash, stall, join and leave."""
    simulated(60, frozenset(Fault))
    simulated(60, COMING)


def test_the_simulation_sees_two_versions_at_one_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where whoever is given a partition works on it, counts are lost within some schedules."""

    def at_once(
        _numbers: Numbers, partitions: Mapping[TopicPartition, Committed | None]
    ) -> dict[TopicPartition, Committed | None]:
        return dict(partitions)

    monkeypatch.setattr(Numbers, "give", at_once)
    with pytest.raises(SimulationError, match="counted"):
        simulated(60, COMING)
