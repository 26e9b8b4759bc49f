"""Workflows that fail, or do not, on the bus in memory: what is undone of them, and in which order."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from ordering import AGENTS, CardCharged, OrderLost, OrderPlaced, ParcelSent, Refused, Shop, StockReserved

from antiphon import Agent, Mesh, RetryPolicy
from antiphon.agents.errors import UndoError
from antiphon.bus.errors import WorkflowFailedError
from antiphon.bus.settings import Settings
from antiphon.compensation.workflow import Phase
from antiphon.testing.mesh import MemoryMesh, consumers_of
from antiphon.testing.virtual import run_virtually


async def test_s01_all_steps_succeed() -> None:
    """Nothing is asked to be undone."""
    shop = Shop()
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.eventually(ParcelSent, count=1)
        kept = await shop.until(workflow, Phase.COMPLETED)
    assert (await shop.asked(), kept.failure, sorted(shop.log)) == ([], None, ["card", "gift", "parcel", "stock"])


@pytest.mark.parametrize(
    ("refusing", "log"),
    [
        ("card", ["stock", "-stock"]),
        ("parcel", ["stock", "card", "gift", "-gift", "-card", "-stock"]),
    ],
)
async def test_s02_a_step_refuses(refusing: str, log: list[str]) -> None:
    """What was done before is undone backwards, and the reason is kept."""
    shop = Shop(agents=("stock", "card") if refusing == "card" else AGENTS, **{refusing: "refuses"})
    async with shop.running(*shop.crew()):
        kept = await shop.until(await shop.order(), Phase.COMPENSATED)
    assert sorted(shop.log) == sorted(log)
    assert shop.log.index("-stock") == len(log) - 1
    assert kept.failure is not None
    assert kept.failure.reason == f"refused, said by {refusing}"


async def test_s03_the_first_step_refuses() -> None:
    """There is nothing to undo."""
    shop = Shop(stock="refuses")
    async with shop.running(*shop.crew()):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    assert (shop.log, await shop.asked()) == ([], [])


async def test_s03_who_asked_is_told_at_once() -> None:
    """Who waits for an answer gets the reason instead, without waiting for the time-out; of an answer that fails, the answer."""
    shop = Shop(stock="refuses")
    settings = Settings(partitions=shop.partitions)
    async with shop.running(*shop.crew()), Mesh(shop.bus, settings=settings, store=shop.store) as mesh:
        with pytest.raises(WorkflowFailedError) as failed:
            await mesh.request(OrderPlaced(order="A"), until=ParcelSent, timeout=60)
        refused = await mesh.request(OrderPlaced(order="B"), until=(ParcelSent, Refused), timeout=60)
    assert (failed.value.reason, refused) == ("refused, said by stock", Refused(order="B", by="stock"))


async def test_s04_the_last_step_refuses() -> None:
    """All earlier ones are undone, each once."""
    shop = Shop(parcel="refuses")
    async with shop.running(*shop.crew()):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    assert sorted(await shop.asked()) == [
        ("card", "card.charged"),
        ("gift", "gift.wrapped"),
        ("stock", "stock.reserved"),
    ]


async def test_s05_a_step_that_was_skipped_is_not_undone() -> None:
    """An agent that has nothing to do here emits nothing."""
    shop = Shop(agents=("stock", "card", "gift"), gift="does nothing", card="refuses")
    async with shop.running(*shop.crew()):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    assert shop.log == ["stock", "-stock"]


async def test_s06_a_step_without_undo_is_passed_over() -> None:
    """What only looks has nothing to undo, and the workflow is compensated all the same."""
    shop, reader = Shop(agents=("stock", "card"), card="refuses"), Agent("reader")

    @reader.on(StockReserved)
    async def read(reserved: StockReserved) -> ParcelSent:
        return ParcelSent(order=reserved.order)

    async with shop.running(*shop.crew(), reader):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    assert await shop.asked() == [("stock", "stock.reserved")]


async def test_s07_a_step_takes_its_time() -> None:
    """The workflow runs as long as somebody is at it, whoever else has finished."""
    shop = Shop(agents=("stock", "card"), card="waits")
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.logged("stock", "card waits")
        await shop.quiet()
        assert (await shop.kept(workflow)).phase is Phase.RUNNING
        shop.gates["card"].set()
        await shop.until(workflow, Phase.COMPLETED)


async def test_s08_a_transient_error_is_retried() -> None:
    """It fails nothing."""
    shop = Shop(agents=("stock", "card"), card="fails 2")
    async with shop.running(*shop.crew()):
        await shop.until(await shop.order(), Phase.COMPLETED)
    assert (shop.log, await shop.asked()) == (["stock", "card"], [])


def test_s08_the_waits_between_attempts_grow() -> None:
    """Twice as long each time, up to the longest there may be: exactly, by a clock that stands still while there is work."""
    began: list[float] = []
    busy = Agent("busy", retry=RetryPolicy(attempts=6, base_s=1.5, cap_s=10.0, jitter=False))

    @busy.on(OrderPlaced)
    async def attempt(placed: OrderPlaced) -> StockReserved:
        began.append(asyncio.get_running_loop().time())
        if len(began) < 6:
            raise ConnectionError(placed.order)
        return StockReserved(order=placed.order)

    async def play() -> None:
        mesh = MemoryMesh()
        async with mesh.running(busy):
            await mesh.publish(OrderPlaced(order="A"))
            await mesh.eventually(StockReserved, count=1, timeout=60)

    run_virtually(play())
    assert [round(then - before, 6) for before, then in itertools.pairwise(began)] == [1.5, 3.0, 6.0, 10.0, 10.0]


@pytest.mark.parametrize(("mood", "why"), [("fails", "ConnectionError: card"), ("dies", "PermanentError: card")])
async def test_s09_what_cannot_be_handled_fails_its_workflow(mood: str, why: str) -> None:
    """Given up after the last attempt, or at once."""
    shop = Shop(agents=("stock", "card"), card=mood)
    async with shop.running(*shop.crew()):
        kept = await shop.until(await shop.order(), Phase.COMPENSATED)
    assert shop.log == ["stock", "-stock"]
    assert kept.failure is not None
    assert kept.failure.reason == f"card could not handle stock.reserved: {why}"


async def test_s10_parallel_branches_succeed() -> None:
    """Their join fires once."""
    shop = Shop()
    async with shop.running(*shop.crew()):
        await shop.until(await shop.order(), Phase.COMPLETED)
    assert shop.log.count("parcel") == 1


async def test_s11_a_branch_fails_while_its_sibling_runs() -> None:
    """The sibling is awaited, and undone before what led to both."""
    shop = Shop(agents=("stock", "card", "gift"), card="refuses", gift="waits")
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.logged("stock", "gift waits")
        await shop.until(workflow, Phase.COMPENSATING)
        await shop.quiet()
        assert await shop.asked() == []
        shop.gates["gift"].set()
        await shop.until(workflow, Phase.COMPENSATED)
    assert shop.log == ["stock", "gift waits", "gift", "-gift", "-stock"]


async def test_s12_a_diamond_fails_at_its_end() -> None:
    """Both branches are undone, in any order, before the root."""
    shop = Shop(parcel="refuses")
    async with shop.running(*shop.crew()):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    assert (sorted(shop.log[-3:-1]), shop.log[-1]) == (["-card", "-gift"], "-stock")


async def test_s13_a_branch_that_never_started_is_not_undone() -> None:
    """Its agent was down, and is no part of it."""
    shop = Shop(card="refuses")
    async with shop.running(*shop.crew("stock", "card")):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    assert await shop.asked() == [("stock", "stock.reserved")]


@pytest.mark.parametrize("event", [OrderPlaced(order="A"), StockReserved(order="A")])
async def test_s17_a_start_that_comes_twice(event: OrderPlaced | StockReserved) -> None:
    """With one id it is one workflow, and what it did is undone once."""
    shop = Shop(agents=("stock", "card"), card="dies")
    async with shop.running(*shop.crew()):
        for _ in range(2):
            await shop.publisher.publish([event], id="one")
        await shop.until("one", Phase.COMPENSATED)
        await shop.quiet()
    assert shop.log.count("-stock") <= 1
    assert len(await shop.asked()) == shop.log.count("-stock")


async def test_s27_a_failure_that_is_added_when_all_was_done() -> None:
    """An application says that it failed when nothing was outstanding any more: what was done is undone."""
    shop = Shop()
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.until(workflow, Phase.COMPLETED)
        await shop.publisher.publish([OrderLost(order="A")], correlation_id=workflow)
        kept = await shop.until(workflow, Phase.COMPENSATED)
    assert kept.failure is not None
    assert kept.failure.reason == "order.lost, heard by parcel"
    assert sorted(shop.log[-3:-1]) == ["-card", "-gift"]


async def test_a_failure_of_no_workflow_undoes_nothing() -> None:
    """Said without a correlation id it is a workflow of its own, and no other one's failure."""
    shop = Shop()
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.until(workflow, Phase.COMPLETED)
        [lost] = await shop.publisher.publish([OrderLost(order="A")])
        await shop.until(lost.correlation_id, Phase.COMPENSATED)
        await shop.quiet()
    assert (await shop.asked(), (await shop.kept(workflow)).phase) == ([], Phase.COMPLETED)


async def test_s42_a_step_that_ran_several_times_is_undone_as_often() -> None:
    """Each with what it said then."""
    shop, tickets = Shop(agents=()), Agent("tickets")
    log: list[str] = []

    @tickets.on(OrderPlaced)
    async def book(placed: OrderPlaced) -> list[StockReserved]:
        return [StockReserved(order=f"{placed.order}{seat}") for seat in range(3)]

    @tickets.on(StockReserved)
    async def refuse(reserved: StockReserved) -> OrderLost | None:
        return OrderLost(order=reserved.order) if reserved.order == "A2" else None

    @tickets.undoes(StockReserved)
    async def cancel(reserved: StockReserved) -> None:
        log.append(reserved.order)

    async with shop.running(*consumers_of([tickets]), shop.coordinator()):
        await shop.until(await shop.order(), Phase.COMPENSATED)
    assert sorted(log) == ["A0", "A1", "A2"]


def test_s51_an_undo_of_what_is_not_emitted_is_refused() -> None:
    """When the agent is defined, with what it does emit."""
    agent = Agent("stock")

    @agent.on(OrderPlaced)
    async def reserve(placed: OrderPlaced) -> StockReserved:
        return StockReserved(order=placed.order)

    with pytest.raises(UndoError, match="expected to undo what it emits, StockReserved, got CardCharged"):

        @agent.undoes(CardCharged)
        async def undo(charged: CardCharged) -> None: ...
