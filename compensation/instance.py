"""One run of a saga: how far each of its steps is, what it hears, and what it has done.

Values only. Ids are events'; the instance's own is that of the event that started it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from antiphon.bus.intervention import Act
from antiphon.compensation.workflow import Phase
from antiphon.schemas.event import Event


class Stage(StrEnum):
    """How far a step is. One that is not listed has not begun."""

    RUNNING = "running"
    RESTING = "resting"
    """It failed, and is asked for again when its time has come."""
    DONE = "done"
    SKIPPED = "skipped"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """No answer came in time."""
    PARKED = "parked"
    """It cannot be undone any more, nor done; a person decides."""


ENDED = frozenset({Stage.DONE, Stage.SKIPPED})


class Said(NamedTuple):
    """An event that was heard, and its id."""

    id: str
    event: Event


class Round(NamedTuple):
    """A command of a step that may have to be undone, though the step went on: to another one, or without."""

    command: str
    answer: Said | None


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far one step is."""

    stage: Stage
    command: str = ""
    """The id of the command that is out, or was last."""
    parents: tuple[str, ...] = ()
    """What the command builds on."""
    made: int = 0
    """How many commands there were; one that is published again counts once."""
    tries: int = 0
    """How often the command of this round was asked for."""
    answer: Said | None = None
    answered: bool = False
    """That is the answer to the command that is out, or was last; else to one before it."""
    rounds: tuple[Round, ...] = ()
    """The commands before it that may have to be undone."""
    heard: tuple[str, ...] = ()
    """Answers that were counted; one that comes again changes nothing."""
    unknown: bool = False
    """Nobody knows whether the command that is out was carried out."""
    unsure: bool = False
    """It failed by something below its command, and may have been carried out before that."""
    below: str = ""
    """The command that had been answered when something failed further down; empty where it failed itself."""
    failed: tuple[str, ...] = ()
    """What did so, and was counted."""
    problem: str = ""

    def is_of(self, command: str) -> bool:
        """Say whether *command* is one of its own that may have to be undone."""
        return command == self.command or any(one.command == command for one in self.rounds)

    def answer_to(self, command: str) -> Said | None:
        """Return what *command*, one of its own, was answered."""
        if command == self.command and self.answered:
            return self.answer
        return next((one.answer for one in self.rounds if one.command == command), None)


@dataclasses.dataclass(frozen=True)
class Instance:
    """One run of a saga."""

    version: str
    start: Said
    steps: Mapping[str, Progress] = dataclasses.field(default_factory=dict[str, Progress])
    phase: Phase = Phase.RUNNING
    undoing: bool = False
    """There is no way forward any more. One that is parked may be so on either way."""
    reason: str = ""
    """Why it is undone, or waits for a person."""
    ended: bool = False
    """All steps had ended, and that was published."""

    @property
    def id(self) -> str:
        return self.start.id

    def known(self) -> dict[str, Event]:
        """Return what its functions are told: the start event, and the answers of steps that are done."""
        answers = {name: step.answer.event for name, step in self.steps.items() if step.answer is not None}
        return {"start": self.start.event, **answers}

    def known_of(self, name: str, command: str) -> dict[str, Event]:
        """Return what the function is told that undoes *command* of a step: of the step's own answers, the one to that."""
        answer = self.steps[name].answer_to(command)
        others = {source: event for source, event in self.known().items() if source != name}
        return others if answer is None else {**others, name: answer.event}

    def with_step(self, name: str, step: Progress) -> Instance:
        return dataclasses.replace(self, steps={**self.steps, name: step})


# What it hears.


class Started(NamedTuple):
    """The event that starts it came."""

    said: Said


class Answered(NamedTuple):
    """An event came that some step takes for an answer."""

    said: Said
    parents: tuple[str, ...]
    """What the event says that it follows from."""


class Failed(NamedTuple):
    """Below a command something failed, be it before its answer was heard or after."""

    command: str
    event_id: str
    """The event that says so, or that could not be handled."""
    reason: str


class Due(NamedTuple):
    """The time has come that was asked for when *command* was *tries* times out."""

    command: str
    tries: int


class Verdict(StrEnum):
    """What the coordinator says about all that follows from the start event."""

    STOPPED = "stopped"
    """It is undone, for a reason that lies outside."""
    UNDONE = "undone"
    PARKED = "parked"
    """An undo was given up."""


class Judged(NamedTuple):
    """The coordinator said how the undoing of all that follows from its start stands."""

    verdict: Verdict
    reason: str


class Decided(NamedTuple):
    """An operator decided something about the workflow."""

    act: Act
    why: str


Fact: TypeAlias = Started | Answered | Failed | Due | Judged | Decided


# What it does.


class Ask(NamedTuple):
    """Publish a command; one that was out already, again, under the same id."""

    step: str
    id: str
    event: Event
    parents: tuple[str, ...]


class Wake(NamedTuple):
    """Say `Due(command, tries)` in *after_s* seconds."""

    command: str
    tries: int
    after_s: float


class End(NamedTuple):
    """Publish that all steps have ended."""

    event: Event
    parents: tuple[str, ...]


class Fail(NamedTuple):
    """Have undone what follows from *scope*: the start event, or a command of an optional step."""

    scope: str
    step: str
    reason: str
    unknown: tuple[str, ...] = ()
    """Commands of which nobody knows what became; nobody is waited for."""
    undeclared: tuple[str, ...] = ()
    """Commands whose step does not say what can be done about it."""


class Park(NamedTuple):
    """Tell that a step waits for a person."""

    step: str
    command: str
    problem: str


Command: TypeAlias = Ask | Wake | End | Fail | Park
