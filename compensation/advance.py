"""The machine: what follows from one more fact about a workflow.

Decisions only, over values: no clock, no I/O. The coordinator feeds in what was
handled and what operators say, and sends what comes out. Facts may come again,
and in any order; each changes something once.
"""

from __future__ import annotations

import base64

from antiphon.bus.activity import Handled
from antiphon.bus.delivery import Outcome
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaFailed, Told
from antiphon.compensation.deadline import extended, noted, overran, passed
from antiphon.compensation.forgetting import pruned, remainder
from antiphon.compensation.saga import (
    Command,
    Effect,
    Fact,
    Failure,
    Mesh,
    Node,
    Park,
    Saga,
    Status,
    Tell,
    Undo,
    undo_id,
)
from antiphon.compensation.scopes import condemned, failures, judge_of, reason_for, without_undo
from antiphon.compensation.verdicts import verdicts
from antiphon.compensation.waiting import has_ended, is_open, ready

PATIENCE_US = 600_000_000
"""Of an event that was older than this when it was first heard of, nobody is expected to be still at it: an agent that was
deployed today handles what the others handled days ago."""

_SAGA_FAILED = SagaFailed.__event__.type
_FINAL = frozenset({Outcome.COMPLETED, Outcome.SKIPPED, Outcome.DEAD_LETTERED, Outcome.EXPIRED})


def advance(saga: Saga, fact: Fact, mesh: Mesh, *, past_stuck: bool = False) -> tuple[Saga, list[Command]]:
    """Say what follows from *fact*: the next state, and what to do now.

    With *past_stuck* the undoing goes on past an undo that was given up; without,
    what led to its effect stays as it is until a person decides.
    """
    said: list[Command] = []
    if fact.delivery.event_type == UndoRequested.__event__.type:
        saga, said = _answered(saga, fact, mesh)
    else:
        saga = _happened(_in_time(saga, fact), fact, mesh)
        for judged in (_failed, _scoped, _undone_by_command):
            saga, more = judged(saga, fact)
            said += more
    saga, undos = proceed(saga, mesh, past_stuck=past_stuck)
    return saga, [*said, *undos]


def intervene(
    saga: Saga, said: SagaIntervened, id: str, mesh: Mesh, *, past_stuck: bool = False
) -> tuple[Saga, list[Command]]:
    """Say what follows from an operator's word, the event *id*. What does not fit the state changes nothing."""
    stuck = [
        effect
        for effect in saga.effects
        if saga.effects[effect].status is Status.STUCK and said.event_id in (None, effect)
    ]
    why = f"{said.actor}: {said.reason}"
    match said.act:
        case Act.CANCEL if saga.events and not saga.ended and (saga.failure is None or saga.failure.scope):
            saga = _fails(saga, Failure(event_id=id, reason=f"cancelled by {why}"))
        case Act.RETRY:
            for effect in stuck:
                saga = saga.with_effect(effect, status=Status.DONE, problem="", before=saga.effects[effect].attempts)
        case Act.SKIP:
            for effect in stuck:
                saga = saga.with_effect(effect, status=Status.SKIPPED, value="", problem=f"skipped by {why}")
        case Act.FORCE if failures(saga) and not saga.ended:
            for effect in stuck:
                saga = saga.with_effect(effect, status=Status.SKIPPED, value="", problem=f"forced by {why}")
            saga = saga.model_copy(update={"forced": True})
        case Act.EXTEND if saga.failure is None and not saga.ended:
            saga = extended(saga, said.until_us)
        case _:
            return saga, []
    return proceed(saga, mesh, past_stuck=past_stuck)


def overdue(saga: Saga, workflow: str, mesh: Mesh, *, past_stuck: bool = False) -> tuple[Saga, list[Command]]:
    """Say what follows from its deadline having passed, with all that was handled until then told."""
    return proceed(passed(saga, workflow), mesh, past_stuck=past_stuck)


def proceed(saga: Saga, mesh: Mesh, *, past_stuck: bool = False) -> tuple[Saga, list[Command]]:
    """Ask for what can be undone now; let go of what nobody will need."""
    undos: list[Command] = []
    reasons = condemned(saga)
    for id in ready(saga, mesh, past_stuck=past_stuck) if reasons else ():
        undos.append(Undo(id, saga.effects[id], reasons[id]))
        saga = saga.with_effect(id, status=Status.ASKED)
    saga, told = verdicts(saga, mesh)
    undos += told
    if has_ended(saga, mesh):
        return remainder(saga), undos
    if not failures(saga) and not saga.effects and not _may_have_effects(saga, mesh):
        return Saga(), []
    return pruned(saga, mesh), undos


def _in_time(saga: Saga, fact: Fact) -> Saga:
    """Note the deadline, and that the workflow had failed already when what is told now came to its end."""
    delivery = fact.delivery
    saga = noted(saga, delivery)
    return passed(saga, delivery.correlation_id) if delivery.outcome in _FINAL and overran(saga, delivery) else saga


def _may_have_effects(saga: Saga, mesh: Mesh) -> bool:
    return any(mesh.leads_to_undoable(node.type) and is_open(node, mesh) for node in saga.events.values())


def _happened(saga: Saga, fact: Fact, mesh: Mesh) -> Saga:
    """Note who handled what, and what came of it: events, and effects among them."""
    delivery = fact.delivery
    events, effects = {**saga.events}, {**saga.effects}
    node = events.get(delivery.event_id) or _from_outside(saga, delivery)
    # What a repeat tells of may have been forgotten meanwhile: waiting for its end might never end.
    forgotten = fact.agent in node.done or (node.past and _is_over(saga))
    if delivery.outcome in _FINAL and fact.agent not in node.done:
        holds = not delivery.emitted and mesh.joins(fact.agent, node.type)
        node = node.model_copy(update={"done": (*node.done, fact.agent), "held": node.held or holds})
    if delivery.outcome in _FINAL and mesh.starts(fact.agent, node.type) and fact.agent not in node.sagas:
        node = node.model_copy(update={"sagas": {**node.sagas, fact.agent: ""}})
    events[delivery.event_id] = node
    for cause in delivery.causes:
        if cause in events and events[cause].held:
            events[cause] = events[cause].model_copy(update={"held": False})
    parents = (delivery.event_id, *delivery.causes)
    aftermath = any(events[parent].aftermath for parent in parents if parent in events)
    for emitted in delivery.emitted:
        known = events.get(emitted.id)
        if emitted.id in effects or (known is not None and (known.parents or known.aftermath)):
            continue
        # One that was heard of before what caused it keeps who handled it.
        known = known or Node(type=emitted.type, past=forgotten)
        by = fact.agent if mesh.asks(fact.agent, emitted.type) else ""
        events[emitted.id] = known.model_copy(update={"parents": parents, "aftermath": aftermath, "by": by})
        if emitted.undo is not None and not aftermath:
            value = base64.b64encode(emitted.undo).decode()
            late = reason_for(saga, parents) is not None
            effects[emitted.id] = Effect(agent=fact.agent, type=emitted.type, value=value, key=delivery.key, late=late)
    return saga.model_copy(update={"events": events, "effects": effects, "ended": False})


def _from_outside(saga: Saga, delivery: Handled) -> Node:
    """Return the node of an event that nobody in the mesh was known to emit: a root, or one that joined later."""
    return Node(type=delivery.event_type, past=_is_over(saga) or delivery.queue_us > PATIENCE_US)


def _is_over(saga: Saga) -> bool:
    """Say whether what is news to *saga* may be something it has forgotten."""
    return saga.forgetful or (saga.ended and saga.failure is not None)


def _failed(saga: Saga, fact: Fact) -> tuple[Saga, list[Command]]:
    """Note the workflow's first failure, an event that says so or one that could not be handled; or tell whose it is."""
    delivery = fact.delivery
    failure = _failure(fact)
    if failure is None or saga.events[delivery.event_id].aftermath:
        return saga, []
    judge = judge_of(saga, (delivery.event_id, *delivery.causes))
    if judge is not None:
        command, node = judge
        return saga, [Tell(node.by, Told.FAILED, command, failure.event_id, failure.reason)]
    return _fails(saga, failure), []


def _fails(saga: Saga, failure: Failure) -> Saga:
    """Note a failure of the whole workflow, where none is known."""
    if saga.failure is not None and saga.failure.scope is None:
        return saga
    return saga.model_copy(update={"failure": failure})


def _scoped(saga: Saga, fact: Fact) -> tuple[Saga, list[Command]]:
    """Note what sagas say is to be undone. What a nested one could not do is its parent's to judge."""
    said: list[Command] = []
    for id, failed in fact.scoped.items():
        failure = Failure(event_id=id, reason=failed.reason, scope=failed.scope, saga=failed.saga)
        judge = judge_of(saga, [failed.scope])
        if judge is not None:
            saga = saga.model_copy(update={"scopes": {**saga.scopes, failed.scope: failure}})
            command, node = judge
            # An optional step that a saga leaves is no news to it.
            said += [Tell(node.by, Told.FAILED, command, id, failed.reason)] if node.by != failed.saga else []
        elif saga.failure is None:
            saga = saga.model_copy(update={"failure": failure})
        elif failed.scope != saga.failure.scope:
            saga = saga.model_copy(update={"scopes": {**saga.scopes, failed.scope: failure}})
        past = {one: saga.events[one].model_copy(update={"past": True}) for one in failed.unknown if one in saga.events}
        stuck = without_undo(saga, failed.undeclared)
        said += [Park(one, effect) for one, effect in stuck.items()]
        saga = saga.model_copy(update={"events": {**saga.events, **past}, "effects": {**saga.effects, **stuck}})
    return saga, said


def _failure(fact: Fact) -> Failure | None:
    delivery = fact.delivery
    if delivery.event_type in fact.failing and delivery.event_type != _SAGA_FAILED:
        return Failure(event_id=delivery.event_id, reason=f"{delivery.event_type}, heard by {fact.agent}")
    for emitted in delivery.emitted:
        if emitted.fails and emitted.type != _SAGA_FAILED:
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


def _answered(saga: Saga, fact: Fact, mesh: Mesh) -> tuple[Saga, list[Command]]:
    """Note how the undo of an effect went, and that what came of it is aftermath."""
    delivery = fact.delivery
    new = {
        emitted.id: Node(type=emitted.type, parents=(delivery.event_id,), aftermath=True)
        for emitted in delivery.emitted
        if emitted.id not in saga.events
    }
    asked = {undo_id(id): id for id, effect in saga.effects.items() if effect.status is not Status.DONE}
    id = asked.get(delivery.event_id)
    if id is None or saga.effects[id].status is Status.UNDONE:
        return saga, []
    saga = saga.model_copy(update={"events": {**saga.events, **new}, "ended": False})
    attempts = max(saga.effects[id].attempts, saga.effects[id].before + delivery.attempt)
    saga = saga.with_effect(id, attempts=attempts)
    if delivery.outcome == Outcome.COMPLETED:
        # A saga undoes a step by a command; that is done when it was handled.
        via = tuple(emitted.id for emitted in delivery.emitted if mesh.asks(fact.agent, emitted.type))
        done = {"via": via} if via else {"status": Status.UNDONE, "value": "", "problem": ""}
        return saga.with_effect(id, **done), []
    return _stuck(saga, id, delivery)


def _undone_by_command(saga: Saga, fact: Fact) -> tuple[Saga, list[Command]]:
    """Note how a command went that undoes an effect."""
    delivery = fact.delivery
    id = next((id for id, effect in saga.effects.items() if delivery.event_id in effect.via), None)
    if id is None:
        return saga, []
    if delivery.outcome != Outcome.COMPLETED:
        return _stuck(saga, id, delivery)
    via = tuple(one for one in saga.effects[id].via if one != delivery.event_id)
    done = {"via": via} if via else {"via": (), "status": Status.UNDONE, "value": "", "problem": ""}
    return saga.with_effect(id, **done), []


def _stuck(saga: Saga, id: str, delivery: Handled) -> tuple[Saga, list[Command]]:
    """Note that an undo was given up, where it was. What an operator has said about it holds, though it is told again."""
    if delivery.outcome not in (Outcome.DEAD_LETTERED, Outcome.EXPIRED) or saga.effects[id].status is Status.SKIPPED:
        return saga, []
    error = delivery.error
    problem = f"{error.type}: {error.message}" if error else str(delivery.outcome)
    parked = saga.with_effect(id, status=Status.STUCK, problem=problem)
    return parked, [Park(id, parked.effects[id])] if saga.effects[id].status is Status.ASKED else []
