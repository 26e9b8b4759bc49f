"""given, when, expects: one workflow and what it comes to, undoing included."""

from __future__ import annotations

import dataclasses

import pytest
from agency import CARD, HOTEL, TRAIN, RefundCard
from paying import PLACED, REFUSED, CardCharged, CardRefunded, ParcelRefused, ParcelSent, Shop
from voyage import CardCharged as CardPaid
from voyage import CardRefused as CardPoor
from voyage import ChargeCard, HotelReserved, ReserveHotel, ReserveTrain, TrainReserved, VoyagePlanned

from antiphon import Agent, Event, RetryPolicy, Saga, Step
from antiphon.testing.ending import End, Invariant
from antiphon.testing.scenario import Mishap, Scenario, ScenarioError, given

REFUNDED = CardRefunded(order="nowhere", total=41)


def paid(shop: Shop, amount: int) -> Invariant:
    """At the end the bank has so much."""
    return lambda end: shop.bank.balance == amount


def ordering(shop: Shop) -> Scenario:
    return given(*shop.agents, outside=[shop.bank])


def test_a_workflow_that_goes_well() -> None:
    """What was emitted, what was not, and what it did outside, which is put back then."""
    shop = Shop()
    done = ordering(shop).when(PLACED)
    done.expects(CardCharged(order="A", total=41), ParcelSent(order="A"), state="completed", invariant=paid(shop, 41))
    assert (done.never(CardRefunded, ParcelRefused), shop.bank.payments) == (done, {})


def test_a_workflow_that_is_undone() -> None:
    """Because an agent refuses, or could not handle its event."""
    shop = Shop()
    ordering(shop).when(REFUSED).expects(REFUNDED, state="compensated")
    failing = ordering(shop).when(PLACED).but("parcel", Mishap.GIVE_UP)
    failing.expects(CardRefunded(order="A", total=41), state="compensated", invariant=paid(shop, 0)).never(ParcelSent)


@pytest.mark.parametrize("mishap", [Mishap.CRASH, Mishap.REPEAT])
def test_a_mishap_that_changes_nothing(mishap: Mishap) -> None:
    """Its first delivery crashes, or comes twice; paid is once."""
    shop = Shop()
    mishappened = ordering(shop).when(PLACED).but("card", mishap)
    mishappened.expects(ParcelSent(order="A"), state="completed", invariant=paid(shop, 41))


def test_what_is_missing_is_told_beside_the_tree() -> None:
    """What was expected, the nearest that came, and what happened."""
    with pytest.raises(ScenarioError) as caught:
        ordering(Shop()).when(REFUSED).expects(CardRefunded(order="nowhere", total=40), state="completed")
    assert caught.value.differences == [
        "expected CardRefunded(order='nowhere', total=40) to be emitted, got CardRefunded(order='nowhere', total=41)",
        "expected it to end completed, got compensated",
    ]
    assert "└─ card" in str(caught.value)


def test_what_should_not_be_there_is_told() -> None:
    """One line for each."""
    with pytest.raises(ScenarioError, match=r"expected none of these to be emitted, got ParcelSent\(order='A'\)"):
        ordering(Shop()).when(PLACED).never(ParcelSent)


class Lost(Event, fails=True):
    order: str


def test_a_failure_that_somebody_adds() -> None:
    """All was done, and then a person says no."""
    shop = Shop()
    desk = Agent("desk")

    @desk.on(Lost)
    async def note(lost: Lost) -> None: ...

    scenario = given(*shop.agents, desk, outside=[shop.bank]).when(PLACED, Lost(order="A"))
    scenario.expects(CardRefunded(order="A", total=41), state="compensated")


def test_an_agent_that_is_not_there_is_refused() -> None:
    """As a slip of the pen would be."""
    with pytest.raises(
        ValueError, match=r"expected .but\(...\) to name one of the agents card, mail, parcel, stock, got cart"
    ):
        ordering(Shop()).when(PLACED).but("cart", Mishap.CRASH).expects()


def test_nothing_happens_without_an_event() -> None:
    """There has to be something to play."""
    with pytest.raises(ValueError, match=r"Say .when\("):
        ordering(Shop()).expects()


def test_what_does_not_hold_outside_is_told() -> None:
    """By the name of who says so."""
    shop = Shop()

    def paid_twice(end: End) -> bool:
        return shop.bank.balance == 82

    with pytest.raises(ScenarioError, match="paid_twice does not hold"):
        ordering(shop).when(PLACED).expects(invariant=paid_twice)


def voyaging(*steps: Step, **moods: str) -> Scenario:
    """A voyage by a saga, and its agents: one that "refuses", or "is silent" and never answers."""
    train, hotel, card = Agent("train"), Agent("hotel"), Agent("card")

    @train.on(ReserveTrain)
    async def ride(asked: ReserveTrain) -> TrainReserved | None:
        return None if moods.get("train") == "is silent" else TrainReserved(seat="12A")

    @train.undoes(TrainReserved)
    async def walk(reserved: TrainReserved) -> TrainLeft:
        return TrainLeft(seat=reserved.seat)

    @hotel.on(ReserveHotel)
    async def book(asked: ReserveHotel) -> HotelReserved:
        return HotelReserved(room="7")

    @hotel.undoes(HotelReserved)
    async def cancel(reserved: HotelReserved) -> None: ...

    @card.on(ChargeCard)
    async def pay(asked: ChargeCard) -> CardPaid | CardPoor:
        return CardPoor(why="poor") if moods.get("card") == "refuses" else CardPaid(amount=90)

    @card.on(RefundCard)
    async def refund(asked: RefundCard) -> None: ...

    return given(Saga("voyage", starts=VoyagePlanned, steps=steps or [TRAIN, HOTEL, CARD]), train, hotel, card)


class TrainLeft(Event):
    seat: str


PLANNED = VoyagePlanned(to="Rome")


def test_a_saga_is_told_as_any_workflow() -> None:
    """It completes; or a step refuses, and what the others did is undone."""
    charge = ChargeCard(seat="12A", room="7")
    voyaging().when(PLANNED).expects(charge, CardPaid(amount=90), state="completed").never(TrainLeft)
    voyaging(card="refuses").when(PLANNED).expects(CardPoor(why="poor"), TrainLeft(seat="12A"), state="compensated")


def test_a_step_that_does_not_answer_is_asked_again_until_its_time_is_over() -> None:
    """Nobody waits for it: the clock jumps from time-out to time-out."""
    slow = dataclasses.replace(TRAIN, timeout=3_600.0, retry=RetryPolicy(attempts=3))
    told = voyaging(slow, HOTEL, train="is silent").when(PLANNED)
    told.expects(HotelReserved(room="7"), state="compensated").never(TrainLeft)


def test_a_time_out_while_the_answer_is_on_its_way() -> None:
    """A mishap of the saga's: what comes late is undone."""
    slow = dataclasses.replace(TRAIN, timeout=5.0, retry=RetryPolicy(attempts=1))
    late = voyaging(slow, HOTEL).when(PLANNED).but("voyage", Mishap.LATE)
    late.expects(TrainReserved(seat="12A"), TrainLeft(seat="12A"), state="compensated")


def test_a_saga_that_waits_for_a_person_is_parked() -> None:
    """Past its pivot what fails is asked for again, later and later, then parked: nothing is undone."""
    pivot = dataclasses.replace(TRAIN, kind="pivot")
    room = Step("hotel", action=hotel_then, done=HotelReserved, kind="retriable", retry=RetryPolicy(attempts=2))
    parked = voyaging(pivot, room).when(PLANNED).but("hotel", Mishap.GIVE_UP).but("hotel", Mishap.GIVE_UP)
    parked.expects(TrainReserved(seat="12A"), state="parked").never(TrainLeft, HotelReserved)


def hotel_then(planned: VoyagePlanned, reserved: TrainReserved) -> ReserveHotel:
    return ReserveHotel(to=planned.to)
