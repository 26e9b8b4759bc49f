"""What docs/operate/upgrade.md says of a change to an agent that others do not notice, or that they do."""

from __future__ import annotations

import pytest

from antiphon import Agent, Context, Event
from antiphon.bus.consumer import Guarantee
from antiphon.testing.mesh import MemoryMesh


class Paid(Event, key="account"):
    account: str


class Refunded(Event, key="account"):
    account: str


class Booked(Event, key="account"):
    account: str
    count: int


def books(name: str = "books", *, refunds: bool = False, guarantee: Guarantee = Guarantee.EXACTLY_ONCE) -> Agent:
    """Make an agent that counts what it hears of an account."""
    agent = Agent(name, guarantee=guarantee)

    @agent.on(*((Paid, Refunded) if refunds else (Paid,)))
    async def book(event: Paid | Refunded, context: Context) -> Booked:
        context.state["count"] = context.state.get("count", 0) + 1
        return Booked(account=event.account, count=context.state["count"])

    return agent


async def counts(mesh: MemoryMesh, said: int) -> list[int]:
    """Wait for so many bookings, and return what they count, in order of the log; one account, so one partition."""
    return [booked.count for booked in await mesh.eventually(Booked, count=said)]


@pytest.fixture
def mesh() -> MemoryMesh:
    return MemoryMesh()


async def test_a_guarantee_changes_like_any_version(mesh: MemoryMesh) -> None:
    """There and back, one worker after the other and side by side: each event is counted once."""
    once, often = books(), books(guarantee=Guarantee.AT_LEAST_ONCE)
    for agent in (once, often, once):
        async with mesh.running(agent):
            await mesh.publish(Paid(account="a"))
            before = len(await mesh.events(Booked))
            await mesh.eventually(Booked, count=before + 1)
    async with mesh.running(once, instance="once"), mesh.running(often, instance="often"):
        await mesh.publish(*(Paid(account="a") for _ in range(3)))
        assert await counts(mesh, 6) == [1, 2, 3, 4, 5, 6]


async def test_a_subscription_more_begins_with_the_oldest_event_there_is(mesh: MemoryMesh) -> None:
    """Its group has no offset there, so what was published long before the deployment is handled too."""
    await mesh.prepare(books(refunds=True))
    async with mesh.running(books()):
        await mesh.publish(Refunded(account="a"), Paid(account="a"))
        assert await counts(mesh, 1) == [1]
    async with mesh.running(books(refunds=True)):
        assert await counts(mesh, 2) == [1, 2]


async def test_the_number_of_partitions_that_is_there_goes_before_the_setting(mesh: MemoryMesh) -> None:
    """Whoever starts a worker with another setting joins the mesh as it is."""
    await mesh.prepare(books())
    mesh.partitions = 48
    async with mesh.running(books()):
        await mesh.publish(Paid(account="a"))
        assert await counts(mesh, 1) == [1]
    assert {await mesh.bus.topics() == dict.fromkeys(await mesh.bus.topics(), 4)} == {True}


async def test_under_another_name_it_is_another_agent(mesh: MemoryMesh) -> None:
    """It handles from the beginning, without state, and what it says has ids of its own."""
    for name in ("books", "ledger"):
        async with mesh.running(books(name)):
            if name == "books":
                await mesh.publish(Paid(account="a"))
            await mesh.eventually(Booked, count=1 if name == "books" else 2)
    [(first, booked), (second, again)] = await mesh.events(Booked)
    assert (booked.count, again.count, first.parent_id == second.parent_id, first.id == second.id) == (
        1,
        1,
        True,
        False,
    )
