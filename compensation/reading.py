"""Reading what the coordinator keeps, from outside: no group, nobody's offsets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.compensation.agenda import RESERVED
from antiphon.compensation.coordinator import NAME
from antiphon.compensation.saga import Mesh, Saga
from antiphon.compensation.store import Kept
from antiphon.compensation.waiting import is_open
from antiphon.schemas.envelope import format_time


async def read_sagas(bus: Bus, names: Names, partitions: Iterable[int]) -> dict[str, Saga]:
    """Return the workflows that the coordinator keeps on *partitions*, by id. Costs those partitions of its state."""
    wanted = set(partitions)
    bounds = await bus.bounds([names.state(NAME)])
    places = {place: ends for place, ends in bounds.items() if place.partition in wanted and ends[0] < ends[1]}
    values: dict[str, bytes] = {}
    if places:
        start = {place: first for place, (first, _) in places.items()}
        async for record in bus.read(start, {place: end for place, (_, end) in places.items()}):
            id = (record.key or b"").decode()
            values.pop(id, None)
            if record.value is not None and not id.startswith(RESERVED):
                values[id] = record.value
    return {id: Kept.model_validate_json(value).saga for id, value in values.items()}


def document(id: str, saga: Saga, mesh: Mesh) -> dict[str, Any]:
    """Return a workflow's undoing as JSON says it, its keys in the promised order."""
    return {
        "correlation_id": id,
        "saga": None,
        "state": saga.phase.value,
        "steps": [
            {
                "event_id": event_id,
                "type": effect.type,
                "agent": effect.agent,
                "status": effect.status.value,
                "attempts": effect.attempts,
                "late": effect.late,
                "problem": effect.problem or None,
            }
            for event_id, effect in saga.effects.items()
        ],
        "outstanding": [
            {"event_id": event_id, "agent": agent}
            for event_id, node in saga.events.items()
            if is_open(node, mesh)
            for agent in mesh.hearers(node.type, None)
            if agent not in node.done
        ],
        "reason": None if saga.failure is None else saga.failure.reason,
        "deadline": None if saga.deadline_us is None else format_time(saga.deadline_us),
    }
