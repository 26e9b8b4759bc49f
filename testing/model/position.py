"""How everything in a mesh is at one moment, as a value: what there is to handle, what is kept, and what time it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from antiphon.bus.activity import Activity
from antiphon.bus.intervention import SagaIntervened, SagaParked
from antiphon.bus.names import COORDINATOR
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaFailed, SagaTold, Told
from antiphon.compensation.agenda import RESERVED
from antiphon.schemas.event import Event, envelope_of
from antiphon.testing.model.essence import conducting, undoing
from antiphon.testing.story import START_US

WORKFLOW = "0199f2c1-0000-7000-8000-000000000000"
"""The workflow that is played. Always the same, so that a position is known again."""


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
    """It repeats one that was there, or follows from such a one."""
    thrown: Attempt | None = None

    @property
    def lane(self) -> tuple[str, str, str]:
        """What is handled one after the other: an agent takes the events of one topic and key in their order."""
        envelope, topic = envelope_of(self.event), self.event.__event__.topic
        if is_due(self.event):
            # The saga's own; whether it or the coordinator comes first to their topic is anybody's guess.
            topic = f"{topic} by itself"
        key = "" if self.agent == COORDINATOR else envelope.key or envelope.correlation_id
        return (self.agent, topic, key)

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
    by: str
    """The saga whose command it is."""


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
    now_us: int = START_US
    """It stands still, and jumps to the next alarm: whatever is done takes no time."""
    alarms: Mapping[str, int | None] = dataclasses.field(default_factory=dict[str, int | None])
    """When each saga is to be called though nothing has come, if at all."""
    undone: tuple[str, ...] = ()
    asked: frozenset[str] = frozenset()
    """The requests to undo something."""
    given_up: frozenset[str] = frozenset()
    """The events whose undo was."""
    retried: frozenset[str] = frozenset()
    """Of those given up, the ones an operator had tried again."""
    words: int = 0
    """How often an operator has spoken."""
    failed: bool = False
    """As a whole: what fails below a saga's command is for the saga to say."""
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
                frozenset(self._kept()),
                frozenset(self.remembered.items()),
                self.outside,
                frozenset(_mark(id, known) for id, known in self.events.items()),
                (
                    self.repeats,
                    frozenset(self.undone),
                    self.asked,
                    self.given_up,
                    self.retried,
                    self.words,
                    self.failed,
                    self.problem,
                ),
            )
        )

    def _kept(self) -> Iterable[tuple[tuple[str, str], object]]:
        """Return what is kept as far as it makes a difference: times as they are from now on."""
        for at, value in self.states.items():
            agent, key = at
            if agent == COORDINATOR:
                yield at, undoing(value)
            elif agent not in self.alarms:
                yield at, value
            elif not key.startswith(RESERVED):
                runs, times = conducting(value)
                waits = times and self.alarms[agent] is not None
                yield at, (runs, waits, tuple((command, due_us - self.now_us) for command, due_us in times))

    def lineage(self, id: str) -> set[str]:
        """Return what an event follows from, itself not counted, as far as that is no undoing."""
        found: set[str] = set()
        ahead = [*parents_of(self.events[id].event)]
        while ahead:
            parent = ahead.pop()
            if parent in self.events and parent not in found:
                found.add(parent)
                ahead += parents_of(self.events[parent].event)
        return found

    def told(self) -> list[Step]:
        """Return what happened, in order."""
        steps: list[Step] = []
        step = self.history
        while step is not None:
            steps.append(step)
            step = step.before
        return steps[::-1]

    def runs(self, saga: str) -> Mapping[str, Any]:
        """Return what *saga* keeps of each of its runs, by the event that started it; the outermost first."""
        kept: Mapping[str, Any] = orjson.loads(self.states.get((saga, WORKFLOW), b"{}"))
        return kept

    def waits(self, saga: str) -> bool:
        """Say whether a run of *saga* has named a time that is still to come."""
        value = self.states.get((saga, WORKFLOW))
        return value is not None and bool(conducting(value)[1])


def is_due(event: Event) -> bool:
    """Say whether a saga tells itself by *event* that a time has come."""
    return isinstance(event, SagaTold) and event.what is Told.DUE


def parents_of(event: Event) -> tuple[str, ...]:
    """Return the ids of what *event* follows from."""
    envelope = envelope_of(event)
    return envelope.causes if envelope.parent_id is None else (envelope.parent_id, *envelope.causes)


def by_lane(due: Iterable[Due]) -> tuple[Due, ...]:
    """Return them by lane; the sort is stable, so each lane keeps its order."""
    return tuple(sorted(due, key=lambda one: one.lane))


def _mark(id: str, known: Known) -> tuple[object, ...]:
    """Return what makes a difference of an event that is there: of what the mesh says itself, what a saga has undone."""
    match known.event:
        case SagaFailed(scope=scope, unknown=unknown):
            return (scope, *unknown)
        case UndoRequested() | SagaTold() | SagaParked() | SagaIntervened():
            return ()
        case _:
            return (id, known.value, known.late)
