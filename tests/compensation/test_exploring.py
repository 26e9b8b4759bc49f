"""The explorer goes through every way that a workflow can go, and finds what is wrong with a user's agents."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from paying import PLACED, REFUSED, Bank, CardCharged, OrderPlaced, ParcelSent, Shop, StockReserved

from antiphon import Agent, Context, Event, PermanentError
from antiphon.testing.explorer import (
    End,
    ExplorationError,
    Explored,
    Mishap,
    NotRestorableError,
    ReplayError,
    explore,
)


def explored(shop: Shop, placed: OrderPlaced = PLACED, **more: object) -> Explored:
    """Explore *shop*; nobody may have paid for what he does not get."""

    def paid_for_what_is_sent(end: End) -> None:
        assert shop.bank.balance == sum(placed.total for _ in end.events(ParcelSent) if end.state == "completed")

    return explore(shop.agents, placed, invariant=paid_for_what_is_sent, outside=[shop.bank], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(("placed", "steps"), [(PLACED, 4), (REFUSED, 3)])
def test_s49_every_interleaving_of_failures(
    placed: OrderPlaced, steps: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose turn it is, and which deliveries crash, are repeated, given up or timed out: of four agents that do it right."""
    shop = Shop()
    done = explored(shop, placed)
    with capsys.disabled():
        print(f"\n{done}")  # noqa: T201 - how much was gone through is part of the result
    assert (done.steps, done.exhaustive, done.interleavings > 10_000, shop.bank.payments) == (steps, True, True, {})


def test_branches_side_by_side() -> None:
    """One event is heard by two; whichever fails, and in whatever order they are heard of, the other is undone."""
    shop = Shop()
    gift = Agent("gift")

    @gift.on(StockReserved)
    async def wrap(reserved: StockReserved) -> CardCharged:
        return CardCharged(order="nowhere", total=0)

    @gift.undoes(CardCharged)
    async def unwrap(charged: CardCharged) -> None: ...

    stock, card, *_ = shop.agents
    done = explore([stock, card, gift], PLACED, outside=[shop.bank], invariant=lambda end: shop.bank.balance >= 0)
    assert (done.steps, done.exhaustive, done.interleavings > 10_000) == (3, True, True)


# Planted bugs.


def refunds_again_when_it_runs_again(shop: Shop, charged: CardCharged, context: Context) -> None:
    """Neither `once` nor an idempotency key."""
    shop.bank.pay(f"refund {len(shop.bank.payments)}", -charged.total)


def refunds_the_wrong_amount(shop: Shop, charged: CardCharged, context: Context) -> None:
    shop.bank.pay(context.id, -charged.total + 1)


def does_not_refund(shop: Shop, charged: CardCharged, context: Context) -> None: ...


def cannot_refund(shop: Shop, charged: CardCharged, context: Context) -> None:
    raise PermanentError(charged.order)


@pytest.mark.parametrize(
    ("bug", "problem", "mishaps"),
    [
        (refunds_again_when_it_runs_again, "paid_for_what_is_sent does not hold", 1),
        (refunds_the_wrong_amount, "paid_for_what_is_sent does not hold", 0),
        (does_not_refund, "paid_for_what_is_sent does not hold", 0),
        (
            cannot_refund,
            "it does not end: stock.reserved and card.charged cannot be undone (PermanentError: nowhere)",
            0,
        ),
    ],
)
def test_an_undo_with_a_bug_is_found(
    bug: Callable[[Shop, CardCharged, Context], None], problem: str, mishaps: int
) -> None:
    """By the shortest way to it: with no more mishaps than it takes. And found again by its replay alone, in the same words."""
    shop = Shop(bug)
    with pytest.raises(ExplorationError) as caught:
        explored(shop, REFUSED)
    with pytest.raises(ExplorationError) as again:
        explored(shop, REFUSED, replay=caught.value.replay)
    told = str(caught.value)
    assert caught.value.problem.startswith(problem)
    assert (told.count(" crashes ") + told.count("a second time"), str(again.value)) == (mishaps, told)


def test_the_shortest_way_is_told_as_a_tree() -> None:
    """What happened, in order; what came of it; how to play it again."""
    shop = Shop(refunds_again_when_it_runs_again)
    with pytest.raises(ExplorationError) as caught:
        explored(shop, REFUSED, mishaps={Mishap.CRASH})
    told = str(caught.value).splitlines()
    assert "   7. card handles undo card.charged, and its worker crashes before the commit" in told
    assert [line.split("✗")[0].strip() for line in told if "└─" in line][-1] == "└─ parcel parcel.refused"
    assert told[-1] == f"Run it again with replay={caught.value.replay!r}."


def test_a_handler_that_keeps_something_outside_of_its_state_is_found() -> None:
    """It answers otherwise when it runs again; no invariant is needed to see that."""
    counter = Agent("counter")
    seen: list[str] = []

    @counter.on(OrderPlaced)
    async def count(placed: OrderPlaced) -> StockReserved:
        seen.append(placed.order)
        return StockReserved(order=placed.order, total=len(seen))

    with pytest.raises(ExplorationError, match=r"counter answers order\.placed otherwise after a crash"):
        explore([counter], PLACED, outside=[seen])
    assert explore([counter], PLACED, outside=[seen], repeatable=False).exhaustive


def test_an_agent_that_answers_itself_for_ever_is_found() -> None:
    """A workflow has to end."""
    echo = Agent("echo")

    @echo.on(OrderPlaced)
    async def say_again(placed: OrderPlaced) -> OrderPlaced:
        return placed

    with pytest.raises(ExplorationError, match="it does not end: after 301 deliveries"):
        explore([echo], PLACED)


def test_what_once_remembers_outlives_a_crash() -> None:
    """The bank takes no key here, and pays once all the same; but for an event that comes twice."""
    paid: list[int] = []
    card = Agent("card")

    @card.on(OrderPlaced)
    async def charge(placed: OrderPlaced, context: Context) -> None:
        await context.once("pay", lambda: paid.append(placed.total))

    def once(end: End) -> bool:
        return len(paid) <= 1

    assert explore([card], PLACED, outside=[paid], invariant=once, mishaps={Mishap.CRASH}).exhaustive
    with pytest.raises(ExplorationError, match="once does not hold"):
        explore([card], PLACED, outside=[paid], invariant=once, mishaps={Mishap.REPEAT})


def test_longer_workflows_are_drawn_from_seeds() -> None:
    """The same seeds draw the same ways; a bug is found, and told by the shortest of those that show it."""
    drawn = explored(Shop(), steps=3, seeds=range(100))
    assert (drawn.steps, drawn.interleavings, drawn.exhaustive) == (4, 100, False)
    with pytest.raises(ExplorationError) as caught:
        explored(Shop(refunds_the_wrong_amount), steps=3, seeds=range(60))
    with pytest.raises(ExplorationError) as again:
        explored(Shop(refunds_the_wrong_amount), steps=3, seeds=range(60))
    assert str(caught.value) == str(again.value)


class Opened(Event, key="shelf"):
    shelf: str


def test_fakes_are_as_before_when_all_is_done() -> None:
    """Nothing of one way is seen on another, or afterwards; also in dicts, lists and sets."""
    shelf = Agent("shelf")
    found: tuple[dict[str, int], list[str], set[str], Bank] = ({"a": 1}, ["a"], {"a"}, Bank())

    @shelf.on(Opened)
    async def put(opened: Opened, context: Context) -> None:
        assert len(found[0]) == 1 + context.state.get("seen", 0)
        context.state["seen"] = 1
        found[0][opened.shelf] = 2
        found[1].append(opened.shelf)
        found[2].add(opened.shelf)
        found[3].pay("b", 1)

    explore([shelf], Opened(shelf="b"), outside=found, mishaps={Mishap.GIVE_UP})
    assert found == ({"a": 1}, ["a"], {"a"}, Bank())


def test_what_cannot_be_put_back_is_refused() -> None:
    """With what to do."""
    bank = Bank()
    vars(bank)["lock"] = threading.Lock()
    with pytest.raises(NotRestorableError, match=r"got a Bank: cannot pickle .*lock.* Keep plain data in it"):
        explore(Shop().agents, PLACED, outside=[bank])


def test_a_replay_that_does_not_fit_is_refused() -> None:
    """The agents have changed since it was told."""
    with pytest.raises(ReplayError, match="takes option 9 where there are"):
        explored(Shop(), replay="0.9")
