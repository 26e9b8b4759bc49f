"""A shop of four agents, and moods for them: the world in which workflows fail in these tests.

    order.placed ─▶ stock ─▶ stock.reserved ─┬▶ card ─▶ card.charged ─┬▶ parcel (a join)
                                             └▶ gift ─▶ gift.wrapped ─┘

Stock, card and gift can undo what they did; parcel sends the parcel or refuses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from antiphon import Agent, Context, Event, PermanentError, RetryPolicy
from antiphon.bus.consumer import Consumer
from antiphon.bus.intervention import SagaIntervened
from antiphon.bus.names import ACTIVITY
from antiphon.bus.record import Outgoing, TopicPartition
from antiphon.bus.undo import UndoRequested, undo_requested
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.reading import read_kept
from antiphon.compensation.workflow import Phase, Workflow
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually


class OrderPlaced(Event):
    order: str


class StockReserved(Event):
    order: str


class CardCharged(Event):
    order: str


class GiftWrapped(Event):
    order: str


class ParcelSent(Event):
    order: str


class Refused(Event, fails=True):
    order: str
    by: str


class OrderLost(Event, fails=True):
    """Said by a person, through an application."""

    order: str


class Undone(Event):
    order: str
    what: str


AGENTS = ("stock", "card", "gift", "parcel")
_RETRY = RetryPolicy(attempts=3, base_s=0.001, cap_s=0.002)


class Shop(MemoryMesh):
    """The mesh, what the world outside saw of it, and moods by what is done: "card" for the action, "-card" for its undo.

    A mood is "refuses", "dies" (a permanent error), "fails" (each attempt, or so
    often as a number says: "fails 2"), "waits" until its gate is opened, or
    "does nothing".
    """

    def __init__(self, *, agents: Collection[str] = AGENTS, **moods: str) -> None:
        super().__init__(partitions=2)
        self.moods = {name.replace("un_", "-"): mood for name, mood in moods.items()}
        self.gates = {name: asyncio.Event() for name, mood in self.moods.items() if mood == "waits"}
        self.log: list[str] = []
        self._agents = agents
        self._tries: dict[str, int] = {}

    def crew(self, *names: str) -> list[Consumer]:
        """Return the agents of these names, all of them without any, and the coordinator."""
        return [*(self._consumer(name) for name in names or self._agents), self.coordinator()]

    def coordinator(self, *, past_stuck: bool = False) -> Consumer:
        return coordinator(past_stuck=past_stuck)

    def hold(self, name: str, *, then: str = "") -> None:
        """Have *name* wait for its gate, and go on in the mood *then*."""
        self.moods[name], self.gates[name] = f"waits {then}", asyncio.Event()

    async def order(self, order: str = "A") -> str:
        """Place an order; returns the workflow's id."""
        [published] = await self.publisher.publish([OrderPlaced(order=order)])
        return published.correlation_id

    async def says(self, said: SagaIntervened, workflow: str) -> None:
        """Have an operator say something."""
        await self.publisher.publish([said], correlation_id=workflow)

    async def kept(self, workflow: str) -> Workflow:
        """Return what the coordinator keeps of a workflow."""
        return (await read_kept(self.bus, self.names, range(self.partitions))).get(workflow, Workflow())

    async def until(self, workflow: str, phase: Phase) -> Workflow:
        """Wait until a workflow is in *phase*."""

        async def there() -> bool:
            return (await self.kept(workflow)).phase is phase

        await eventually(there, what=f"the workflow to be {phase.value}")
        return await self.kept(workflow)

    async def logged(self, *lines: str) -> None:
        """Wait until the world has seen *lines*, in this order, and that alone."""
        await eventually(lambda: self.log == [*lines] or len(self.log) > len(lines), what=f"{lines}")
        assert self.log == [*lines]

    async def logged_all(self, *lines: str) -> None:
        """Wait until the world has seen all of *lines*, in any order."""
        await eventually(lambda: {*lines} <= {*self.log}, what=f"{lines}")

    async def handled_of(self, workflow: str) -> list[str]:
        """Return which events of a workflow were handled."""
        return [one.event_type for one in await self.handled() if one.correlation_id == workflow]

    async def handled_twice(self, event: str) -> None:
        """Wait until an event was handled twice."""

        async def twice() -> bool:
            return [one.event_id for one in await self.handled()].count(event) > 1

        await eventually(twice, what=f"{event} to be handled twice")

    async def handled_twice_of(self, type: str) -> None:
        """Wait until events of a type were handled twice."""

        async def twice() -> bool:
            return [one.event_type for one in await self.handled()].count(type) > 1

        await eventually(twice, what=f"{type} to be handled twice")

    async def until_known(self, workflow: str) -> None:
        """Wait until the coordinator keeps something of a workflow."""

        async def known() -> bool:
            return (await self.kept(workflow)) != Workflow()

        await eventually(known, what="the coordinator to know the workflow")

    async def settled(self, workflow: str) -> None:
        """Wait until a workflow has ended, and the coordinator has read all there is."""

        async def ended() -> bool:
            return (await self.kept(workflow)).ended

        await eventually(ended, what="the workflow to end")
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until the coordinator has read all activity."""

        async def caught_up() -> bool:
            done = self._committed("compensation")
            records = await self.records(ACTIVITY)
            return all(done.get(TopicPartition(ACTIVITY, one.partition), 0) > one.offset for one in records)

        await eventually(caught_up, what="the coordinator to have read all there is")

    async def repeat_activity(self) -> None:
        """Write all activity a second time."""
        records = await self.records(ACTIVITY)
        again = [Outgoing(ACTIVITY, None, one.value, [*one.headers], partition=one.partition) for one in records]
        await self.bus.publish(again)

    async def asked(self) -> list[tuple[str, str]]:
        """Return who was asked to undo which type."""
        requests: list[UndoRequested] = []
        for name in ("stock", "card", "gift"):
            requests += [request for _, request in await self.events(undo_requested(name))]
        return [(request.agent, request.event_type) for request in requests]

    def _committed(self, group: str) -> dict[TopicPartition, int]:
        from antiphon.bus.memory.bus import MemoryBus  # noqa: PLC0415 - for this look alone

        assert isinstance(self.bus, MemoryBus)
        return {tp: committed.offset for tp, committed in self.bus.committed(group).items()}

    # The agents.

    def _consumer(self, name: str) -> Consumer:
        made = {"stock": self._stock, "card": self._card, "gift": self._gift, "parcel": self._parcel}[name]()
        return made.consumer()

    async def act(self, name: str, order: str) -> bool:
        """Do something, as its mood is; says whether it was done."""
        tried = self._tries[name] = self._tries.get(name, 0) + 1
        match self.moods.get(name, "").split():
            case ["refuses"] | ["does", "nothing"]:
                return False
            case ["dies"]:
                raise PermanentError(name)
            case ["fails"]:
                raise ConnectionError(name)
            case ["fails", times] if tried <= int(times):
                raise ConnectionError(name)
            case ["waits", *then]:
                self.log.append(f"{name} waits")
                await self.gates[name].wait()
                if then:
                    return False
            case _:
                pass
        self.log.append(name if order == "A" else f"{name} {order}")
        return True

    def _stock(self) -> Agent:
        stock = Agent("stock", retry=_RETRY)

        @stock.on(OrderPlaced)
        async def reserve(placed: OrderPlaced, context: Context) -> StockReserved | Refused | None:
            if not await self.act("stock", placed.order):
                return self._refused("stock", placed.order)
            context.state["reserved"] = True
            return StockReserved(order=placed.order)

        @stock.undoes(StockReserved)
        async def release(reserved: StockReserved, context: Context) -> Undone | None:
            if not context.state.pop("reserved", False):
                return None
            return await self._undone("stock", reserved.order)

        return stock

    def _card(self) -> Agent:
        card = Agent("card", retry=_RETRY)

        @card.on(StockReserved)
        async def charge(reserved: StockReserved) -> CardCharged | Refused | None:
            done = await self.act("card", reserved.order)
            return CardCharged(order=reserved.order) if done else self._refused("card", reserved.order)

        @card.undoes(CardCharged)
        async def refund(charged: CardCharged) -> Undone | None:
            return await self._undone("card", charged.order)

        return card

    def _gift(self) -> Agent:
        gift = Agent("gift", retry=_RETRY)

        @gift.on(StockReserved)
        async def wrap(reserved: StockReserved) -> GiftWrapped | Refused | None:
            done = await self.act("gift", reserved.order)
            return GiftWrapped(order=reserved.order) if done else self._refused("gift", reserved.order)

        @gift.undoes(GiftWrapped)
        async def unwrap(wrapped: GiftWrapped) -> Undone | None:
            return await self._undone("gift", wrapped.order)

        return gift

    def _parcel(self) -> Agent:
        parcel = Agent("parcel", retry=_RETRY)

        @parcel.on(CardCharged, GiftWrapped, join=True)
        async def send(charged: CardCharged, wrapped: GiftWrapped) -> ParcelSent | Refused | None:
            done = await self.act("parcel", charged.order)
            return ParcelSent(order=wrapped.order) if done else self._refused("parcel", charged.order)

        @parcel.on(OrderLost)
        async def note(lost: OrderLost) -> None:
            self.log.append(f"lost {lost.order}")

        return parcel

    def _refused(self, name: str, order: str) -> Refused | None:
        return None if self.moods.get(name) == "does nothing" else Refused(order=order, by=name)

    async def _undone(self, name: str, order: str) -> Undone | None:
        return Undone(order=order, what=name) if await self.act(f"-{name}", order) else None
