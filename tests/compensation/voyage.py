"""A saga by hand: the events of a voyage, and a run of the pure machine in which each step is answered as a test says."""

from __future__ import annotations

from collections.abc import Sequence

from antiphon import Event
from antiphon.bus.intervention import Act
from antiphon.compensation.instance import (
    Answered,
    Ask,
    Command,
    Decided,
    Due,
    End,
    Fact,
    Fail,
    Failed,
    Instance,
    Judged,
    Park,
    Said,
    Started,
    Verdict,
    Wake,
)
from antiphon.compensation.orchestrate import advance
from antiphon.compensation.orchestrator import Saga


class VoyagePlanned(Event):
    to: str


class ReserveTrain(Event):
    to: str


class TrainReserved(Event):
    seat: str


class TrainFull(Event, fails=True):
    to: str


class TrainAsked(Event):
    """The railway says that it takes its time."""


class ReleaseTrain(Event):
    to: str
    seat: str | None


class ReserveHotel(Event):
    to: str


class HotelReserved(Event):
    room: str


class HotelFull(Event):
    to: str


class ChargeCard(Event):
    seat: str
    room: str | None


class CardCharged(Event):
    amount: int
    left: int = 0


class CardRefused(Event):
    why: str


class SendTickets(Event):
    to: str


class TicketsSent(Event):
    number: str


class VoyageBooked(Event):
    number: str


def train(planned: VoyagePlanned) -> ReserveTrain:
    return ReserveTrain(to=planned.to)


def hotel(planned: VoyagePlanned) -> ReserveHotel:
    return ReserveHotel(to=planned.to)


def card(reserved: TrainReserved, room: HotelReserved) -> ChargeCard:
    return ChargeCard(seat=reserved.seat, room=room.room)


def card_without_hotel(reserved: TrainReserved, room: HotelReserved | None) -> ChargeCard:
    return ChargeCard(seat=reserved.seat, room=room.room if room else None)


def tickets(planned: VoyagePlanned, charged: CardCharged) -> SendTickets:
    return SendTickets(to=planned.to)


def booked(sent: TicketsSent) -> VoyageBooked:
    return VoyageBooked(number=sent.number)


class Run:
    """One run of a saga. Each fact is told to a machine that keeps nothing but the instance; what it says is listed.

    A command is listed as its step, "again" in front where it was published
    under the same id before; the rest as "wake 2 s", "undo card: why", "park card" and the event of the end.
    """

    def __init__(self, saga: Saga, to: str = "Rome") -> None:
        self.saga = saga
        self.now: Instance | None = None
        self.commands: list[Command] = []
        self.asked: dict[str, list[str]] = {}
        self.numbers = 0
        self.opening = self.tell(Started(Said("start", VoyagePlanned(to=to))))

    @property
    def state(self) -> str:
        assert self.now is not None
        return self.now.phase.value

    @property
    def stages(self) -> dict[str, str]:
        assert self.now is not None
        return {name: step.stage.value for name, step in self.now.steps.items()}

    def tell(self, fact: Fact) -> list[str]:
        self.now, commands = advance(self.saga, self.now, fact)
        self.commands += commands
        return [self._shown(command) for command in commands]

    def answer(self, step: str, event: Event, *, id: str = "", made: int = -1) -> list[str]:
        """The agent that heard the step's last command, or an earlier one, answers with *event*."""
        self.numbers += 1
        return self.tell(Answered(Said(id or f"answer-{self.numbers}", event), (self.asked[step][made],)))

    def below(self, event: Event, parent: str = "somewhere") -> list[str]:
        """An agent further down answers."""
        self.numbers += 1
        return self.tell(Answered(Said(f"answer-{self.numbers}", event), (parent,)))

    def dead(self, step: str, *, event: str = "", why: str = "it broke") -> list[str]:
        """The coordinator tells that below the step's last command something could not be handled."""
        return self.tell(Failed(self.asked[step][-1], event or self.asked[step][-1], why))

    def due(self, step: str) -> list[str]:
        """The last time has come that was asked for this step."""
        wake = next(one for one in reversed(self.commands) if isinstance(one, Wake) and one.command in self.asked[step])
        return self.tell(Due(wake.command, wake.tries))

    def judged(self, verdict: Verdict) -> list[str]:
        return self.tell(Judged(verdict, "somebody failed"))

    def decided(self, act: Act) -> list[str]:
        return self.tell(Decided(act, "ann: she knows"))

    def parents(self, step: str) -> Sequence[str]:
        """What the step's last command builds on."""
        return next(one.parents for one in reversed(self.commands) if isinstance(one, Ask) and one.step == step)

    def _shown(self, command: Command) -> str:
        match command:
            case Ask(step, id):
                again = id in self.asked.setdefault(step, [])
                self.asked[step] += [] if again else [id]
                return f"again {step}" if again else step
            case Wake(after_s=after_s):
                return f"wake {after_s:g} s"
            case End(event):
                return repr(event)
            case Fail(scope, step, reason):
                return f"undo {'all' if scope == 'start' else step}: {reason}"
            case Park(step, problem=problem):
                return f"park {step}: {problem}"
