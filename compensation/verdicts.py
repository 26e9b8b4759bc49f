"""What sagas are told of the undoing of what they did."""

from __future__ import annotations

from antiphon.bus.verdict import Told
from antiphon.compensation.descent import descendants
from antiphon.compensation.scopes import failures, reason_for
from antiphon.compensation.waiting import is_open
from antiphon.compensation.workflow import SETTLED, Mesh, Status, Tell, Workflow


def verdicts(workflow: Workflow, mesh: Mesh) -> tuple[Workflow, list[Tell]]:
    """Tell the sagas of what is undone how that stands, where it has changed."""
    told: list[Tell] = []
    if not failures(workflow):
        return workflow, told
    for id, node in [(id, node) for id, node in workflow.events.items() if node.sagas]:
        failure = reason_for(workflow, [id])
        if failure is None:
            continue
        verdict = _verdict(workflow, id, mesh)
        for name, last in node.sagas.items():
            if last != verdict:
                told.append(Tell(name, verdict, id, failure.event_id, failure.reason))
        told_now = node._replace(sagas=dict.fromkeys(node.sagas, verdict.value))
        workflow = workflow.with_events({id: told_now})
    return workflow, told


def _verdict(workflow: Workflow, start: str, mesh: Mesh) -> Told:
    below = descendants(workflow, start)
    effects = [effect for id, effect in workflow.effects.items() if id in below]
    if any(effect.status is Status.STUCK for effect in effects):
        return Told.PARKED
    if any(effect.status not in SETTLED for effect in effects):
        return Told.STOPPED
    ahead = [node for id, node in workflow.events.items() if id in below and not node.aftermath]
    running = not workflow.forced and any(is_open(node, mesh) and mesh.leads_to_undoable(node.type) for node in ahead)
    return Told.STOPPED if running else Told.UNDONE
