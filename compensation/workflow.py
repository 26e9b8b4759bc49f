"""One workflow as undoing sees it: its causal graph, what in it can be undone, and how far that is.

Values only. An *effect* is an event whose agent can undo it. All that is
needed to go on after a crash stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias

from antiphon.bus.activity import Handled
from antiphon.bus.delivery import Outcome
from antiphon.bus.verdict import SagaFailed, Told
from antiphon.schemas.ids import caused_id


class Phase(StrEnum):
    """How a workflow stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    PARKED = "parked"
    """An undo was given up, or it halted. What led to its effect waits for a person; nothing is claimed undone that is not."""


class Status(StrEnum):
    """How far the undoing of one effect is."""

    DONE = "done"
    ASKED = "asked"
    UNDONE = "undone"
    STUCK = "stuck"
    """Its undo was given up."""
    SKIPPED = "skipped"
    """It is not undone, and an operator said to go on all the same."""


FINAL = frozenset({Outcome.COMPLETED, Outcome.SKIPPED, Outcome.DEAD_LETTERED, Outcome.EXPIRED})
"""The outcomes after which an agent is through with an event."""

SETTLED = frozenset({Status.UNDONE, Status.SKIPPED})


class Node(NamedTuple):
    """An event of the workflow, and who is through with it."""

    type: str
    parents: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    """The agents that are through with it."""
    held: bool = False
    """A join took it, and has not fired since."""
    past: bool = False
    """It was old when it was first heard of; nobody is waited for."""
    aftermath: bool = False
    """Emitted in undoing, or in answer to that: never undone, and no failure of the workflow."""
    by: str = ""
    """The saga whose command it is, and who judges what fails below it."""
    sagas: Mapping[str, str] = {}
    """The sagas that it started, and what each was last told of its undoing."""
    again: bool = False
    """It is a command that was published more than once."""
    ends: str = ""
    """The saga that said it, where it is no command: with it that one has ended."""


class Effect(NamedTuple):
    """What there is to undo about an event."""

    agent: str
    type: str
    value: str
    """The event as it was published, in base64; emptied once undone."""
    key: str | None = None
    """The key of the event the agent had heard: its undo must meet the same state."""
    late: bool = False
    """It happened after the failure was known."""
    status: Status = Status.DONE
    attempts: int = 0
    """How often its undo was tried."""
    before: int = 0
    """... of these, before an operator had it tried again."""
    problem: str = ""
    """Why its undo was given up, or who skipped it and why."""
    via: tuple[str, ...] = ()
    """Commands that undo it, and are not handled yet."""
    again: int = 0
    """How often it happened after all when it had been undone, and is undone once more."""


class Failure(NamedTuple):
    """The first sign that the workflow failed, or a saga in it."""

    event_id: str
    reason: str
    scope: str | None = None
    """Only what follows from this event is undone; None: all."""
    saga: str = ""
    """Whose scope that is."""


class Want(NamedTuple):
    """An entity that the workflow holds, or waits for."""

    entity: str
    withdrawn: bool = False
    """It failed, and need not wait any more."""


class Workflow(NamedTuple):
    """One workflow. Ids are events'."""

    failure: Failure | None = None
    scopes: Mapping[str, Failure] = {}
    """By the event they follow from: parts that are undone although the workflow did not fail by that."""
    events: Mapping[str, Node] = {}
    effects: Mapping[str, Effect] = {}
    wants: Mapping[str, Want] = {}
    """By the event that asks for it, what is held until it has ended."""
    began_us: int | None = None
    """When its root was published, where it has a deadline and that was told."""
    deadline_us: int | None = None
    """By when it should have ended, where it has not failed before."""
    forced: bool = False
    """An operator said not to wait for what has not ended."""
    forgetful: bool = False
    """It has had more events than are kept."""
    ended: bool = False
    """Nothing is outstanding. What is kept is what a late event would need."""
    halted: str = ""
    """Why nothing more is noted of it, nor done in it, until an operator says so; the rest is as it was then."""

    @property
    def phase(self) -> Phase:
        if self.halted or any(effect.status is Status.STUCK for effect in self.effects.values()):
            return Phase.PARKED
        if self.failure is None:
            return Phase.COMPLETED if self.ended else Phase.RUNNING
        return Phase.COMPENSATED if self.ended else Phase.COMPENSATING

    def with_effect(self, id: str, effect: Effect) -> Workflow:
        """Return this workflow with one effect changed, or added."""
        return self._replace(effects={**self.effects, id: effect})

    def with_events(self, events: Mapping[str, Node]) -> Workflow:
        """Return this workflow with some events changed, or added."""
        return self._replace(events={**self.events, **events})


class Mesh(Protocol):
    """What is known of the agents when a fact is judged. `bus.subscriptions.Subscriptions` is one."""

    def hearers(self, type: str, topic: str | None) -> list[str]:
        """Return the agents that hear events of *type*."""
        ...

    def joins(self, agent: str, type: str) -> bool:
        """Say whether *agent* hears them as part of a join."""
        ...

    def leads_to_undoable(self, type: str) -> bool:
        """Say whether of an event of *type* something may come that can be undone."""
        ...

    def starts(self, agent: str, type: str) -> bool:
        """Say whether an event of *type* starts a saga of *agent*."""
        ...

    def conducts(self, agent: str) -> bool:
        """Say whether *agent* is a saga."""
        ...

    def asks(self, agent: str, type: str) -> bool:
        """Say whether an event of *type* is a command of *agent*, a saga."""
        ...


class Fact(NamedTuple):
    """One delivery of the workflow, whose it was, and which of the types that agent hears fail a workflow."""

    agent: str
    delivery: Handled
    failing: tuple[str, ...] = ()
    scoped: Mapping[str, SagaFailed] = {}
    """By id, those of the emitted events that say what of the workflow is to be undone."""
    wanted: Mapping[str, str] = {}
    """By id, those of the emitted events that ask to hold something, and what."""


class Undo(NamedTuple):
    """The command to undo one effect."""

    event_id: str
    effect: Effect
    failure: Failure
    action: str | None = None
    """The command that led to it, where that may come again."""


class Park(NamedTuple):
    """The command to tell that an undo was given up."""

    event_id: str
    effect: Effect


class Tell(NamedTuple):
    """The command to tell a saga something."""

    saga: str
    what: Told
    about: str
    event_id: str
    reason: str


class Free(NamedTuple):
    """The command to say that an entity is needed no more, by the events that asked for it."""

    entity: str
    requests: tuple[str, ...]
    withdrawn: bool
    """What waits for it need not; what holds it goes on."""


Command: TypeAlias = Undo | Park | Tell | Free


def undo_id(event_id: str, again: int = 0) -> str:
    """Return the id of the request to undo an event: always the same, so asking twice asks once."""
    return caused_id(event_id, "antiphon.undo", again)
