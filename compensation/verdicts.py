"""What sagas are told of the undoing of what they did."""

from __future__ import annotations

from antiphon.bus.verdict import Told
from antiphon.compensation.descent import descendants
from antiphon.compensation.saga import SETTLED, Mesh, Saga, Status, Tell
from antiphon.compensation.scopes import failures, reason_for
from antiphon.compensation.waiting import is_open


def verdicts(saga: Saga, mesh: Mesh) -> tuple[Saga, list[Tell]]:
    """Tell the sagas of what is undone how that stands, where it has changed."""
    told: list[Tell] = []
    if not failures(saga):
        return saga, told
    for id, node in [(id, node) for id, node in saga.events.items() if node.sagas]:
        failure = reason_for(saga, [id])
        if failure is None:
            continue
        verdict = _verdict(saga, id, mesh)
        for name, last in node.sagas.items():
            if last != verdict:
                told.append(Tell(name, verdict, id, failure.event_id, failure.reason))
        told_now = node.model_copy(update={"sagas": dict.fromkeys(node.sagas, verdict.value)})
        saga = saga.model_copy(update={"events": {**saga.events, id: told_now}})
    return saga, told


def _verdict(saga: Saga, start: str, mesh: Mesh) -> Told:
    below = descendants(saga, start)
    effects = [effect for id, effect in saga.effects.items() if id in below]
    if any(effect.status is Status.STUCK for effect in effects):
        return Told.PARKED
    if any(effect.status not in SETTLED for effect in effects):
        return Told.STOPPED
    ahead = [node for id, node in saga.events.items() if id in below and not node.aftermath]
    running = not saga.forced and any(is_open(node, mesh) and mesh.leads_to_undoable(node.type) for node in ahead)
    return Told.STOPPED if running else Told.UNDONE
