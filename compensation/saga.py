"""What a workflow did that can be undone, and what to undo next.

Decisions only, over values: the coordinator feeds in what was handled, in
causal order, and sends what comes out. An *effect* is an event whose agent can
undo it. Of the causal graph only the way back from effect to effect is kept,
so a workflow without effects costs nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from antiphon.bus.activity import Handled
from antiphon.bus.delivery import Outcome
from antiphon.bus.undo import UndoRequested
from antiphon.schemas.ids import caused_id


class Phase(StrEnum):
    """How a workflow stands. Whether one that did not fail is complete, only the tracer knows."""

    RUNNING = "running"
    COMPENSATING = "compensating"
    COMPENSATED = "compensated"
    PARKED = "parked"
    """An undo was dead-lettered. What led to its effect waits for a person; nothing is claimed undone that is not."""


class Status(StrEnum):
    """How far the undoing of one effect is."""

    DONE = "done"
    ASKED = "asked"
    UNDONE = "undone"
    STUCK = "stuck"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True)


class Effect(_Value):
    """An event whose agent can undo it."""

    agent: str
    type: str
    value: str
    """The event as it was published, in base64; emptied once undone."""
    key: str | None = None
    """The key of the event the agent had heard: its undo must meet the same state."""
    after: tuple[str, ...] = ()
    """The nearest effects it follows from."""
    status: Status = Status.DONE


class Failure(_Value):
    """The first sign that the workflow failed."""

    event_id: str
    reason: str


class Saga(_Value):
    """One workflow: all that is needed to go on after a crash. Ids are events'."""

    failure: Failure | None = None
    effects: Mapping[str, Effect] = {}
    follows: Mapping[str, tuple[str, ...]] = {}
    """Of an event that is no effect: the nearest effects it follows from, where there are any."""
    aftermath: frozenset[str] = frozenset()
    """What was emitted in undoing, and what came of that: never undone, and no failure of the workflow."""

    @property
    def phase(self) -> Phase:
        if self.failure is None:
            return Phase.RUNNING
        statuses = {effect.status for effect in self.effects.values()}
        if Status.STUCK in statuses:
            return Phase.PARKED
        return Phase.COMPENSATED if statuses <= {Status.UNDONE} else Phase.COMPENSATING


class Fact(NamedTuple):
    """One delivery of the workflow, and whose it was."""

    agent: str
    delivery: Handled


class Undo(NamedTuple):
    """The command to undo one effect."""

    event_id: str
    effect: Effect
    failure: Failure


def undo_id(event_id: str) -> str:
    """Return the id of the request to undo an event: always the same, so asking twice asks once."""
    return caused_id(event_id, "antiphon.undo", 0)


def advance(saga: Saga, fact: Fact) -> tuple[Saga, list[Undo]]:
    """Say what follows from *fact*: the next state, and what to undo now.

    An effect's undo is asked for once every effect that follows from it is
    undone; those that do not follow from one another are undone at the same
    time. A fact that is already known changes nothing.
    """
    delivery = fact.delivery
    if delivery.event_type == UndoRequested.__event__.type:
        saga = _answered(saga, delivery)
    elif not saga.aftermath.isdisjoint((delivery.event_id, *delivery.causes)):
        saga = _aftermath(saga, delivery)
    else:
        saga = _failed(_happened(saga, fact), fact)
    return _ask(saga)


def _happened(saga: Saga, fact: Fact) -> Saga:
    """Note what was emitted: new effects, and which effects everything else follows from."""
    delivery = fact.delivery
    after = _nearest(saga, (delivery.event_id, *delivery.causes))
    effects: dict[str, Effect] = {}
    follows: dict[str, tuple[str, ...]] = {}
    for emitted in delivery.emitted:
        if emitted.id in saga.effects:
            continue
        if emitted.undo is not None:
            value = base64.b64encode(emitted.undo).decode()
            effects[emitted.id] = Effect(
                agent=fact.agent, type=emitted.type, value=value, key=delivery.key, after=after
            )
        elif after and emitted.id not in saga.follows:
            follows[emitted.id] = after
    if not effects and not follows:
        return saga
    return saga.model_copy(update={"effects": {**saga.effects, **effects}, "follows": {**saga.follows, **follows}})


def _nearest(saga: Saga, parents: Iterable[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for parent in parents:
        found |= dict.fromkeys((parent,) if parent in saga.effects else saga.follows.get(parent, ()))
    return tuple(found)


def _failed(saga: Saga, fact: Fact) -> Saga:
    """Note the workflow's first failure: an event that says so, or one that could not be handled."""
    failure = saga.failure or _failure(fact)
    return saga if failure is saga.failure else saga.model_copy(update={"failure": failure})


def _failure(fact: Fact) -> Failure | None:
    delivery = fact.delivery
    for emitted in delivery.emitted:
        if emitted.fails:
            return Failure(event_id=emitted.id, reason=f"{emitted.type}, said by {fact.agent}")
    match delivery.outcome:
        case Outcome.DEAD_LETTERED:
            why = f": {delivery.error.type}: {delivery.error.message}" if delivery.error else ""
            reason = f"{fact.agent} could not handle {delivery.event_type}{why}"
            return Failure(event_id=delivery.event_id, reason=reason)
        case Outcome.EXPIRED:
            reason = f"the deadline had passed when {fact.agent} was to handle {delivery.event_type}"
            return Failure(event_id=delivery.event_id, reason=reason)
        case _:
            return None


def _answered(saga: Saga, delivery: Handled) -> Saga:
    """Note how the undo of an effect went."""
    saga = _aftermath(saga, delivery)
    undone = {undo_id(id): id for id, effect in saga.effects.items() if effect.status is not Status.UNDONE}
    id = undone.get(delivery.event_id)
    if id is None:
        return saga
    match delivery.outcome:
        case Outcome.COMPLETED:
            change: dict[str, object] = {"status": Status.UNDONE, "value": ""}
        case Outcome.DEAD_LETTERED | Outcome.EXPIRED:
            change = {"status": Status.STUCK}
        case _:
            return saga
    return _changed(saga, {id: saga.effects[id].model_copy(update=change)})


def _aftermath(saga: Saga, delivery: Handled) -> Saga:
    more = {emitted.id for emitted in delivery.emitted} - saga.aftermath
    return saga.model_copy(update={"aftermath": saga.aftermath | more}) if more else saga


def _ask(saga: Saga) -> tuple[Saga, list[Undo]]:
    """Ask for every undo that has nothing left to wait for, the latest effect first."""
    if saga.failure is None:
        return saga, []
    waiting = _waiting(saga)
    ready = {id: effect for id, effect in saga.effects.items() if effect.status is Status.DONE and id not in waiting}
    if not ready:
        return saga, []
    asked = {id: effect.model_copy(update={"status": Status.ASKED}) for id, effect in ready.items()}
    undos = [Undo(id, effect, saga.failure) for id, effect in reversed(ready.items())]
    return _changed(saga, asked), undos


def _waiting(saga: Saga) -> set[str]:
    """Return the effects that something not undone yet follows from, at any distance."""
    waiting: set[str] = set()
    ahead = [id for effect in saga.effects.values() if effect.status is not Status.UNDONE for id in effect.after]
    while ahead:
        id = ahead.pop()
        if id not in waiting:
            waiting.add(id)
            ahead += saga.effects[id].after
    return waiting


def _changed(saga: Saga, effects: Mapping[str, Effect]) -> Saga:
    return saga.model_copy(update={"effects": {**saga.effects, **effects}})
