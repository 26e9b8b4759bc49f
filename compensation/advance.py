"""The machine: what follows from one more fact about a workflow.

Decisions only, over values: no clock, no I/O. The coordinator feeds in what was
handled and what operators say, and sends what comes out. Facts may come again,
and in any order; each changes something once.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping

from antiphon.bus.activity import Handled
from antiphon.bus.delivery import Outcome
from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaFailed, SagaTold, Told
from antiphon.compensation.deadline import extended, noted, overran, passed
from antiphon.compensation.forgetting import conducts, pruned, remainder
from antiphon.compensation.holding import answered, released, withdrawn
from antiphon.compensation.scopes import condemned, failures, judge_of, reason_for, without_undo
from antiphon.compensation.verdicts import verdicts
from antiphon.compensation.waiting import has_ended, is_open, newest_first, ready
from antiphon.compensation.workflow import (
    FINAL,
    Command,
    Effect,
    Fact,
    Failure,
    Mesh,
    Node,
    Park,
    Status,
    Tell,
    Undo,
    Want,
    Workflow,
    undo_id,
)

PATIENCE_US = 600_000_000
"""Of an event that was older than this when it was first heard of, nobody is expected to be still at it: an agent that was
deployed today handles what the others handled days ago."""

_SAGA_FAILED = SagaFailed.__event__.type
_OWN = frozenset({SagaTold.__event__.type, SagaIntervened.__event__.type})
"""What is said to sagas and operators' words: every saga hears such events, and of one that is another's leaves no activity."""


def advance(workflow: Workflow, fact: Fact, mesh: Mesh, *, past_stuck: bool = False) -> tuple[Workflow, list[Command]]:
    """Say what follows from *fact*: the next state, and what to do now.

    With *past_stuck* the undoing goes on past an undo that was given up; without,
    what led to its effect stays as it is until a person decides.
    """
    said: list[Command] = []
    if workflow.halted:
        return workflow, said
    if fact.delivery.event_type == UndoRequested.__event__.type:
        workflow, said = _answered(workflow, fact, mesh)
    else:
        workflow = _happened(answered(_in_time(workflow, fact), fact), fact, mesh)
        for judged in (_failed, _scoped, _undone_by_command):
            workflow, more = judged(workflow, fact)
            said += more
    workflow, undos = proceed(workflow, mesh, past_stuck=past_stuck)
    return workflow, [*said, *undos]


def intervene(
    workflow: Workflow, said: SagaIntervened, id: str, mesh: Mesh, *, past_stuck: bool = False
) -> tuple[Workflow, list[Command]]:
    """Say what follows from an operator's word, the event *id*. What does not fit the state changes nothing."""
    stuck = {
        effect_id: effect
        for effect_id, effect in workflow.effects.items()
        if effect.status is Status.STUCK and said.event_id in (None, effect_id)
    }
    why = f"{said.actor}: {said.reason}"
    was_halted = bool(workflow.halted)
    if said.act in (Act.RETRY, Act.FORCE):
        workflow = workflow._replace(halted="")
    match said.act:
        case Act.CANCEL if (
            workflow.events and not workflow.ended and (workflow.failure is None or workflow.failure.scope)
        ):
            workflow = _fails(workflow, Failure(event_id=id, reason=f"cancelled by {why}"))
        case Act.RETRY:
            for effect_id, effect in stuck.items():
                again = effect._replace(status=Status.DONE, problem="", before=effect.attempts)
                workflow = workflow.with_effect(effect_id, again)
        case Act.SKIP:
            workflow = _skipped(workflow, stuck, f"skipped by {why}")
        case Act.FORCE if (failures(workflow) or was_halted) and not workflow.ended:
            workflow = _skipped(workflow, stuck, f"forced by {why}")._replace(forced=True)
        case Act.EXTEND if workflow.failure is None and not workflow.ended:
            workflow = extended(workflow, said.until_us)
        case _:
            return workflow, []
    return proceed(workflow, mesh, past_stuck=past_stuck)


def _skipped(workflow: Workflow, stuck: Mapping[str, Effect], problem: str) -> Workflow:
    skipped = {id: effect._replace(status=Status.SKIPPED, value="", problem=problem) for id, effect in stuck.items()}
    return workflow._replace(effects={**workflow.effects, **skipped})


def overdue(workflow: Workflow, id: str, mesh: Mesh, *, past_stuck: bool = False) -> tuple[Workflow, list[Command]]:
    """Say what follows from its deadline having passed, with all that was handled until then told."""
    return proceed(passed(workflow, id), mesh, past_stuck=past_stuck)


def proceed(workflow: Workflow, mesh: Mesh, *, past_stuck: bool = False) -> tuple[Workflow, list[Command]]:
    """Ask for what can be undone now; let go of what nobody will need."""
    undos: list[Command] = []
    if workflow.halted:
        return workflow, undos
    reasons = condemned(workflow)
    for id in ready(workflow, reasons, mesh, past_stuck=past_stuck):
        effect = workflow.effects[id]
        undos.append(Undo(id, effect, reasons[id], _repeated(workflow, id)))
        workflow = workflow.with_effect(id, effect._replace(status=Status.ASKED))
    workflow, told = verdicts(workflow, mesh)
    workflow, freed = withdrawn(workflow)
    if has_ended(workflow, reasons, mesh):
        workflow, freed = released(workflow)
        return remainder(workflow), [*undos, *told, *freed]
    if not (failures(workflow) or workflow.effects or workflow.wants or conducts(workflow)) and not _may_have_effects(
        workflow, mesh
    ):
        return Workflow(), []
    return pruned(workflow, mesh), [*undos, *told, *freed]


def _repeated(workflow: Workflow, id: str) -> str | None:
    """Return the command that led to the effect *id*, or is it, where it was published more than once: a copy may still come."""
    node = workflow.events[id]
    if node.again or not node.parents:
        return id if node.again else None
    above = workflow.events.get(node.parents[0])
    return node.parents[0] if above is not None and above.again else None


def _in_time(workflow: Workflow, fact: Fact) -> Workflow:
    """Note the deadline, and that the workflow had failed already when what is told now came to its end."""
    delivery = fact.delivery
    workflow = noted(workflow, delivery)
    return (
        passed(workflow, delivery.correlation_id)
        if delivery.outcome in FINAL and overran(workflow, delivery)
        else workflow
    )


def _may_have_effects(workflow: Workflow, mesh: Mesh) -> bool:
    return any(mesh.leads_to_undoable(node.type) and is_open(node, mesh) for node in newest_first(workflow))


def _happened(workflow: Workflow, fact: Fact, mesh: Mesh) -> Workflow:
    """Note who handled what, and what came of it: events, and effects among them."""
    node = workflow.events.get(fact.delivery.event_id) or _from_outside(workflow, fact.delivery)
    # What a repeat tells of may have been forgotten meanwhile: waiting for its end might never end.
    forgotten = fact.agent in node.done or (node.past and _is_over(workflow))
    return _caused(_handled(workflow, node, fact, mesh), fact, mesh, forgotten=forgotten)


def _handled(workflow: Workflow, node: Node, fact: Fact, mesh: Mesh) -> Workflow:
    """Note that an agent had to do with the event *node*, and may be through with it."""
    delivery, effect = fact.delivery, workflow.effects.get(fact.delivery.event_id)
    if effect is not None and delivery.outcome == Outcome.COMPLETED and not node.done:
        workflow = workflow.with_effect(delivery.event_id, _overtaken(effect, node))
    if delivery.outcome in FINAL and fact.agent not in node.done:
        holds = not delivery.emitted and mesh.joins(fact.agent, node.type)
        node = node._replace(done=(*node.done, fact.agent), held=node.held or holds)
    if delivery.outcome in FINAL and mesh.starts(fact.agent, node.type) and fact.agent not in node.sagas:
        node = node._replace(sagas={**node.sagas, fact.agent: ""})
    joined = {one: workflow.events[one]._replace(held=False) for one in delivery.causes if one in workflow.events}
    return workflow.with_events({delivery.event_id: node, **joined})


def _caused(workflow: Workflow, fact: Fact, mesh: Mesh, *, forgotten: bool) -> Workflow:
    """Note what a delivery emitted. Of one that is *forgotten* nothing is waited for."""
    delivery = fact.delivery
    if not delivery.emitted:
        return workflow._replace(ended=False) if workflow.ended else workflow
    events, effects, wants = {**workflow.events}, {**workflow.effects}, {**workflow.wants}
    parents = (delivery.event_id, *delivery.causes)
    aftermath = any(events[parent].aftermath for parent in parents if parent in events)
    for emitted in delivery.emitted:
        known = events.get(emitted.id)
        if emitted.id in effects or (known is not None and (known.parents or known.aftermath)):
            if known is not None and known.by:
                events[emitted.id] = known._replace(again=True)
            continue
        # One that was heard of before what caused it keeps who handled it.
        known = known or Node(type=emitted.type, past=forgotten)
        by = fact.agent if mesh.asks(fact.agent, emitted.type) else ""
        ends = fact.agent if not by and mesh.conducts(fact.agent) else ""
        events[emitted.id] = known._replace(parents=parents, aftermath=aftermath, by=by, ends=ends)
        if emitted.id in fact.wanted:
            wants[emitted.id] = Want(fact.wanted[emitted.id])
        if emitted.undo is not None and not aftermath:
            value = base64.b64encode(emitted.undo).decode()
            late = reason_for(workflow, parents) is not None
            effects[emitted.id] = Effect(agent=fact.agent, type=emitted.type, value=value, key=delivery.key, late=late)
    return workflow._replace(events=events, effects=effects, wants=wants, ended=False)


def _overtaken(effect: Effect, node: Node) -> Effect:
    """A saga's command that is first carried out when it was undone already: that undo found nothing, so it is undone again."""
    if effect.status is not Status.UNDONE or node.by != effect.agent:
        return effect
    return effect._replace(status=Status.DONE, late=True, again=effect.again + 1, before=effect.attempts)


def _from_outside(workflow: Workflow, delivery: Handled) -> Node:
    """Return the node of an event that nobody in the mesh was known to emit: a root, or one that joined later."""
    past = delivery.event_type in _OWN or _is_over(workflow) or delivery.queue_us > PATIENCE_US
    return Node(type=delivery.event_type, past=past)


def _is_over(workflow: Workflow) -> bool:
    """Say whether what is news to *workflow* may be something it has forgotten."""
    return workflow.forgetful or (workflow.ended and workflow.failure is not None)


def _failed(workflow: Workflow, fact: Fact) -> tuple[Workflow, list[Command]]:
    """Note the workflow's first failure, an event that says so or one that could not be handled; or tell whose it is."""
    delivery = fact.delivery
    failure = _failure(fact)
    if failure is None or workflow.events[delivery.event_id].aftermath:
        return workflow, []
    judge = judge_of(workflow, (delivery.event_id, *delivery.causes))
    if judge is not None:
        command, node = judge
        return workflow, [Tell(node.by, Told.FAILED, command, failure.event_id, failure.reason)]
    return _fails(workflow, failure), []


def _fails(workflow: Workflow, failure: Failure) -> Workflow:
    """Note a failure of the whole workflow, where none is known."""
    if workflow.failure is not None and workflow.failure.scope is None:
        return workflow
    return workflow._replace(failure=failure)


def _scoped(workflow: Workflow, fact: Fact) -> tuple[Workflow, list[Command]]:
    """Note what sagas say is to be undone. What a nested one could not do is its parent's to judge."""
    said: list[Command] = []
    for id, failed in fact.scoped.items():
        failure = Failure(event_id=id, reason=failed.reason, scope=failed.scope, saga=failed.saga)
        judge = judge_of(workflow, [failed.scope])
        if judge is not None:
            workflow = workflow._replace(scopes={**workflow.scopes, failed.scope: failure})
            command, node = judge
            # An optional step that a saga leaves is no news to it.
            said += [Tell(node.by, Told.FAILED, command, id, failed.reason)] if node.by != failed.saga else []
        elif workflow.failure is None:
            workflow = workflow._replace(failure=failure)
        elif failed.scope != workflow.failure.scope:
            workflow = workflow._replace(scopes={**workflow.scopes, failed.scope: failure})
        past = {one: workflow.events[one]._replace(past=True) for one in failed.unknown if one in workflow.events}
        stuck = without_undo(workflow, failed.undeclared)
        said += [Park(one, effect) for one, effect in stuck.items()]
        workflow = workflow.with_events(past)._replace(effects={**workflow.effects, **stuck})
    return workflow, said


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


def _answered(workflow: Workflow, fact: Fact, mesh: Mesh) -> tuple[Workflow, list[Command]]:
    """Note how the undo of an effect went, and that what came of it is aftermath."""
    delivery = fact.delivery
    new = {
        emitted.id: Node(type=emitted.type, parents=(delivery.event_id,), aftermath=True)
        for emitted in delivery.emitted
        if emitted.id not in workflow.events
    }
    asked = [(id, one) for id, one in workflow.effects.items() if one.status not in (Status.DONE, Status.UNDONE)]
    id = next((id for id, one in asked if undo_id(id, one.again) == delivery.event_id), None)
    if id is None:
        return workflow, []
    effect, attempts = workflow.effects[id], workflow.effects[id].before + delivery.attempt
    if attempts > effect.attempts:
        effect = effect._replace(attempts=attempts)
    done = delivery.outcome == Outcome.COMPLETED
    if done:
        # A saga undoes a step by a command; that is done when it was handled.
        via = tuple(emitted.id for emitted in delivery.emitted if mesh.asks(fact.agent, emitted.type))
        effect = _undone(effect, via)
    events, effects = {**workflow.events, **new}, {**workflow.effects, id: effect}
    workflow = workflow._replace(events=events, effects=effects, ended=False)
    return (workflow, []) if done else _stuck(workflow, id, delivery)


def _undone_by_command(workflow: Workflow, fact: Fact) -> tuple[Workflow, list[Command]]:
    """Note how a command went that undoes an effect."""
    delivery = fact.delivery
    id = next((id for id, effect in workflow.effects.items() if delivery.event_id in effect.via), None)
    if id is None:
        return workflow, []
    if delivery.outcome != Outcome.COMPLETED:
        return _stuck(workflow, id, delivery)
    effect = workflow.effects[id]
    via = tuple(one for one in effect.via if one != delivery.event_id)
    return workflow.with_effect(id, _undone(effect, via)), []


def _undone(effect: Effect, via: tuple[str, ...]) -> Effect:
    """Return an effect that is undone, or will be when the commands *via* are handled."""
    if via:
        return effect._replace(via=via)
    return effect._replace(via=(), status=Status.UNDONE, value="", problem="")


def _stuck(workflow: Workflow, id: str, delivery: Handled) -> tuple[Workflow, list[Command]]:
    """Note that an undo was given up, where it was. What an operator has said about it holds, though it is told again."""
    if (
        delivery.outcome not in (Outcome.DEAD_LETTERED, Outcome.EXPIRED)
        or workflow.effects[id].status is Status.SKIPPED
    ):
        return workflow, []
    error = delivery.error
    problem = f"{error.type}: {error.message}" if error else str(delivery.outcome)
    effect = workflow.effects[id]
    stuck = effect._replace(status=Status.STUCK, problem=problem)
    return workflow.with_effect(id, stuck), [Park(id, stuck)] if effect.status is Status.ASKED else []
