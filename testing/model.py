"""A mesh as values: what may happen next in it, and how it is after that.

The agents' handlers and the coordinator's run as they are; the log, offsets and
transactions are a model: one step is one delivery, and what came of it is there
whole or not at all. So a step costs a call and little more, any position can be
gone back to, and two ways to one position are known to be the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from antiphon.bus.activity import Activity, Emitted, Failure, Handled
from antiphon.bus.alarms import TimeCame
from antiphon.bus.consumer import Consumer
from antiphon.bus.delivery import Outcome, current
from antiphon.bus.errors import PermanentError
from antiphon.bus.heartbeat import AgentSeen, hears, says
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.names import COORDINATOR
from antiphon.bus.state import PartitionState
from antiphon.bus.subscriptions import subscriptions
from antiphon.bus.undo import UndoRequested
from antiphon.compensation.coordinator import coordinator
from antiphon.compensation.kept import NOTHING, kept
from antiphon.compensation.workflow import Phase, Workflow
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.errors import SchemaError
from antiphon.schemas.event import Event, envelope_of, key_of
from antiphon.testing.chaos import SimulatedError
from antiphon.testing.clock import FakeClock
from antiphon.testing.delivery import MemoryServices, delivery_of
from antiphon.testing.outside import Outside
from antiphon.testing.story import START_US

WORKFLOW = "0199f2c1-0000-7000-8000-000000000000"
"""The workflow that is played. Always the same, so that a position is known again."""

_HOP_US = 1_000
_RUNNING = frozenset({Phase.RUNNING.value, Phase.COMPENSATING.value})


class Mishap(StrEnum):
    """What may happen to one delivery, besides going well."""

    CRASH = "its worker crashes before the commit"
    """The handler has run, and nothing of it is kept but what `once` remembers and what it did outside of Kafka. The event
    is handed out again. A handler that raises after it has done something comes to the same."""
    REPEAT = "and the event comes a second time"
    """As where its publisher sent it twice, or an agent promises only at least once."""
    GIVE_UP = "gives it up"
    """It is set aside as a dead letter, having done nothing: the workflow fails, or an undo waits for a person."""
    TIME_OUT = "finds it past its deadline"
    """It is not started: the workflow fails. Undos have no deadline."""


class NotModelledError(TypeError):
    """Something is to be played that the model has no time for."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"expected agents, which act on events alone, got {name!r}, a saga or another consumer that also acts when a time has "
            "come. Tell it by given(...).when(...), or run it on antiphon.testing.mesh.MemoryMesh."
        )


class Choice(NamedTuple):
    """One thing that may happen next."""

    lane: int
    """Whose turn it is: the place in `Position.due`."""
    mishap: Mishap | None = None


OPERATOR = Choice(-1)
"""Nothing else is left: somebody has the undos tried again that were given up."""


class Attempt(NamedTuple):
    """An attempt of which nothing was kept: what it found, and what it answered."""

    found: bytes
    answer: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Due:
    """One event that one agent has still to handle."""

    agent: str
    event: Event
    again: bool = False
    """It repeats one that was handled, or follows from such a one."""
    thrown: Attempt | None = None

    @property
    def lane(self) -> tuple[str, str, str]:
        """What is handled one after the other: an agent takes the events of one topic and key in their order."""
        envelope = envelope_of(self.event)
        key = "" if self.agent == COORDINATOR else envelope.key or envelope.correlation_id
        return (self.agent, self.event.__event__.topic, key)

    @property
    def mark(self) -> tuple[object, ...]:
        """What tells it from others in another position."""
        return (self.agent, envelope_of(self.event).id, self.again, self.thrown)


class Known(NamedTuple):
    """An event that is on its topic."""

    event: Event
    value: bytes
    aftermath: bool
    """It came of undoing."""
    undoable: bool
    late: bool
    """It came of a repeat, when what led to it may have been undone: it is undone when it comes."""


class Step(NamedTuple):
    """What happened on the way to a position, newest first."""

    before: Step | None
    choice: int
    said: str
    entry: Activity | None
    emitted: Sequence[Event]


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """How everything is at one moment."""

    due: tuple[Due, ...] = ()
    """By lane; within one in order."""
    states: Mapping[tuple[str, str], bytes] = dataclasses.field(default_factory=dict[tuple[str, str], bytes])
    """What agents and the coordinator keep, by name and key."""
    remembered: Mapping[tuple[str, str], bytes] = dataclasses.field(default_factory=dict[tuple[str, str], bytes])
    """What `once` remembers, by agent and event."""
    outside: bytes = b""
    events: Mapping[str, Known] = dataclasses.field(default_factory=dict[str, Known])
    undone: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    given_up: frozenset[str] = frozenset()
    retried: frozenset[str] = frozenset()
    """Of those given up, the ones an operator had tried again: once each."""
    failed: bool = False
    repeats: int = 0
    mishaps: int = 0
    steps: int = 0
    history: Step | None = None
    problem: str = ""
    """What does not hold. It is the end of this way."""

    @property
    def fingerprint(self) -> int:
        """The same for positions from which the same may happen. How they were come to does not count."""
        return hash(
            (
                tuple(due.mark for due in self.due),
                frozenset(
                    (at, _canonical(value) if at[0] == COORDINATOR else value) for at, value in self.states.items()
                ),
                frozenset(self.remembered.items()),
                self.outside,
                frozenset((id, known.value, known.late) for id, known in self.events.items()),
                (
                    self.repeats,
                    frozenset(self.undone),
                    self.asked,
                    self.given_up,
                    self.retried,
                    self.failed,
                    self.problem,
                ),
            )
        )

    def lineage(self, id: str) -> set[str]:
        """Return what an event follows from, itself not counted, as far as that is no undoing."""
        found: set[str] = set()
        ahead = [*_parents(self.events[id].event)]
        while ahead:
            parent = ahead.pop()
            if parent in self.events and parent not in found:
                found.add(parent)
                ahead += _parents(self.events[parent].event)
        return found

    def told(self) -> list[Step]:
        """Return what happened, in order."""
        steps: list[Step] = []
        step = self.history
        while step is not None:
            steps.append(step)
            step = step.before
        return steps[::-1]


class _Ran(NamedTuple):
    """What came of calling a handler until it was through with an event."""

    emitted: tuple[Event, ...]
    changed: Mapping[str, bytes | None]
    remembered: bytes
    found: bytes
    attempts: int
    error: BaseException | None

    @property
    def answer(self) -> bytes:
        """What a second call should answer as well."""
        said = [[event.__event__.type, event.model_dump(mode="json")] for event in self.emitted]
        kept = {key: None if value is None else value.decode() for key, value in self.changed.items()}
        return orjson.dumps([said, kept, repr(self.error)], option=orjson.OPT_SORT_KEYS)


class Model:
    """Agents, the coordinator, and what they change outside; `options` and `after` play them.

    Raises `NotModelledError`.
    """

    def __init__(
        self,
        consumers: Sequence[Consumer],
        *,
        outside: Outside,
        mishaps: Collection[Mishap] = (),
        repeats: int = 1,
        repeatable: bool = True,
        clock: FakeClock | None = None,
    ) -> None:
        for consumer in consumers:
            if consumer.wakes and clock is None:
                raise NotModelledError(consumer.name)
        self._clock = clock
        self._wakes_us: dict[str, int] = {}
        """With a clock, when each saga is to be called though nothing has come. One way can be played then, no other one."""
        self.agents = [_seen(consumer) for consumer in consumers]
        mesh = subscriptions(self.agents, now_us=START_US)
        self._consumers = {consumer.name: consumer for consumer in consumers}
        self._consumers[COORDINATOR] = coordinator(
            clock_us=(lambda: START_US) if clock is None else clock.now_us, mesh=mesh
        )
        self._undoable = {type for consumer in consumers for type in consumer.undoes}
        self._hearers: dict[tuple[str, str], list[str]] = {}
        for consumer in self._consumers.values():
            for type, event_class in consumer.hears.items():
                self._hearers.setdefault((type, event_class.__event__.topic), []).append(consumer.name)
        self._failing = {
            name: [type for type, event_class in consumer.hears.items() if event_class.__event__.fails]
            for name, consumer in self._consumers.items()
        }
        self._outside = outside
        self._mishaps = frozenset(mishaps)
        self._repeats = repeats
        self._repeatable = repeatable

    def published(self, position: Position, event: Event, number: int) -> Position:
        """Have *event* come from outside; the first is the workflow's root."""
        id = WORKFLOW if number == 0 else f"{WORKFLOW[:-1]}{number:x}"
        envelope = Envelope.root(event.__event__.type, source="/apps/test", id=id, correlation_id=WORKFLOW)
        sealed = event.sealed(dataclasses.replace(envelope, time_us=START_US, key=key_of(event)))
        events, due = self._put(position, [sealed], again=False)
        said = f"{event.__event__.type} is published"
        step = Step(position.history, -1, said, None, [sealed])
        taken = position.outside or self._outside.taken()
        return dataclasses.replace(position, events=events, due=due, outside=taken, history=step)

    def options(self, position: Position) -> list[Choice]:
        """Return what may happen next; nothing where all is done."""
        if position.problem:
            return []
        found: list[Choice] = []
        lane: object = None
        for place, due in enumerate(position.due):
            if due.lane != lane:
                lane = due.lane
                found += [Choice(place, mishap) for mishap in self._may_happen(position, due)]
        if not found and position.given_up - position.retried and self.kept(position).phase is Phase.PARKED:
            return [OPERATOR]
        return found

    def _may_happen(self, position: Position, due: Due) -> Iterator[Mishap | None]:
        yield None
        # The coordinator's crash changes nothing: all it has is its state and what it hears.
        if due.agent == COORDINATOR or due.again:
            return
        possible = {Mishap.REPEAT} if position.repeats < self._repeats else set[Mishap]()
        if due.thrown is None:
            possible |= {Mishap.CRASH, Mishap.GIVE_UP, Mishap.TIME_OUT}
        if isinstance(due.event, UndoRequested):
            possible -= {Mishap.TIME_OUT}
            if due.event.event_id in position.given_up:
                possible -= {Mishap.GIVE_UP}
        yield from (mishap for mishap in Mishap if mishap in possible & self._mishaps)

    def kept(self, position: Position) -> Workflow:
        """Return what the coordinator keeps of the workflow."""
        value = position.states.get((COORDINATOR, WORKFLOW))
        return NOTHING if value is None else kept(orjson.loads(value)).workflow

    async def later(self, position: Position) -> Position | None:
        """Return the position after the next time has come that a saga named which still runs; None where none did."""
        running = {
            agent: us
            for agent, us in self._wakes_us.items()
            if any(run["phase"] in _RUNNING for run in self.runs(position, agent).values())
        }
        if self._clock is None or not running:
            return None
        agent = min(running, key=running.__getitem__)
        self._clock.advance((self._wakes_us.pop(agent) - self._clock.now_us()) / 1_000_000)
        envelope = Envelope.root(TimeCame.__event__.type, source="/model", id=f"{WORKFLOW[:-4]}ffff")
        due = Due(agent, TimeCame().sealed(dataclasses.replace(envelope, correlation_id=WORKFLOW)))
        ran = await self._run(position, due)
        states = position.states
        for key, value in ran.changed.items():
            states = _with(states, (agent, key), value)
        events, pending = self._put(position, ran.emitted, again=False)
        step = Step(position.history, -1, f"{agent} is woken", None, ran.emitted)
        return dataclasses.replace(
            position, states=states, events=events, due=pending, history=step, steps=position.steps + 1
        )

    def runs(self, position: Position, saga: str) -> Mapping[str, Any]:
        """Return what *saga* keeps of each of its runs, by the event that started it; the outermost first."""
        kept: Mapping[str, Any] = orjson.loads(position.states.get((saga, WORKFLOW), b"{}"))
        return kept

    async def after(self, position: Position, choice: Choice, number: int = -1) -> Position:
        """Return the position after *choice*, the *number*-th of the options."""
        if choice == OPERATOR:
            return self._intervened(position, number)
        due = position.due[choice.lane]
        rest = (*position.due[: choice.lane], *position.due[choice.lane + 1 :])
        left = dataclasses.replace(position, due=rest, steps=position.steps + 1)
        if choice.mishap is not None:
            left = dataclasses.replace(left, mishaps=position.mishaps + 1)
        if choice.mishap in (Mishap.GIVE_UP, Mishap.TIME_OUT):
            given_up = choice.mishap is Mishap.GIVE_UP
            ran = _Ran((), {}, b"", b"", 1, SimulatedError("given up") if given_up else None)
            outcome = Outcome.DEAD_LETTERED if given_up else Outcome.EXPIRED
            return self._ended(left, due, choice, number, ran, outcome)
        ran = await self._run(position, due)
        left = dataclasses.replace(left, outside=self._outside.taken())
        if due.thrown is not None and self._repeatable and differs(due.thrown, ran):
            problem = (
                f"{due.agent} answers {due.event.__event__.type} otherwise after a crash, though its state was the same: "
                "it keeps something outside of its state"
            )
            left = dataclasses.replace(left, problem=problem)
        if choice.mishap is Mishap.CRASH:
            thrown = dataclasses.replace(due, thrown=Attempt(ran.found, ran.answer))
            kept = _with(left.remembered, (due.agent, envelope_of(due.event).id), ran.remembered or None)
            step = Step(left.history, number, _sentence(due, choice.mishap), None, ())
            return dataclasses.replace(left, due=_sorted((thrown, *rest)), remembered=kept, history=step)
        outcome = Outcome.COMPLETED if ran.error is None else Outcome.DEAD_LETTERED
        return self._ended(left, due, choice, number, ran, outcome)

    async def _run(self, position: Position, due: Due) -> _Ran:
        """Call the handler as a worker would, as often as its retries say."""
        consumer = self._consumers[due.agent]
        self._outside.put_back(position.outside)
        stored: dict[str, bytes | None] = {
            key: value for (agent, key), value in position.states.items() if agent == due.agent
        }
        id = envelope_of(due.event).id
        services = MemoryServices()
        if (remembered := position.remembered.get((due.agent, id))) is not None:
            services.effects[id] = orjson.loads(remembered)
        attempt = 0
        while True:
            attempt += 1
            state = PartitionState("state", 0, dict(stored)).view()
            delivery = delivery_of(
                due.event, agent=due.agent, version=consumer.version, attempt=attempt, state=state, services=services
            )
            token = current.set(delivery)
            error: BaseException | None = None
            emitted: tuple[Event, ...] = ()
            changed: Mapping[str, bytes | None] = {}
            try:
                emitted = tuple(_timed(one) for one in await consumer.handler(due.event))
                changed = state.changed()
            except (PermanentError, SchemaError) as permanent:
                error = permanent
            except Exception as passing:
                if not consumer.retry.gives_up(attempt, passing):
                    continue
                error = passing
            finally:
                current.reset(token)
            if self._clock is not None and consumer.starts and services.woken_at_us:
                named = [*services.woken_at_us, *([self._wakes_us[due.agent]] if due.agent in self._wakes_us else [])]
                self._wakes_us[due.agent] = min(named)
            effects = services.effects.get(id)
            kept = b"" if effects is None else orjson.dumps(effects)
            found = stored.get(delivery.state_key) or b""
            return _Ran(emitted, changed, kept, found, attempt, error)

    def _ended(
        self, position: Position, due: Due, choice: Choice, number: int, ran: _Ran, outcome: Outcome
    ) -> Position:
        """Put all that came of a delivery where it belongs: in one, as a transaction does."""
        envelope = envelope_of(due.event)
        states = position.states
        for key, value in ran.changed.items():
            states = _with(states, (due.agent, key), value)
        entry: Activity | None = None
        if due.agent != COORDINATOR:
            entry = self._entry(due, ran, outcome)
        events, pending = self._put(position, ran.emitted, again=due.again)
        if choice.mishap is Mishap.REPEAT:
            pending = _sorted((*pending, Due(due.agent, due.event, again=True)))
            position = dataclasses.replace(position, repeats=position.repeats + 1)
        if entry is not None:
            pending = _sorted((*pending, Due(COORDINATOR, entry)))
        fails = (
            due.agent != COORDINATOR and not self._is_aftermath(position, due.event) and self._fails(due, ran, outcome)
        )
        after = dataclasses.replace(
            position,
            due=pending,
            states=states,
            events=events,
            remembered=_with(position.remembered, (due.agent, envelope.id), None),
            failed=position.failed or fails,
            history=Step(position.history, number, _sentence(due, choice.mishap, ran, outcome), entry, ran.emitted),
        )
        if isinstance(due.event, UndoRequested):
            return _undone(after, due, outcome)
        return _asked(after, ran.emitted)

    def _intervened(self, position: Position, number: int) -> Position:
        said = SagaIntervened(act=Act.RETRY, actor="explorer", reason="to see whether it works now")
        id = f"{WORKFLOW[:-2]}ff"
        envelope = Envelope.root(said.__event__.type, source="/apps/test", id=id, correlation_id=WORKFLOW)
        due = Due(COORDINATOR, said.sealed(dataclasses.replace(envelope, time_us=START_US)))
        step = Step(position.history, number, "an operator has the undos tried again that were given up", None, ())
        return dataclasses.replace(
            position, due=(due,), retried=position.given_up, steps=position.steps + 1, history=step
        )

    def _put(
        self, position: Position, emitted: Sequence[Event], *, again: bool
    ) -> tuple[Mapping[str, Known], tuple[Due, ...]]:
        """Put *emitted* on their topics: what is known then, and who has to handle what."""
        if not emitted:
            return position.events, position.due
        events, due = {**position.events}, [*position.due]
        for event in emitted:
            envelope = envelope_of(event)
            undo = isinstance(event, UndoRequested)
            aftermath = undo or any(events[id].aftermath for id in _parents(event) if id in events)
            undoable = not aftermath and event.__event__.type in self._undoable
            late = again and envelope.id not in events
            # Whichever failure the coordinator names as the reason, it asks for the same.
            value = event.event_id if isinstance(event, UndoRequested) else event.model_dump_json()
            events[envelope.id] = Known(event, value.encode(), aftermath, undoable, late)
            hearers = (
                [event.agent]
                if isinstance(event, UndoRequested)
                else self._hearers.get((event.__event__.type, event.__event__.topic), ())
            )
            due += [Due(agent, event, again=again) for agent in hearers]
        return events, _sorted(due)

    def _is_aftermath(self, position: Position, event: Event) -> bool:
        return isinstance(event, UndoRequested) or position.events[envelope_of(event).id].aftermath

    def _fails(self, due: Due, ran: _Ran, outcome: Outcome) -> bool:
        says_so = any(event.__event__.fails for event in (*ran.emitted, due.event))
        return says_so or outcome is not Outcome.COMPLETED

    def _entry(self, due: Due, ran: _Ran, outcome: Outcome) -> Activity:
        envelope = envelope_of(due.event)
        undoes, tells = self._consumers[due.agent].undoes, self._consumers[due.agent].tells
        error = ran.error
        handled = Handled(
            event_id=envelope.id,
            event_type=envelope.type,
            correlation_id=envelope.correlation_id,
            key=envelope.key,
            topic=due.event.__event__.topic,
            partition=0,
            offset=0,
            attempt=ran.attempts,
            outcome=outcome,
            started_us=START_US,
            duration_us=0,
            queue_us=0,
            emitted=[
                Emitted(
                    id=envelope_of(event).id,
                    type=event.__event__.type,
                    fails=event.__event__.fails,
                    undo=event.model_dump_json().encode() if event.__event__.type in undoes else None,
                    told=event.model_dump_json().encode() if event.__event__.type in tells else None,
                )
                for event in ran.emitted
            ],
            causes=[*(envelope_of(ran.emitted[0]).causes if ran.emitted else ())],
            error=None if error is None else Failure(type=type(error).__name__, message=str(error)),
        )
        activity = Activity(
            agent=due.agent, version="0", instance="model", failing=self._failing[due.agent], deliveries=[handled]
        )
        told = Envelope(
            id=f"{envelope.id}/{due.agent}",
            type=Activity.__event__.type,
            source="/model",
            time_us=START_US,
            correlation_id=WORKFLOW,
        )
        return activity.sealed(told)


def differs(thrown: Attempt, ran: _Ran) -> bool:
    """Say whether a handler answered otherwise although it found the same."""
    return thrown.found == ran.found and thrown.answer != ran.answer


@lru_cache(maxsize=100_000)
def _canonical(value: bytes) -> bytes:
    """Return what the coordinator keeps without what makes no difference: which order it heard of things in, and why it failed."""
    said = orjson.loads(value)
    if said.get("workflow", {}).get("failure"):
        said["workflow"]["failure"] = True
    return orjson.dumps(said, option=orjson.OPT_SORT_KEYS)


def _seen(consumer: Consumer) -> AgentSeen:
    return AgentSeen(
        agent=consumer.name,
        version=consumer.version,
        instance="model",
        started_us=START_US,
        time_us=START_US,
        interval_s=1.0,
        hears=hears(consumer),
        emits=says(consumer),
        undoes=sorted(consumer.undoes),
        capacity=consumer.concurrency,
    )


def _undone(position: Position, due: Due, outcome: Outcome) -> Position:
    """Note that an undo is through, and whether it was its turn."""
    request = due.event
    if due.again or not isinstance(request, UndoRequested):
        return position
    if outcome is not Outcome.COMPLETED:
        return dataclasses.replace(position, given_up=position.given_up | {request.event_id})
    left = [
        known.event.__event__.type
        for id, known in position.events.items()
        if known.undoable and not known.late and id not in position.undone and request.event_id in position.lineage(id)
    ]
    problem = position.problem
    if request.event_id in position.undone:
        problem = f"{request.event_type} is undone twice"
    elif left:
        problem = f"{request.event_type} is undone before {' and '.join(left)}, which follows from it"
    return dataclasses.replace(position, undone=(*position.undone, request.event_id), problem=problem)


def _asked(position: Position, emitted: Iterable[Event]) -> Position:
    """Note for which undos the coordinator asks, and whether it may."""
    for request in emitted:
        if isinstance(request, UndoRequested):
            problem = position.problem
            if not position.failed:
                problem = f"{request.event_type} is to be undone, and nothing failed"
            elif request.event_id in position.asked and request.event_id not in position.given_up:
                problem = f"{request.event_type} is to be undone a second time"
            asked = position.asked | {request.event_id}
            position = dataclasses.replace(position, asked=asked, problem=problem)
    return position


def _sentence(due: Due, mishap: Mishap | None, ran: _Ran | None = None, outcome: Outcome | None = None) -> str:
    event = due.event
    if due.agent == COORDINATOR:
        asks = [one.event_type for one in (ran.emitted if ran else ()) if isinstance(one, UndoRequested)]
        heard = event.agent if isinstance(event, Activity) else "the operator"
        return f"the coordinator hears of {heard}" + (f", and asks to undo {', '.join(asks)}" if asks else "")
    what = f"undo {event.event_type}" if isinstance(event, UndoRequested) else event.__event__.type
    said = f"{due.agent} handles {what}{' again' if due.again or due.thrown else ''}"
    match mishap:
        case Mishap.CRASH:
            return f"{said}, and {mishap}"
        case Mishap.GIVE_UP | Mishap.TIME_OUT:
            return f"{due.agent} is handed {what}, and {mishap}"
        case _:
            pass
    if ran is not None and ran.error is not None and outcome is not Outcome.COMPLETED:
        said += f", and gives it up: {type(ran.error).__name__}: {ran.error}"
    elif ran is not None and ran.emitted:
        said += f": {', '.join(one.__event__.type for one in ran.emitted)}"
    return said if mishap is None else f"{said}, {mishap}"


def _timed(event: Event) -> Event:
    """Give *event* a time that is the same each time."""
    envelope = envelope_of(event)
    return event.sealed(dataclasses.replace(envelope, time_us=START_US + envelope.hops * _HOP_US))


def _parents(event: Event) -> tuple[str, ...]:
    envelope = envelope_of(event)
    return envelope.causes if envelope.parent_id is None else (envelope.parent_id, *envelope.causes)


def _sorted(due: Iterable[Due]) -> tuple[Due, ...]:
    """Return them by lane; the sort is stable, so each lane keeps its order."""
    return tuple(sorted(due, key=lambda one: one.lane))


def _with(
    mapping: Mapping[tuple[str, str], bytes], key: tuple[str, str], value: bytes | None
) -> Mapping[tuple[str, str], bytes]:
    if value is None:
        return mapping if key not in mapping else {at: kept for at, kept in mapping.items() if at != key}
    return {**mapping, key: value}
