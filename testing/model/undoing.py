"""What must be so of undoing on every way: it is asked for where something failed, once, and done backwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from antiphon.bus.delivery import Outcome
from antiphon.bus.undo import UndoRequested
from antiphon.bus.verdict import SagaFailed
from antiphon.schemas.event import Event, envelope_of
from antiphon.testing.model.position import Due, Position, parents_of


def is_condemned(position: Position, id: str) -> bool:
    """Say whether an event is to be undone: all failed, or a saga said so of something that it follows from, or of itself."""
    if position.failed:
        return True
    return any(id == failed.scope or _is_below(position, id, failed.scope) for failed in _said(position))


def _is_below(position: Position, id: str, scope: str) -> bool:
    """Say whether an event follows from *scope*: where that is a command, not by way of what else its saga said."""
    by = position.events[scope].by
    ahead, seen = [id], set[str]()
    while ahead:
        one = ahead.pop()
        if one == scope:
            return True
        if one in seen or one not in position.events:
            continue
        seen.add(one)
        event = position.events[one].event
        if not by or envelope_of(event).source != f"/agents/{by}":
            ahead += parents_of(event)
    return False


def is_judged(position: Position, id: str) -> bool:
    """Say whether what fails at an event is for a saga to judge: it is a command, or follows from one."""
    return any(position.events[one].by for one in (id, *position.lineage(id)) if one in position.events)


def asked(position: Position, emitted: Iterable[Event]) -> Position:
    """Note for which undos the coordinator asks, and whether it may."""
    for request in emitted:
        if isinstance(request, UndoRequested):
            id, problem = envelope_of(request).id, position.problem
            if not is_condemned(position, request.event_id):
                problem = f"{request.event_type} is to be undone, and nothing failed"
            elif id in position.asked and request.event_id not in position.given_up:
                problem = f"{request.event_type} is to be undone a second time"
            position = dataclasses.replace(position, asked=position.asked | {id}, problem=problem)
    return position


def undone(position: Position, due: Due, outcome: Outcome) -> Position:
    """Note that an undo is through, and whether it was its turn; or that the command was given up by which a saga undoes."""
    request = due.event
    if outcome is not Outcome.COMPLETED and (effect := _undone_by(position, request)) is not None:
        return dataclasses.replace(position, given_up=position.given_up | {effect})
    if due.again or not isinstance(request, UndoRequested):
        return position
    if outcome is not Outcome.COMPLETED:
        return dataclasses.replace(position, given_up=position.given_up | {request.event_id})
    return dataclasses.replace(
        position,
        undone=(*position.undone, request.event_id),
        problem=position.problem or _out_of_turn(position, request),
    )


def _undone_by(position: Position, command: Event) -> str | None:
    parents = [position.events[parent].event for parent in parents_of(command) if parent in position.events]
    return next((parent.event_id for parent in parents if isinstance(parent, UndoRequested)), None)


def _out_of_turn(position: Position, request: UndoRequested) -> str:
    # A saga's command that is carried out after it was undone is undone once more.
    if request.event_id in position.undone and not position.events[request.event_id].by:
        return f"{request.event_type} is undone twice"
    # Nobody waits for what comes of a command of which a saga has not heard in time.
    unknown = {id for failed in _said(position) for id in failed.unknown}
    left = [
        known.event.__event__.type
        for id, known in position.events.items()
        if known.undoable
        and not known.late
        and id not in position.undone
        and request.event_id in (lineage := position.lineage(id))
        and unknown.isdisjoint({id, *lineage})
        and is_condemned(position, id)
    ]
    return f"{request.event_type} is undone before {' and '.join(left)}, which follows from it" if left else ""


def _said(position: Position) -> Iterable[SagaFailed]:
    return (known.event for known in position.events.values() if isinstance(known.event, SagaFailed))
