"""How undoing goes, on the bus in memory: undos that fail, operators that decide, agents that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from ordering import AGENTS, OrderPlaced, Shop, StockReserved

from antiphon import Agent, Event, RetryPolicy
from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.undo import undo_requested
from antiphon.compensation.workflow import Phase, Status
from antiphon.testing.mesh import consumers_of

PAIR = ("stock", "card", "gift")


def word(act: Act) -> SagaIntervened:
    return SagaIntervened(act=act, actor="ann", reason="she knows")


async def parked(shop: Shop) -> str:
    """Place an order whose gift refuses and whose card cannot be refunded; return the workflow once it is parked."""
    workflow = await shop.order()
    await shop.until(workflow, Phase.PARKED)
    return workflow


async def test_s16_an_undo_that_comes_twice_has_one_effect() -> None:
    """The request is the same event; its undo finds nothing left to do."""
    shop = Shop(agents=("stock", "card"), card="refuses")
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.until(workflow, Phase.COMPENSATED)
        [(envelope, request)] = await shop.events(undo_requested("stock"))
        await shop.publisher.publish([request], correlation_id=workflow, id=envelope.id)
        await shop.handled_twice(envelope.id)
    assert shop.log == ["stock", "-stock"]


async def test_s18_a_reply_that_comes_twice_counts_once() -> None:
    """The same event again: nothing is asked again, and what it leads to is the same."""
    shop = Shop(agents=("stock", "card"))
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.until(workflow, Phase.COMPLETED)
        before = (await shop.kept(workflow)).effects
        [(envelope, reserved)] = await shop.events(StockReserved)
        await shop.publisher.publish([reserved], correlation_id=workflow, id=envelope.id)
        await shop.handled_twice(envelope.id)
        await shop.quiet()
    assert (await shop.kept(workflow)).effects.keys() == before.keys()


async def test_s20_an_undo_fails_twice_then_works() -> None:
    """The attempts are counted."""
    shop = Shop(agents=("stock", "card", "gift"), gift="dies", un_card="fails 2")
    async with shop.running(*shop.crew()):
        kept = await shop.until(await shop.order(), Phase.COMPENSATED)
    attempts = {effect.type: effect.attempts for effect in kept.effects.values()}
    assert attempts == {"stock.reserved": 1, "card.charged": 3}


async def test_s21_an_undo_fails_for_ever() -> None:
    """It is parked, an event says so, and what led to it is as it was."""
    shop = Shop(agents=PAIR, gift="dies", un_card="fails")
    async with shop.running(*shop.crew()):
        workflow = await parked(shop)
        [said] = await shop.eventually(SagaParked, count=1)
    statuses = {effect.type: effect.status for effect in (await shop.kept(workflow)).effects.values()}
    assert statuses == {"stock.reserved": Status.DONE, "card.charged": Status.STUCK}
    assert (said.agent, said.event_type, said.problem) == ("card", "card.charged", "ConnectionError: -card")
    assert "-stock" not in shop.log


@pytest.mark.parametrize(
    ("act", "status"), [(Act.RETRY, Status.UNDONE), (Act.SKIP, Status.SKIPPED), (Act.FORCE, Status.SKIPPED)]
)
async def test_s22_an_operator_decides(act: Act, status: Status) -> None:
    """Tried again, or gone past: the rest is undone. Who said so and why stays on the mesh."""
    shop = Shop(agents=PAIR, gift="dies", un_card="fails 3")
    async with shop.running(*shop.crew()):
        workflow = await parked(shop)
        await shop.says(word(act), workflow)
        kept = await shop.until(workflow, Phase.COMPENSATED)
        [said] = await shop.eventually(SagaIntervened, count=1)
    assert {effect.type: effect.status for effect in kept.effects.values()} == {
        "stock.reserved": Status.UNDONE,
        "card.charged": status,
    }
    assert said == word(act)


@pytest.mark.parametrize("past_stuck", [False, True])
async def test_s23_halting_at_a_failed_undo_or_going_past_it(past_stuck: bool) -> None:
    """What is not undone is listed either way."""
    shop = Shop(agents=PAIR, gift="dies", un_card="fails")
    async with shop.running(*shop.crew()[:-1], shop.coordinator(past_stuck=past_stuck)):
        workflow = await parked(shop)
        if past_stuck:
            await shop.logged("stock", "card", "-stock")
        await shop.quiet()
    kept = await shop.kept(workflow)
    assert (kept.phase, "-stock" in shop.log) == (Phase.PARKED, past_stuck)
    assert [effect.type for effect in kept.effects.values() if effect.status is Status.STUCK] == ["card.charged"]


async def test_s32_a_participant_restarts_between_action_and_undo() -> None:
    """The undo is delivered to whoever is the agent then."""
    shop = Shop(agents=("stock", "card"), card="waits")
    async with shop.running(*shop.crew("card")):
        async with shop.running(*shop.crew("stock")[:-1]):
            workflow = await shop.order()
            await shop.logged("stock", "card waits")
        shop.moods["card"] = "refuses"
        await shop.says(word(Act.CANCEL), workflow)
        shop.gates["card"].set()
        await shop.until(workflow, Phase.COMPENSATING)
        async with shop.running(*shop.crew("stock")[:-1]):
            await shop.until(workflow, Phase.COMPENSATED)
    assert shop.log[-1] == "-stock"


async def test_s33_a_participant_is_down_when_it_should_undo() -> None:
    """The request waits for it."""
    shop = Shop(agents=("stock", "card"), card="refuses")
    async with shop.running(*shop.crew("stock")[:-1]):
        workflow = await shop.order()
        await shop.eventually(StockReserved, count=1)
    async with shop.running(*shop.crew("card")):
        await shop.until(workflow, Phase.COMPENSATING)
    async with shop.running(*shop.crew()):
        await shop.until(workflow, Phase.COMPENSATED)
    assert shop.log == ["stock", "-stock"]


async def test_s34_what_is_gone_counts_as_undone() -> None:
    """An undo that finds nothing says nothing."""
    shop = Shop(agents=("stock", "card", "gift"), gift="dies", un_card="does nothing")
    async with shop.running(*shop.crew()):
        kept = await shop.until(await shop.order(), Phase.COMPENSATED)
    assert {effect.status for effect in kept.effects.values()} == {Status.UNDONE}


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        (Event(), "UndeclaredEventError: agent 'stock' emitted event, but declares nothing"),
        ("done", "NotAnEventReturnedError: agent 'stock'"),
        (StockReserved(order="A"), "UndeclaredEventError: agent 'stock' emitted stock.reserved, but declares nothing"),
    ],
)
async def test_s35_an_undo_that_answers_something_undeclared_is_not_done(said: object, problem: str) -> None:
    """It never counts as success, and the operator reads what it answered."""
    shop, odd = Shop(agents=("card",), card="dies"), Agent("stock", retry=RetryPolicy(attempts=1))

    @odd.on(OrderPlaced)
    async def reserve(placed: OrderPlaced) -> StockReserved:
        return StockReserved(order=placed.order)

    async def answer(reserved: StockReserved) -> None:
        return said  # type: ignore[return-value]  # that is the point

    odd.undoes(StockReserved)(answer)
    async with shop.running(*shop.crew(), *consumers_of([odd])):
        kept = await shop.until(await shop.order(), Phase.PARKED)
    [effect] = kept.effects.values()
    assert effect.status is Status.STUCK
    assert effect.problem.startswith(problem), effect.problem


async def test_s36_cancelled_while_a_step_runs() -> None:
    """The running step is awaited, then undone."""
    shop = Shop(agents=("stock", "card"), card="waits")
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.logged("stock", "card waits")
        await shop.until_known(workflow)
        await shop.says(word(Act.CANCEL), workflow)
        await shop.until(workflow, Phase.COMPENSATING)
        assert await shop.asked() == []
        shop.gates["card"].set()
        kept = await shop.until(workflow, Phase.COMPENSATED)
    assert shop.log == ["stock", "card waits", "card", "-card", "-stock"]
    assert kept.failure is not None
    assert kept.failure.reason == "cancelled by ann: she knows"


async def test_s37_cancelled_twice_and_while_it_completes() -> None:
    """There is one end, and it is the same for all who ask."""
    shop = Shop(agents=("stock", "card"))
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await asyncio.gather(*(shop.says(word(Act.CANCEL), workflow) for _ in range(3)))
        await shop.eventually(SagaIntervened, count=3)
        await shop.settled(workflow)
    kept = await shop.kept(workflow)
    undone = {effect.status for effect in kept.effects.values()} == {Status.UNDONE}
    assert (kept.phase, len(await shop.asked())) == ((Phase.COMPENSATED, 2) if undone else (Phase.COMPLETED, 0))


async def test_s38_cancelled_while_it_is_undone() -> None:
    """Undoing goes on."""
    shop = Shop(agents=("stock", "card"), card="refuses", un_stock="waits")
    async with shop.running(*shop.crew()):
        workflow = await shop.order()
        await shop.logged("stock", "-stock waits")
        await shop.says(word(Act.CANCEL), workflow)
        await shop.eventually(SagaIntervened, count=1)
        shop.gates["-stock"].set()
        kept = await shop.until(workflow, Phase.COMPENSATED)
    assert kept.failure is not None
    assert kept.failure.reason == "refused, said by card"


def crews(shop: Shop) -> Sequence[Consumer]:
    """Return the agents alone, and the coordinator last."""
    return shop.crew(*AGENTS)


async def test_s29_a_coordinator_that_was_down_catches_up() -> None:
    """What failed meanwhile is undone when it is back, and once: a second start asks for nothing more."""
    shop = Shop(parcel="refuses")
    *agents, coordinating = crews(shop)
    async with shop.running(*agents):
        workflow = await shop.order()
        await shop.logged_all("stock", "card", "gift")
    async with shop.running(*agents, coordinating):
        await shop.until(workflow, Phase.COMPENSATED)
    async with shop.running(*agents, coordinating):
        await shop.until(await shop.order("B"), Phase.COMPENSATED)
    assert len(await shop.asked()) == 6
