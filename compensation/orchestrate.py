"""The machine of a saga: what follows from one more fact about one run of it.

Decisions only, over values: no clock, no I/O. Facts may come again, and in any
order; each changes something once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from antiphon.bus.intervention import Act
from antiphon.compensation.definition import Definition, Kind, Plan
from antiphon.compensation.instance import (
    ENDED,
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
    Progress,
    Round,
    Stage,
    Started,
    Verdict,
    Wake,
)
from antiphon.compensation.workflow import Phase
from antiphon.schemas.event import Event
from antiphon.schemas.ids import caused_id

_OUT = frozenset({Stage.RUNNING, Stage.RESTING, Stage.UNKNOWN, Stage.PARKED})
_CARRIED_OUT = frozenset({Stage.DONE, Stage.RUNNING})


def advance(saga: Definition, now: Instance | None, fact: Fact) -> tuple[Instance, list[Command]]:
    """Say what follows from *fact*: the next state, and what to do now. Only `Started` makes an instance of None."""
    commands: list[Command] = []
    match fact:
        case Started(said) if now is None:
            now = Instance(version=saga.version, start=said)
        case Answered() if now is not None and (name := _asked(saga, now, fact)) is not None:
            now = _answered(saga, now, name, fact, commands)
        case Failed() if now is not None and (name := _of_step(now, fact.command)) is not None:
            now = _failed(saga, now, name, fact, commands)
        case Due() if now is not None and (name := _commanded(now, fact.command)) is not None:
            if now.steps[name].tries == fact.tries:
                now = _due(saga, now, name, commands)
        case Judged() if now is not None:
            now = _judged(now, fact)
        case Decided() if now is not None:
            now = _decided(saga, now, fact, commands)
        case _:
            pass
    if now is None:
        message = f"expected {saga.name} to have been started before {type(fact).__name__}"
        raise ValueError(message)
    return _go_on(saga, now, commands), commands


def _go_on(saga: Definition, now: Instance, commands: list[Command]) -> Instance:
    """Abort where a step has failed; else begin what can begin; end where nothing is left."""
    if now.undoing:
        return now
    for name in [name for name, step in now.steps.items() if step.stage in (Stage.REFUSED, Stage.UNKNOWN)]:
        if _goes_forward(saga, now, name):
            now = _kept_at(saga, now, name, commands)
        elif _may_pass(saga, now):
            # What becomes of the pivot decides whether there is a way back.
            return now
        else:
            return _aborted(saga, now, name, commands)
    now = _begun(saga, now, commands)
    stages = {step.stage for step in now.steps.values()}
    if Stage.PARKED in stages:
        return replace(now, phase=Phase.PARKED)
    if len(now.steps) == len(saga.steps) and stages <= ENDED:
        if saga.ends is not None and not now.ended:
            commands.append(End(saga.ends(now.known()), _leaves(saga, now)))
        return replace(now, phase=Phase.COMPLETED, reason="", ended=True)
    return replace(now, phase=Phase.RUNNING, reason="")


def _begun(saga: Definition, now: Instance, commands: list[Command]) -> Instance:
    """Begin each step that has nothing left to wait for. One that is skipped may let others begin."""
    while ready := [*_ready(saga, now)]:
        for plan in ready:
            known = now.known()
            if plan.needs - known.keys() or (plan.when is not None and not plan.when(known)):
                now = now.with_step(plan.name, Progress(Stage.SKIPPED))
            else:
                answers = [now.steps[name].answer for name in plan.after]
                parents = tuple(answer.id for answer in answers if answer is not None) or (now.id,)
                now = _ask(saga, now, plan, Progress(Stage.RUNNING, parents=parents), commands)
    return now


def _ready(saga: Definition, now: Instance) -> Iterator[Plan]:
    ended = {name for name, step in now.steps.items() if step.stage in ENDED}
    return (plan for plan in saga.steps.values() if plan.name not in now.steps and ended.issuperset(plan.after))


def _ask(saga: Definition, now: Instance, plan: Plan, step: Progress, commands: list[Command]) -> Instance:
    """Publish a new command of a step."""
    id = command_id(saga, now.id, plan.name, step.made)
    before = [Round(step.command, step.answer if step.answered else None)] if step.answered or step.unsure else []
    step = replace(
        step,
        stage=Stage.RUNNING,
        command=id,
        made=step.made + 1,
        tries=step.tries + 1,
        answered=False,
        rounds=(*step.rounds, *before),
        unsure=False,
        problem="",
    )
    return _publish(now, plan, step, commands)


def _publish(now: Instance, plan: Plan, step: Progress, commands: list[Command]) -> Instance:
    commands.append(Ask(plan.name, step.command, plan.action(now.known()), step.parents))
    if plan.timeout is not None:
        commands.append(Wake(step.command, step.tries, plan.timeout))
    return now.with_step(plan.name, step)


def command_id(saga: Definition, instance: str, step: str, made: int) -> str:
    """Return the id of a step's command: made from the start's, so one that is made again is the same."""
    return caused_id(instance, f"{saga.name}/{step}", made)


def step_to_undo(saga: Definition, now: Instance, command: str) -> str | None:
    """Return the step that *command* is of, where it is one of this run that a command of its own undoes."""
    for name, step in now.steps.items():
        if saga.steps[name].undo and command in {command_id(saga, now.id, name, made) for made in range(step.made)}:
            return name
    return None


def undoing(saga: Definition, now: Instance, name: str, command: str) -> Event | None:
    """Return what undoes *command* of a step; None where it was refused, and there is nothing to undo."""
    step, undo = now.steps[name], saga.steps[name].undo
    refused = command == step.command and step.stage is Stage.REFUSED and not step.unsure
    if undo is None or refused or not step.is_of(command):
        return None
    made: Event = undo(now.known_of(name, command))
    return made


# What comes of a step.


def _asked(saga: Definition, now: Instance, fact: Answered) -> str | None:
    """Return the step that an event answers: the one whose command it follows from, or one that waits for its type."""
    type_ = type(fact.said.event)
    open = {name for name, step in now.steps.items() if _is_open(step) and fact.said.id not in step.heard}
    fitting = [name for name in saga.steps if name in open and type_ in saga.steps[name].answers]
    direct = [name for name in fitting if now.steps[name].command in fact.parents]
    earlier = {
        command_id(saga, now.id, name, number) for name, step in now.steps.items() for number in range(step.made)
    }
    # An answer to a command that was made before is late; one from further below may be any step's.
    return next(iter(direct if direct or not earlier.isdisjoint(fact.parents) else fitting), None)


def _is_open(step: Progress) -> bool:
    """Say whether an answer is news: there is none yet to the command that is out, or was last."""
    return step.stage in _OUT and not step.answered


def is_expected(saga: Definition, now: Instance, fact: Answered) -> bool:
    """Say whether some step of this run waits for *fact*."""
    return _asked(saga, now, fact) is not None


def _commanded(now: Instance, command: str) -> str | None:
    return next((name for name, step in now.steps.items() if step.command == command), None)


def _of_step(now: Instance, command: str) -> str | None:
    return next((name for name, step in now.steps.items() if step.is_of(command)), None)


def _answered(saga: Definition, now: Instance, name: str, fact: Answered, commands: list[Command]) -> Instance:
    plan, type_ = saga.steps[name], type(fact.said.event)
    step = replace(now.steps[name], heard=(*now.steps[name].heard, fact.said.id))
    if type_ in plan.working:
        if step.stage is Stage.RUNNING and plan.timeout is not None:
            # A new number, so that the time that was asked for before is void.
            step = replace(step, tries=step.tries + 1)
            commands.append(Wake(step.command, step.tries, plan.timeout))
        return now.with_step(name, step)
    if type_ in plan.refused:
        said = f"{fact.said.event.__event__.type}, answered to step {name!r}"
        return _refused(saga, now.with_step(name, step), name, said, commands)
    done = replace(step, stage=Stage.DONE, answer=fact.said, answered=True, tries=0, below="", problem="")
    now = now.with_step(name, done)
    if not now.undoing and plan.repeat_while and plan.repeat_while(now.known()):
        now = _ask(saga, now, plan, replace(now.steps[name], parents=(fact.said.id,)), commands)
    return now


def _refused(saga: Definition, now: Instance, name: str, reason: str, commands: list[Command]) -> Instance:
    """A step said no. What an optional one did is undone, and it is left."""
    step = replace(now.steps[name], stage=Stage.REFUSED, unknown=False, problem=reason)
    if saga.steps[name].optional and not now.undoing:
        return _left(now, name, step, commands)
    return now.with_step(name, step)


def _left(
    now: Instance, name: str, step: Progress, commands: list[Command], *, unknown: tuple[str, ...] = ()
) -> Instance:
    """Go on without an optional step: each of its commands is undone by itself."""
    asked = [*(one.command for one in step.rounds), step.command]
    commands += [Fail(command, name, step.problem, unknown) for command in asked]
    rounds = (*step.rounds, Round(step.command, step.answer if step.answered else None))
    return now.with_step(name, replace(step, stage=Stage.SKIPPED, answer=None, answered=False, rounds=rounds))


def _failed(saga: Definition, now: Instance, name: str, fact: Failed, commands: list[Command]) -> Instance:
    """Something failed below a command: the step, where its answer was not heard; else what it had done, further down."""
    step = now.steps[name]
    if fact.command == step.command and not step.answered:
        if fact.event_id in step.heard or step.stage not in _OUT:
            return now
        step = replace(step, heard=(*step.heard, fact.event_id), unsure=fact.event_id != fact.command)
        return _refused(saga, now.with_step(name, step), name, fact.reason, commands)
    # Of a command that was refused before and asked for again, a second failure is no news.
    was_done = step.answer_to(fact.command) is not None and step.stage in _CARRIED_OUT
    if now.undoing or not was_done or fact.event_id in step.failed:
        return now
    step = replace(step, failed=(*step.failed, fact.event_id), problem=fact.reason)
    if saga.steps[name].optional and not _is_built_on(saga, now, name):
        return _left(now, name, step, commands)
    return now.with_step(name, replace(step, stage=Stage.REFUSED, unsure=True, below=fact.command))


def _is_built_on(saga: Definition, now: Instance, name: str) -> bool:
    """Say whether something has been begun, or published, that cannot do without what a step has answered."""
    return now.ended or any(name in saga.steps[other].after for other in now.steps)


def _due(saga: Definition, now: Instance, name: str, commands: list[Command]) -> Instance:
    """A time-out, or the end of a rest. What had no answer is published again under the same id."""
    plan, step = saga.steps[name], now.steps[name]
    if now.undoing:
        return now
    if step.stage is Stage.RESTING:
        return _again(saga, now, plan, step, commands)
    if step.stage is not Stage.RUNNING:
        return now
    if step.tries < plan.retry.attempts:
        return _publish(now, plan, replace(step, tries=step.tries + 1), commands)
    problem = f"no answer to step {name!r} within {plan.timeout:g} s, {step.tries} times"
    if plan.optional:
        return _left(now, name, replace(step, problem=problem), commands, unknown=(step.command,))
    return now.with_step(name, replace(step, stage=Stage.UNKNOWN, unknown=True, problem=problem))


# Back, or forward only.


def _is_past_pivot(saga: Definition, now: Instance) -> bool:
    """Say whether nothing may be undone any more. A pivot of which nobody knows whether it was done counts as done."""
    pivot = now.steps.get(saga.pivot) if saga.pivot else None
    return pivot is not None and (pivot.answered or pivot.stage in (Stage.UNKNOWN, Stage.PARKED))


def _may_pass(saga: Definition, now: Instance) -> bool:
    pivot = now.steps.get(saga.pivot) if saga.pivot else None
    return pivot is not None and pivot.stage is Stage.RUNNING


def _aborted(saga: Definition, now: Instance, name: str, commands: list[Command]) -> Instance:
    reason = now.steps[name].problem
    taken = [(saga.steps[one], step) for one, step in now.steps.items() if step.stage is not Stage.SKIPPED]
    unknown = tuple(step.command for _, step in taken if step.stage is Stage.UNKNOWN)
    undeclared = tuple(
        step.command for plan, step in taken if plan.kind is None and (step.below or step.stage is not Stage.REFUSED)
    )
    commands.append(Fail(now.id, name, reason, unknown, undeclared))
    return replace(now, phase=Phase.COMPENSATING, undoing=True, reason=reason)


def _goes_forward(saga: Definition, now: Instance, name: str) -> bool:
    kind = saga.steps[name].kind
    return _is_past_pivot(saga, now) or (kind is Kind.RETRIABLE and _tries_left(saga, now, name))


def _tries_left(saga: Definition, now: Instance, name: str) -> bool:
    step = now.steps[name]
    # What was carried out is not asked for once more without a person.
    return not (step.unknown or step.below) and step.tries < saga.steps[name].retry.attempts


def _kept_at(saga: Definition, now: Instance, name: str, commands: list[Command]) -> Instance:
    """Have a step that must succeed asked for again, later and later; then by a person."""
    plan, step = saga.steps[name], now.steps[name]
    if _tries_left(saga, now, name):
        delay_s = min(plan.retry.cap_s, plan.retry.base_s * 2 ** (step.tries - 1))
        commands.append(Wake(step.command, step.tries, delay_s))
        return now.with_step(name, replace(step, stage=Stage.RESTING))
    commands.append(Park(name, step.command, step.problem))
    now = now.with_step(name, replace(step, stage=Stage.PARKED, tries=0))
    return replace(now, reason=f"step {name!r}: {step.problem}")


def _again(saga: Definition, now: Instance, plan: Plan, step: Progress, commands: list[Command]) -> Instance:
    """Ask again: under the same id where the outcome is unknown, under a new one where it was a refusal."""
    if step.unknown:
        return _publish(now, plan, replace(step, stage=Stage.RUNNING, tries=step.tries + 1), commands)
    return _ask(saga, now, plan, step, commands)


def _let_be(now: Instance, plan: Plan, step: Progress, commands: list[Command]) -> Instance:
    """Go on with a step of which something failed further down: it was done itself, or is still asked for."""
    step = replace(step, below="", unsure=False)
    if step.answered:
        return now.with_step(plan.name, replace(step, stage=Stage.DONE))
    return _publish(now, plan, replace(step, stage=Stage.RUNNING, tries=step.tries + 1), commands)


def _judged(now: Instance, fact: Judged) -> Instance:
    match fact.verdict:
        case Verdict.STOPPED if now.undoing:
            return now
        case Verdict.STOPPED:
            phase = Phase.COMPENSATING
        case Verdict.UNDONE:
            phase = Phase.COMPENSATED
        case Verdict.PARKED:
            phase = Phase.PARKED
    return replace(now, phase=phase, undoing=True, reason=now.reason or fact.reason)


def _decided(saga: Definition, now: Instance, fact: Decided, commands: list[Command]) -> Instance:
    parked = [name for name, step in now.steps.items() if step.stage is Stage.PARKED]
    match fact.act:
        case Act.RETRY:
            for name in parked:
                plan, step = saga.steps[name], now.steps[name]
                if step.below:
                    # Under its id: its answer comes once more, and so does what failed.
                    commands.append(Ask(name, step.below, plan.action(now.known()), step.parents))
                    now = _let_be(now, plan, replace(step, failed=(), problem=""), commands)
                else:
                    now = _again(saga, now, plan, step, commands)
        case Act.SKIP | Act.FORCE:
            for name in parked:
                step = replace(now.steps[name], problem=f"skipped by {fact.why}")
                if step.below:
                    now = _let_be(now, saga.steps[name], step, commands)
                else:
                    now = now.with_step(name, replace(step, stage=Stage.SKIPPED))
        case Act.CANCEL if now.phase is Phase.RUNNING and not (_is_past_pivot(saga, now) or _may_pass(saga, now)):
            commands.append(Fail(now.id, "", f"cancelled by {fact.why}"))
            now = replace(now, phase=Phase.COMPENSATING, undoing=True, reason=f"cancelled by {fact.why}")
        case _:
            pass
    return now


def _leaves(saga: Definition, now: Instance) -> tuple[str, ...]:
    """Return the answers that no later step builds on: what the end follows from, beside the start."""
    followed = {name for plan in saga.steps.values() for name in plan.after}
    answers = [now.steps[name].answer for name in saga.steps if name not in followed]
    return (*(answer.id for answer in answers if answer is not None), now.id)
