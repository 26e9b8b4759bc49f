"""A saga as the engine runs it: hears its start and all answers, and publishes what the machine says.

A handler like any other. What it keeps of a run is committed in one transaction
with the commands that it leads to. Its commands say what they build on, so that
the coordinator, whose the undoing is, finds each in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from antiphon.bus.alarms import TimeCame
from antiphon.bus.consumer import Consumer, Lane
from antiphon.bus.delivery import current
from antiphon.bus.intervention import SagaIntervened, SagaParked
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaFailed, SagaTold, Told, saga_told
from antiphon.compensation.definition import Definition
from antiphon.compensation.errors import NoUndoError, UnknownSagaVersionError
from antiphon.compensation.examined import workable
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
from antiphon.compensation.orchestrate import advance, is_expected, step_to_undo, undoing
from antiphon.compensation.runs import ENDED_PHASES, Overdue, Runs
from antiphon.schemas.budget import least
from antiphon.schemas.envelope import Envelope, now_us
from antiphon.schemas.event import Event, envelope_of, key_of
from antiphon.schemas.ids import caused_id


class Saga(Definition):
    """Steps that are taken in the order of what they build on, and undone together where one refuses.

    A unit of deployment, as an agent is: `antiphon run shop:order` runs it as a
    consumer group of its own, named as it is. It is started by an event of
    *starts*; what *ends* makes is published when all steps have ended. What was
    begun under a definition goes on under it: give what may still run as
    *previous*.

    Raises `SagaDefinitionError` where the steps cannot work together.
    """

    def consumer(self) -> Consumer:
        """Return this saga as the engine runs it."""
        return orchestrator(self)


def orchestrator(saga: Definition, *, clock_us: Callable[[], int] = now_us) -> Consumer:
    """Return *saga* as the engine runs it."""
    told = saga_told(saga.name)
    heard: list[type[Event]] = [*saga.hears, told, SagaIntervened]
    undoing = {step.undoing for one in saga.versions.values() for step in one.steps.values() if step.undoing}
    commands = {step.command for one in saga.versions.values() for step in one.steps.values()}
    return Consumer(
        name=saga.name,
        version=saga.version,
        hears={said.__event__.type: said for said in heard},
        handler=_handler(saga, clock_us),
        emits=saga.emits | {SagaFailed, SagaParked, told},
        # At any of them it may find that it has failed.
        leads_to={type: said | {SagaFailed.__event__.type} for type, said in saga.leads_to.items()}
        | {type: frozenset() for type in (told.__event__.type, SagaIntervened.__event__.type)},
        undoes=saga.asks,
        tells=frozenset({SagaFailed.__event__.type}),
        starts=frozenset(one.starts.__event__.type for one in saga.versions.values()),
        asks=frozenset(command.__event__.type for command in commands | undoing),
        # Times to come are kept across the keys of a partition.
        lane=Lane.PARTITION,
        wakes=True,
        # A run may wait for a person, however long.
        state_expires_s=None,
    )


def _handler(saga: Definition, clock_us: Callable[[], int]) -> Callable[[Event], Awaitable[Sequence[Event]]]:
    async def orchestrate(event: Event) -> Sequence[Event]:
        delivery = current.get()
        at_us = clock_us()
        runs = Runs(saga, delivery.state, now_us=at_us)
        if isinstance(event, TimeCame):
            said: list[Event] = [_due(saga, overdue, at_us) for overdue in runs.overdue()]
        else:
            workflow = envelope_of(event).correlation_id
            with workable(runs.of(workflow), workflow, saga=True):
                turn = _Turn(saga, runs, envelope_of(event), at_us)
                said = turn.undo(event) if isinstance(event, UndoRequested) else turn.hear(event)
                delivery.causes = turn.causes
        next_us = runs.next_us(added=not isinstance(event, TimeCame))
        if next_us is not None:
            delivery.wake_at(next_us)
        return said

    return orchestrate


class _Turn:
    """One event, and what follows from it in the runs of its workflow."""

    def __init__(self, saga: Definition, runs: Runs, cause: Envelope, at_us: int) -> None:
        self._saga = saga
        self._runs = runs
        self._cause = cause
        self._at_us = at_us
        self._kept = runs.of(cause.correlation_id)
        self._parents: dict[str, None] = {}

    @property
    def causes(self) -> tuple[str, ...]:
        """What, beside the event in hand, something that was said follows from."""
        return tuple(parent for parent in self._parents if parent != self._cause.id)

    def hear(self, event: Event) -> list[Event]:
        """Tell each run that it concerns of *event*; begin one where it starts one.

        What comes for a run of a version that is not deployed is held until it is.
        """
        cause = self._cause
        parents = (*([cause.parent_id] if cause.parent_id else []), *cause.causes)
        said: list[Event] = []
        for held in [*self._runs.released(cause.correlation_id)]:
            said += self._tell(*held)
        return said + self._tell(Said(cause.id, event), parents)

    def _tell(self, heard: Said, parents: tuple[str, ...]) -> list[Event]:
        said: list[Event] = []
        for id, fact in self._facts(heard, parents):
            kept = self._kept.get(id)
            if kept is None and not parents and self._is_over:
                said.append(self._refused(id))
                continue
            if kept is not None and (problem := self._runs.misfit(kept)) is not None:
                said += self._held(id, heard, parents, problem)
                continue
            definition = self._saga if kept is None else self._definition(kept)
            after, commands = advance(definition, None if kept is None else self._runs.read(kept), fact)
            self._runs.write(self._cause.correlation_id, after, start=self._cause if kept is None else None)
            said += self._said(definition, after, commands)
        return said

    @property
    def _is_over(self) -> bool:
        """Say whether there were runs in this workflow, and all have ended: nobody who is in it starts another one from outside."""
        return bool(self._kept) and all(kept["phase"] in ENDED_PHASES for kept in self._kept.values())

    def _refused(self, start: str) -> Event:
        """Say that an event starts nothing, and what to do: nothing else of the workflow is undone for that."""
        saga, workflow = self._saga, self._cause.correlation_id
        phases = " and ".join(sorted({kept["phase"] for kept in self._kept.values()}))
        failed = SagaFailed(
            saga=saga.name,
            version=saga.version,
            scope=start,
            step="",
            reason=f"expected a start of saga {saga.name!r} in a workflow of its own, got one in {workflow}, where it is {phases}. "
            "Publish it without a correlation id",
        )
        return self._in_place(failed, caused_id(start, f"{saga.name}/failed", 0), (), {})

    def _held(self, id: str, heard: Said, parents: tuple[str, ...], problem: str) -> list[Event]:
        if not self._runs.hold(self._cause.correlation_id, id, heard, parents, problem):
            return []
        parked = SagaParked(
            agent=self._saga.name, event_id=id, event_type=self._kept[id]["start"]["type"], problem=problem
        )
        return [self._sealed(parked, caused_id(self._cause.id, f"{self._saga.name}/parked", 0), (), id)]

    def undo(self, request: UndoRequested) -> list[Event]:
        """Publish the command that undoes a step. Of one that refused there is nothing to undo."""
        for kept in self._kept.values():
            definition, run = self._definition(kept), self._runs.read(kept)
            if (name := step_to_undo(definition, run, request.event_id)) is not None:
                event = undoing(definition, run, name, request.event_id)
                # Of the request's, since a command that comes late is undone a second time.
                id = caused_id(self._cause.id, f"{definition.name}/undo", 0)
                # Where it was not answered, or asked for more than once, it may come after what undoes it.
                late = self._cause.undoes is not None or run.steps[name].answer_to(request.event_id) is None
                undoes = request.event_id if late else None
                return [] if event is None else [self._sealed(event, id, (), run.id, timed=False, undoes=undoes)]
        raise NoUndoError(self._saga.name, request.event_type, request.event_id)

    def _facts(self, said: Said, parents: tuple[str, ...]) -> Iterable[tuple[str, Fact]]:
        """Return what an event is to which run."""
        event = said.event
        match event:
            case SagaTold(what=what, about=about, event_id=event_id, reason=reason, tries=tries):
                return [(id, _told(what, about, event_id, reason, tries)) for id in self._about(about)]
            case SagaIntervened(act=act, actor=actor, reason=reason):
                return [(id, Decided(act, f"{actor}: {reason}")) for id in self._kept]
            case _ if any(isinstance(event, one.starts) for one in self._saga.versions.values()):
                return [(said.id, Started(said))]
            case _:
                fact = Answered(said, parents)
                return [(id, fact) for id in self._awaiting(fact)]

    def _about(self, id: str) -> list[str]:
        """Return the run that an id is about: that of its start, or of a command of it."""
        if id in self._kept:
            return [id]
        return [
            run for run, kept in self._kept.items() if any(id in _commands(step) for step in kept["steps"].values())
        ]

    def _awaiting(self, fact: Answered) -> list[str]:
        """Return the run that waits for an answer: the one that asked, or the first that waits for its type."""
        asked = [id for id in self._kept if any(id in self._about(parent) for parent in fact.parents)]
        known = [id for id, kept in self._kept.items() if self._runs.misfit(kept) is None]
        expecting = [
            id for id in known if is_expected(self._definition(self._kept[id]), self._runs.read(self._kept[id]), fact)
        ]
        unknown = [id for id in asked if id not in known]
        return [*(id for id in asked if id in expecting), *unknown, *expecting][:1]

    def _definition(self, kept: Mapping[str, Any]) -> Definition:
        if (problem := self._runs.misfit(kept)) is not None:
            raise UnknownSagaVersionError(self._saga.name, kept["version"], problem)
        return self._saga.versions[kept["version"]]

    def _said(self, saga: Definition, run: Instance, commands: Iterable[Command]) -> list[Event]:
        said: list[Event] = []
        for command in commands:
            match command:
                case Ask(id=id, event=event, parents=parents):
                    said.append(self._sealed(event, id, parents, run.id))
                case Wake():
                    self._runs.wake(self._cause.correlation_id, run.id, command)
                case End(event, parents):
                    said.append(self._sealed(event, caused_id(run.id, saga.name, 0), parents, run.id))
                case Fail(scope, step, reason, unknown, undeclared):
                    failed = SagaFailed(
                        saga=saga.name,
                        version=run.version,
                        scope=scope,
                        step=step,
                        reason=reason,
                        unknown=[*unknown],
                        undeclared=[*undeclared],
                    )
                    said.append(self._sealed(failed, caused_id(scope, f"{saga.name}/failed", 0), (), run.id))
                case Park(step, id, problem):
                    type_ = saga.steps[step].command.__event__.type
                    parked = SagaParked(agent=saga.name, event_id=id, event_type=type_, problem=problem)
                    said.append(self._sealed(parked, caused_id(self._cause.id, f"{saga.name}/parked", 0), (), run.id))
        return said

    def _sealed(
        self,
        event: Event,
        id: str,
        parents: Sequence[str],
        start: str,
        *,
        timed: bool = True,
        undoes: str | None = None,
    ) -> Event:
        """Put *event* in its place: below the event in hand and what else it builds on, and below its run's start.

        What undoes is not *timed*, nor does it have a budget: what is past its deadline, or has spent all, is undone all the same.
        """
        cause = self._cause
        above = [parent for parent in dict.fromkeys((*parents, start)) if parent != cause.id]
        self._parents.update(dict.fromkeys(above))
        inherited = self._runs.inherited(cause.correlation_id, start)
        if not timed:
            inherited.pop("deadline_us", None)
            inherited.pop("budget", None)
        elif (budget := least((cause.budget, inherited.get("budget")))) is not None:
            # The start's own would give every step all of it again.
            inherited["budget"] = budget
        return self._in_place(event, id, above, {**inherited, "undoes": undoes})

    def _in_place(self, event: Event, id: str, above: Sequence[str], inherited: Mapping[str, Any]) -> Event:
        cause = self._cause
        return event.sealed(
            Envelope(
                id=id,
                type=event.__event__.type,
                source=_source(self._saga),
                time_us=self._at_us,
                correlation_id=cause.correlation_id,
                parent_id=cause.id,
                causes=tuple(above),
                hops=cause.hops + 1,
                key=key_of(event),
                **inherited,
            )
        )


def _commands(step: Mapping[str, Any]) -> Iterator[str]:
    """Yield the commands of a step, as it is kept, that may be told of."""
    yield step.get("command", "")
    yield from (one["command"] for one in step.get("rounds", ()))


def _source(saga: Definition) -> str:
    return f"/agents/{saga.name}"


def _told(what: Told, about: str, event_id: str, reason: str, tries: int) -> Fact:
    match what:
        case Told.FAILED:
            return Failed(about, event_id, reason)
        case Told.DUE:
            return Due(about, tries)
        case Told.STOPPED | Told.UNDONE | Told.PARKED:
            return Judged(Verdict(what.value), reason)


def _due(saga: Definition, overdue: Overdue, at_us: int) -> Event:
    """Make the event by which a saga tells itself that a time has come: what follows from it is then told as activity."""
    event = saga_told(saga.name)(
        saga=saga.name,
        what=Told.DUE,
        about=overdue.command,
        event_id=overdue.command,
        reason="its time has come",
        tries=overdue.tries,
    )
    return event.sealed(
        Envelope(
            id=caused_id(overdue.command, f"{saga.name}/due", overdue.tries),
            type=SagaTold.__event__.type,
            source=_source(saga),
            time_us=at_us,
            correlation_id=overdue.workflow,
            parent_id=overdue.command,
        )
    )
