"""The coordinator: hears what was handled, and asks agents to undo what failed workflows did.

A handler like any other. What it keeps of each workflow is a `Workflow`; being committed
in one transaction with the requests it leads to, it survives a crash at any
point, and scales by partition.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Sequence
from functools import partial
from typing import TypeVar

from antiphon.bus.activity import Activity, Handled
from antiphon.bus.alarms import TimeCame
from antiphon.bus.consumer import Consumer, Follower, Lane
from antiphon.bus.delivery import current
from antiphon.bus.handler import Handler
from antiphon.bus.intervention import SagaIntervened, SagaParked
from antiphon.bus.lock import ANSWERED, WANTED, LockFreed, LockWanted
from antiphon.bus.names import COORDINATOR
from antiphon.bus.state import StateDamagedError
from antiphon.bus.undo import undo_requested
from antiphon.bus.verdict import SagaFailed, saga_told
from antiphon.compensation.advance import advance, intervene, overdue, proceed
from antiphon.compensation.agenda import RESERVED
from antiphon.compensation.census import Census
from antiphon.compensation.keeper import keeping
from antiphon.compensation.kept import Kept
from antiphon.compensation.locks import PREFIX
from antiphon.compensation.roster import Roster
from antiphon.compensation.store import Workflows
from antiphon.compensation.workflow import Command, Fact, Free, Mesh, Park, Tell, Undo, Workflow, undo_id
from antiphon.schemas.envelope import Envelope, now_us
from antiphon.schemas.event import Event, envelope_of
from antiphon.schemas.ids import caused_id

log = logging.getLogger(__name__)
T = TypeVar("T")

LINGER_S = 86_400.0
_SOURCE = f"/agents/{COORDINATOR}"
_TURN = 20


def coordinator(
    *,
    clock_us: Callable[[], int] = now_us,
    mesh: Mesh | None = None,
    linger_s: float = LINGER_S,
    past_stuck: bool = False,
) -> Consumer:
    """Return the coordinator as the engine runs it: `antiphon run compensation`.

    *linger_s* is how long what a workflow did can still be undone after nothing
    was outstanding any more: longer than a person who is asked may take. With
    *past_stuck* undoing goes on past an undo that was given up. The agents are
    known from their heartbeats, unless *mesh* says who they are.
    """
    roster, census = Roster(clock_us=clock_us), Census(clock_us)

    async def known() -> Mesh:
        return mesh or await roster.subscriptions()

    handler = _handler(known, clock_us, census, linger_us=round(linger_s * 1_000_000), past_stuck=past_stuck)
    follows: Follower | None = None if mesh else roster.follow
    return Consumer(
        name=COORDINATOR,
        version="2",
        hears={said.__event__.type: said for said in (Activity, SagaIntervened, LockWanted, LockFreed)},
        leads_to={WANTED: frozenset({ANSWERED})},
        handler=keeping(handler, clock_us=clock_us),
        figures=census.figures,
        emits=None,
        # Activity stands in causal order on its workflow's partition, and only there.
        lane=Lane.PARTITION,
        # Deadlines pass, and whom a workflow waits for may be gone, without anything being handled.
        wakes=True,
        # When a workflow's state goes, the agenda says: one that is parked waits for a person, however long.
        state_expires_s=None,
        reads=_workflows,
        follows=follows,
    )


def _workflows(event: Event) -> list[str]:
    match event:
        case Activity(deliveries=deliveries):
            return [*dict.fromkeys(delivery.correlation_id for delivery in deliveries)]
        case LockWanted(entity=entity) | LockFreed(entity=entity):
            return [PREFIX + entity]
        case _:
            return [envelope_of(event).correlation_id]


def _handler(
    known: Callable[[], Awaitable[Mesh]],
    clock_us: Callable[[], int],
    census: Census,
    *,
    linger_us: int,
    past_stuck: bool,
) -> Handler:
    async def coordinate(event: Event) -> Sequence[Event]:
        mesh, at_us, here = await known(), clock_us(), current.get()
        workflows = Workflows(here.state, now_us=at_us, linger_us=linger_us, room=here.services.state_room)
        turn = _Turn(workflows, at_us)
        match event:
            case Activity(agent=agent, failing=failing, deliveries=deliveries) if agent != COORDINATOR:
                async for delivery in _in_turns(_of_workflows(deliveries)):
                    id = delivery.correlation_id
                    fact = await _fact(agent, delivery, failing)
                    turn.follow(id, partial(advance, fact=fact, mesh=mesh, past_stuck=past_stuck))
            case SagaIntervened():
                envelope = envelope_of(event)
                id = envelope.correlation_id
                turn.follow(id, partial(intervene, said=event, id=envelope.id, mesh=mesh, past_stuck=past_stuck))
            case TimeCame():
                # Here alone: only now all is told that was handled by this time.
                async for id in _in_turns(workflows.due()):
                    turn.follow(id, partial(_looked_at, id=id, mesh=mesh, at_us=at_us, past_stuck=past_stuck))
            case _:
                pass
        if not isinstance(event, TimeCame):
            turn.refuse_if_nothing_follows()
        changes = [change async for change in _in_turns(workflows.store())]
        if changes or isinstance(event, TimeCame):
            census.take(here.record.partition, here.state, changes)
        if (next_us := workflows.next_us) is not None:
            here.wake_at(next_us)
        return turn.said()

    return coordinate


class _Turn:
    """What follows from one event in the workflows that it is about."""

    def __init__(self, workflows: Workflows, at_us: int) -> None:
        self._said: list[tuple[str, Event]] = []
        self._workflows = workflows
        self._at_us = at_us
        self._damaged: StateDamagedError | None = None
        self._followed = False

    def follow(self, id: str, step: Callable[[Workflow], tuple[Workflow, list[Command]]]) -> None:
        """Take *step* in a workflow. What is said of others in the same breath counts also where its state cannot be read."""
        try:
            before = self._workflows[id]
            with self._examined(id):
                after, commands = step(before)
                events = [_said(command, id, self._at_us) for command in commands]
        except StateDamagedError as error:
            self._damaged = error
            log.error("a workflow's state cannot be read; nothing follows in it", exc_info=error)
            return
        self._workflows[id] = after
        self._said += [(id, event) for event in events]
        self._followed = True

    @contextlib.contextmanager
    def _examined(self, id: str) -> Generator[None]:
        try:
            yield
        except Exception:
            # Is that its state's fault?
            self._workflows.examine(id)
            raise

    def said(self) -> list[Event]:
        """Return what is said of the workflows, once they are stored: of one that halted instead, that alone."""
        halted = self._workflows.halted
        told = [_halted(self._workflows[id].halted, id, before, self._at_us) for id, before in halted.items()]
        return [*(event for id, event in self._said if id not in halted), *told]

    def refuse_if_nothing_follows(self) -> None:
        """Raise where the state of all the workflows is damaged: the event can be redriven once that is mended."""
        if self._damaged is not None and not self._followed:
            raise self._damaged


def _of_workflows(deliveries: Iterable[Handled]) -> Iterable[Handled]:
    """Leave out what says that it is of a workflow whose place in the state is the coordinator's own."""
    return (delivery for delivery in deliveries if not delivery.correlation_id.startswith(RESERVED))


async def _in_turns(things: Iterable[T]) -> AsyncIterator[T]:
    """Yield *things*, and let whoever else waits for the loop have it in between: there may be hundreds."""
    for number, thing in enumerate(things, 1):
        yield thing
        if number % _TURN == 0:
            await asyncio.sleep(0)


def _looked_at(
    workflow: Workflow, id: str, mesh: Mesh, at_us: int, *, past_stuck: bool
) -> tuple[Workflow, list[Command]]:
    if workflow.deadline_us is not None and workflow.deadline_us <= at_us:
        return overdue(workflow, id, mesh, past_stuck=past_stuck)
    return proceed(workflow, mesh, past_stuck=past_stuck)


def _said(command: Command, correlation_id: str, time_us: int) -> Event:
    match command:
        case Undo():
            return _request(command, correlation_id, time_us)
        case Park():
            return _parked(command, correlation_id, time_us)
        case Tell():
            return _told(command, correlation_id, time_us)
        case Free():
            return _freed(command, correlation_id, time_us)


async def _fact(agent: str, delivery: Handled, failing: Iterable[str]) -> Fact:
    if all(emitted.told is None for emitted in delivery.emitted):
        return Fact(agent, delivery, tuple(failing))
    return Fact(agent, delivery, tuple(failing), await _scoped(delivery), await _wanted(delivery))


async def _scoped(delivery: Handled) -> dict[str, SagaFailed]:
    """Read what a saga says is to be undone; its entry carries it, so that it is heard behind all it follows from."""
    services = current.get().services
    return {
        emitted.id: await services.decode(SagaFailed, emitted.told)
        for emitted in delivery.emitted
        if emitted.told is not None and emitted.type == SagaFailed.__event__.type
    }


async def _wanted(delivery: Handled) -> dict[str, str]:
    """Read what is asked to be held, by the event that asks."""
    services = current.get().services
    return {
        emitted.id: (await services.decode(LockWanted, emitted.told)).entity
        for emitted in delivery.emitted
        if emitted.told is not None and emitted.type == WANTED
    }


def _request(undo: Undo, correlation_id: str, time_us: int) -> Event:
    """Make the event that asks for *undo*. It has no deadline: what is past its deadline is undone all the same."""
    requested = undo_requested(undo.effect.agent)(
        agent=undo.effect.agent,
        event_id=undo.event_id,
        event_type=undo.effect.type,
        value=base64.b64decode(undo.effect.value),
        reason=undo.failure.reason,
        late=undo.effect.late,
    )
    return _sealed(
        requested,
        id=undo_id(undo.event_id, undo.effect.again),
        time_us=time_us,
        correlation_id=correlation_id,
        parent_id=undo.failure.event_id,
        undoes=undo.action,
        key=undo.effect.key,
    )


def _parked(park: Park, correlation_id: str, time_us: int) -> Event:
    request = undo_id(park.event_id, park.effect.again)
    said = SagaParked(
        agent=park.effect.agent, event_id=park.event_id, event_type=park.effect.type, problem=park.effect.problem
    )
    return _sealed(
        said,
        id=caused_id(request, COORDINATOR, park.effect.attempts),
        time_us=time_us,
        correlation_id=correlation_id,
        parent_id=request,
    )


def _halted(problem: str, id: str, before: Kept, time_us: int) -> Event:
    root = before.workflow.events.get(id)
    said = SagaParked(agent=COORDINATOR, event_id=id, event_type=root.type if root else "", problem=problem)
    return _sealed(
        said,
        id=caused_id(id, f"{COORDINATOR}/halted/{before.touched_us}", 0),
        time_us=time_us,
        correlation_id=id,
        parent_id=id,
    )


def _told(tell: Tell, correlation_id: str, time_us: int) -> Event:
    said = saga_told(tell.saga)(
        saga=tell.saga, what=tell.what, about=tell.about, event_id=tell.event_id, reason=tell.reason
    )
    return _sealed(
        said,
        id=caused_id(tell.about, f"{COORDINATOR}/{tell.what}/{tell.event_id}", 0),
        time_us=time_us,
        correlation_id=correlation_id,
        parent_id=tell.event_id,
    )


def _freed(free: Free, correlation_id: str, time_us: int) -> Event:
    [first, *_] = free.requests
    said = LockFreed(entity=free.entity, requests=[*free.requests], withdrawn=free.withdrawn)
    return _sealed(
        said,
        id=caused_id(first, f"{COORDINATOR}/{'withdrawn' if free.withdrawn else 'freed'}", 0),
        time_us=time_us,
        correlation_id=correlation_id,
        parent_id=first,
        key=free.entity,
    )


def _sealed(
    said: Event,
    *,
    id: str,
    time_us: int,
    correlation_id: str,
    parent_id: str,
    undoes: str | None = None,
    key: str | None = None,
) -> Event:
    """Put what the coordinator says into its envelope; nothing of its cause's is handed on, such as a deadline."""
    return said.sealed(
        Envelope(
            id=id,
            type=said.__event__.type,
            source=_SOURCE,
            time_us=time_us,
            correlation_id=correlation_id,
            parent_id=parent_id,
            undoes=undoes,
            key=key,
        )
    )
