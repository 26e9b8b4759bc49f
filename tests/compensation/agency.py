"""A travel agency that conducts its agents by a saga, and moods for them.

    voyage.planned ─▶ (saga) ─┬▶ reserve.train ─▶ train ─┬▶ (saga) ─▶ charge.card ─▶ card ─▶ (saga) ─▶ voyage.booked
                              └▶ reserve.hotel ─▶ hotel ─┘

Train and hotel can undo what they did. Card cannot: the saga asks it to.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ordering import Shop
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
    VoyagePlanned,
    card,
    hotel,
    train,
)

from antiphon import Agent, Event, RetryPolicy
from antiphon.bus.consumer import Consumer
from antiphon.compensation.definition import Step
from antiphon.compensation.orchestrator import Saga
from antiphon.compensation.workflow import Phase
from antiphon.testing.waiting import eventually

_ONCE = RetryPolicy(attempts=1)


class RefundCard(Event):
    amount: int | None


class VoyagePaid(Event):
    amount: int


class TripWanted(Event):
    to: str


class TripDone(Event):
    amount: int


class VoyageLost(Event, fails=True):
    """Said by a person, through an application."""


def refund(charged: CardCharged | None) -> RefundCard:
    return RefundCard(amount=charged.amount if charged else None)


def paid(charged: CardCharged) -> VoyagePaid:
    return VoyagePaid(amount=charged.amount)


def voyage(wanted: TripWanted) -> VoyagePlanned:
    return VoyagePlanned(to=wanted.to)


TRAIN = Step("train", action=train, done=TrainReserved, refused=TrainFull, kind="compensatable")
HOTEL = Step("hotel", action=hotel, done=HotelReserved, refused=HotelFull, kind="compensatable")
CARD = Step("card", action=card, done=CardCharged, refused=CardRefused, undo=refund)
VOYAGE = Saga("voyage", version="1", starts=VoyagePlanned, steps=[TRAIN, HOTEL, CARD], ends=paid)


class Agency(Shop):
    """The mesh, with a saga and the agents that it conducts. Moods are `Shop`'s, by agent."""

    def __init__(self, *sagas: Saga, **moods: str) -> None:
        super().__init__(**moods)
        self.sagas: Sequence[Saga] = sagas or (VOYAGE,)

    def crew(self, *names: str) -> list[Consumer]:
        agents = {"train": self._train, "hotel": self._hotel, "card": self._card_agent}
        made = [agents[name]().consumer() for name in names or agents]
        return [*made, *(saga.consumer() for saga in self.sagas), self.coordinator()]

    async def plan(self, event: Event | None = None) -> str:
        """Plan a voyage; returns the workflow's id."""
        [published] = await self.publisher.publish([event or VoyagePlanned(to="A")])
        return published.correlation_id

    async def lose(self, workflow: str) -> None:
        """Say that a workflow failed, as a person may when all is done."""
        await self.publisher.publish([VoyageLost()], correlation_id=workflow)

    def _train(self) -> Agent:
        agent = Agent("train", retry=_ONCE)

        @agent.on(ReserveTrain)
        async def reserve(asked: ReserveTrain) -> TrainReserved | TrainFull:
            return TrainReserved(seat="12A") if await self.act("train", asked.to) else TrainFull(to=asked.to)

        @agent.on(VoyageLost)
        async def note(lost: VoyageLost) -> None: ...

        @agent.undoes(TrainReserved)
        async def release(reserved: TrainReserved) -> None:
            await self.act("-train", "A")

        return agent

    def _hotel(self) -> Agent:
        agent = Agent("hotel", retry=_ONCE)

        @agent.on(ReserveHotel)
        async def reserve(asked: ReserveHotel) -> HotelReserved | HotelFull:
            return HotelReserved(room="7") if await self.act("hotel", asked.to) else HotelFull(to=asked.to)

        @agent.undoes(HotelReserved)
        async def release(reserved: HotelReserved) -> None:
            await self.act("-hotel", "A")

        return agent

    def _card_agent(self) -> Agent:
        agent = Agent("card", retry=_ONCE)

        @agent.on(ChargeCard)
        async def charge(asked: ChargeCard) -> CardCharged | CardRefused:
            return CardCharged(amount=90) if await self.act("card", "A") else CardRefused(why="poor")

        @agent.on(RefundCard)
        async def give_back(asked: RefundCard) -> None:
            await self.act("-card", "A")

        return agent


# What steps ask for, of sagas that tests make.


def charge(planned: VoyagePlanned, reserved: TrainReserved) -> ChargeCard:
    return ChargeCard(seat=reserved.seat, room=None)


def charge_alone(planned: VoyagePlanned) -> ChargeCard:
    return ChargeCard(seat="12A", room=None)


def hotel_after(planned: VoyagePlanned, charged: CardCharged) -> ReserveHotel:
    return ReserveHotel(to=planned.to)


def last(wanted: TripWanted, paid: VoyagePaid) -> ReserveHotel:
    return ReserveHotel(to=wanted.to)


async def until(agency: Agency, phase: Phase, saga: str = "voyage") -> dict[str, Any]:
    """Wait until a saga's only run is in *phase*, and return what is kept of it."""
    found: dict[str, Any] = {}

    async def there() -> bool:
        for record in await agency.records(f"{saga}.state"):
            if record.value is not None and not (record.key or b"").startswith(b"antiphon:"):
                [run] = json.loads(record.value).values()
                found.update(run)
        return found.get("phase") == phase.value

    await eventually(there, what=f"{saga} to be {phase.value}")
    return found
