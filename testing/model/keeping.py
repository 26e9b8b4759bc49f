"""What is kept of a delivery: all of it, or, of one that crashed, what it remembers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from antiphon.schemas.event import envelope_of
from antiphon.testing.model.choosing import Mishap
from antiphon.testing.model.crew import Ran
from antiphon.testing.model.position import Attempt, Due, Position, Step, by_lane
from antiphon.testing.model.telling import sentence


def changed(position: Position, agent: str, ran: Ran) -> Position:
    """Keep what a handler changed, and when it wants to be called again."""
    states, alarms = position.states, position.alarms
    for key, value in ran.changed.items():
        states = with_value(states, (agent, key), value)
    if agent in alarms and ran.woken_us is not None:
        alarms = {**alarms, agent: min(ran.woken_us, alarms[agent] or ran.woken_us)}
    return dataclasses.replace(position, states=states, alarms=alarms)


def crashed(position: Position, due: Due, number: int, ran: Ran) -> Position:
    """Have the event handed out again: nothing is kept but what `once` remembers."""
    thrown = dataclasses.replace(due, thrown=Attempt(ran.found, ran.answer))
    step = Step(position.history, number, sentence(due, Mishap.CRASH), None, ())
    kept = with_value(position.remembered, (due.agent, envelope_of(due.event).id), ran.remembered or None)
    return dataclasses.replace(position, due=by_lane((thrown, *position.due)), remembered=kept, history=step)


def with_value(
    mapping: Mapping[tuple[str, str], bytes], key: tuple[str, str], value: bytes | None
) -> Mapping[tuple[str, str], bytes]:
    """Return *mapping* with *value* under *key*, or, for None, without."""
    if value is None:
        return mapping if key not in mapping else {at: kept for at, kept in mapping.items() if at != key}
    return {**mapping, key: value}
