"""Circles of agents, and workflows that cost: what ends them, on the bus in memory."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import Agent, Context, Event, RetryPolicy
from antiphon.bus.delivery import Usage
from antiphon.bus.guard import over_limit
from antiphon.bus.names import Names
from antiphon.bus.redrive import Allowance
from antiphon.compensation.coordinator import coordinator
from antiphon.replay.letter import Letter
from antiphon.replay.letters import read_letters, settling
from antiphon.schemas.budget import Budget, least
from antiphon.schemas.envelope import Envelope
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.tennis import BallReturned, BallServed, ada, bob


def event(*, hops: int = 0, budget: str | None = None, type: str = "ball.served") -> Envelope:
    return Envelope(
        id="e", type=type, source="/agents/ada", time_us=0, correlation_id="w", parent_id="p", hops=hops, budget=budget
    )


async def letters(mesh: MemoryMesh, *agents: str) -> list[Letter]:
    return await read_letters(mesh.bus, Names(), agents)


@pytest.mark.parametrize(
    ("envelope", "reason"),
    [
        (event(hops=2), None),
        (event(hops=3), "hops"),
        (event(hops=3, type="antiphon.undo.requested"), None),
        (event(budget="0.01 USD"), None),
        (event(budget="0.000 USD"), "budget"),
        (event(budget="-1 EUR"), "budget"),
        (event(budget="plenty"), "budget"),
        (event(budget="0 USD", type="antiphon.undo.requested"), None),
    ],
)
def test_what_is_over_a_limit_is_not_handled(envelope: Envelope, reason: str | None) -> None:
    """A chain of as many agents as the limit has done its work; a budget that cannot be read is one that is spent."""
    refusal = over_limit(envelope, (), max_hops=3)
    assert (None if refusal is None else refusal.reason) == reason


def test_earlier_attempts_have_spent_too() -> None:
    """A call that was paid for and did not help is not tried again on money that is not there; nobody converts."""
    spent = [Usage("small", cost=0.4), Usage("small", cost=9.0, currency="EUR")]
    assert [over_limit(event(budget=budget), spent, max_hops=3) is None for budget in ("0.41 USD", "0.4 USD")] == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    "text", ["", "USD", "1e3 USD", "nan USD", "inf", "1.5 USD ", "1,5 USD", "9" * 400, "1 USD EUR", "٣ USD"]
)
def test_a_budget_is_an_amount_and_a_currency(text: str) -> None:
    """What else stands there is told, cut where it is long."""
    with pytest.raises(
        ValueError, match=r"^expected a budget as an amount and a currency, such as '1.50 USD', got "
    ) as error:
        Budget.parse(text)
    assert len(str(error.value)) < 200


@given(
    st.decimals(-(10**14), 10**14, places=12),
    st.lists(st.tuples(st.floats(0, 1e300), st.sampled_from(["USD", "EUR"])), max_size=5),
)
def test_what_is_left_can_always_be_said_in_a_header(amount: Decimal, spent: list[tuple[float, str]]) -> None:
    """However much was spent; and it is never more than there was."""
    left = Budget(amount).less(spent)
    assert (Budget.parse(str(left)), left.amount <= amount) == (left, True)


@given(st.permutations(["2 USD", "0.5 USD", "1 USD"]))
def test_a_join_has_what_its_dearest_branch_left(budgets: list[str]) -> None:
    """Whichever comes last."""
    assert least([None, *budgets]) == "0.5 USD"


async def test_a_circle_of_two_agents_ends_as_a_dead_letter() -> None:
    """At most as many handlings, one after the other, as the limit says; the letter tells why."""
    mesh = MemoryMesh()
    async with mesh.running(ada, bob, max_hops=7):
        await mesh.publish(BallServed(by="umpire"))
        await eventually(lambda: letters(mesh, "ada", "bob"), 30, what="the letter")

    [letter] = await letters(mesh, "ada", "bob")
    outcomes = [entry.outcome for entry in await mesh.handled()]
    assert (letter.agent, letter.reason, letter.error, outcomes) == (
        "ada",
        "hops",
        "HopLimitError",
        ["completed"] * 7 + ["dead_lettered"],
    )
    assert letter.message.startswith(
        "expected a chain of at most 7 agents, got ball.returned from /agents/bob, to which 7 led. "
    )


async def test_a_limit_of_nothing_is_none() -> None:
    """Zero: any number of hops."""
    mesh = MemoryMesh()

    @(ender := Agent("ender")).on(BallServed)
    async def end(served: BallServed, context: Context) -> BallReturned | None:
        return None if context.parent_id else BallReturned(by="ender")

    async with mesh.running(ender, ada, max_hops=0):
        await mesh.publish(BallServed(by="umpire"))
        await mesh.eventually(BallServed, count=2)
    assert await letters(mesh, "ender", "ada") == []


async def test_a_redrive_may_have_the_hops_begin_anew() -> None:
    """As it was, it is set aside again at once; from 0 on it goes round as often as before, as the same event."""
    mesh = MemoryMesh()
    async with mesh.running(ada, bob, max_hops=4):
        await mesh.publish(BallServed(by="umpire"))
        for allowance, handled in ((Allowance(), 6), (Allowance(hops=0), 11)):
            await eventually(lambda: letters(mesh, "bob"), 30, what="the letter")
            async with settling(mesh.bus, Names(), "bob") as settle:
                await settle.redrive([*settle.letters.values()], actor="ada@desk", allowance=allowance)

            async def done(handled: int = handled) -> bool:
                return len(await mesh.handled()) >= handled

            await eventually(done, 30, what="the redriven event to have been handled")
        await eventually(lambda: letters(mesh, "bob"), 30, what="the last letter")

    entries = await mesh.handled()
    [letter] = await letters(mesh, "bob")
    aside = [entry.event_id for entry in entries if entry.outcome == "dead_lettered"]
    assert (len(entries), len(aside), aside[0] == aside[1], letter.reason) == (11, 3, True, "hops")


class QuestionAsked(Event):
    pass


class AnswerDrafted(Event):
    pass


class AnswerChecked(Event):
    pass


async def test_money_is_counted_along_the_path() -> None:
    """What a delivery reports is taken off what it emits; an event with nothing left is handled by nobody."""
    mesh, seen = MemoryMesh(), list[str]()
    writer, checker = Agent("writer"), Agent("checker")

    @writer.on(QuestionAsked, AnswerChecked)
    async def write(heard: QuestionAsked | AnswerChecked, context: Context) -> AnswerDrafted:
        context.spend(model="large", cost=0.25)
        seen.append(str(context.budget))
        return AnswerDrafted()

    @checker.on(AnswerDrafted)
    async def check(drafted: AnswerDrafted, context: Context) -> AnswerChecked:
        context.spend(model="small", cost=0.1)
        context.spend(model="local", cost=5.0, currency="EUR")
        return AnswerChecked()

    async with mesh.running(writer, checker):
        await mesh.publisher.publish([QuestionAsked()], budget="0.7")
        await eventually(lambda: letters(mesh, "writer", "checker"), 30, what="the letter")

    [letter] = await letters(mesh, "writer", "checker")
    drafts = [envelope.budget for envelope, _ in await mesh.events(AnswerDrafted)]
    checked = [envelope.budget for envelope, _ in await mesh.events(AnswerChecked)]
    assert (drafts, checked, seen) == (
        ["0.45 USD", "0.1 USD"],
        ["0.35 USD", "0 USD"],
        ["0.45 USD", "0.1 USD"],
    )
    assert (letter.agent, letter.reason, letter.message.partition(":")[0]) == (
        "writer",
        "budget",
        "expected money left to handle answer.checked with, got 0 USD",
    )


async def test_what_failed_attempts_spent_is_spent() -> None:
    """The third attempt would be on money that is not there; nobody makes it."""
    mesh, attempts = MemoryMesh(), list[int]()
    writer = Agent("writer", retry=RetryPolicy(attempts=9, base_s=0.001, cap_s=0.002))

    @writer.on(QuestionAsked)
    async def write(asked: QuestionAsked, context: Context) -> AnswerDrafted:
        attempts.append(context.attempt)
        context.spend(model="large", cost=0.5)
        raise TimeoutError

    async with mesh.running(writer):
        await mesh.publisher.publish([QuestionAsked()], budget="1 USD")
        await eventually(lambda: letters(mesh, "writer"), 30, what="the letter")
    [letter] = await letters(mesh, "writer")
    assert (attempts, letter.reason) == ([1, 2], "budget")


class Refunded(Event):
    pass


async def test_what_a_limit_has_ended_is_undone_all_the_same() -> None:
    """The letter fails the workflow; requests to undo have neither hops nor a budget."""
    mesh, undone = MemoryMesh(), list[str]()
    writer, checker = Agent("writer"), Agent("checker")

    @writer.on(QuestionAsked)
    async def write(asked: QuestionAsked, context: Context) -> AnswerDrafted:
        context.spend(model="large", cost=2)
        return AnswerDrafted()

    @writer.undoes(AnswerDrafted)
    async def refund(drafted: AnswerDrafted, context: Context) -> Refunded:
        undone.append(str(context.budget))
        return Refunded()

    @checker.on(AnswerDrafted)
    async def check(drafted: AnswerDrafted) -> AnswerChecked:
        return AnswerChecked()

    async with mesh.running(writer, checker, coordinator(), heartbeat_s=0.05):
        await mesh.publisher.publish([QuestionAsked()], budget="1 USD")
        await mesh.eventually(Refunded, count=1, timeout=30)
    [(refunded, _)] = await mesh.events(Refunded)
    assert (undone, refunded.budget, await mesh.events(AnswerChecked)) == (["None"], None, [])
