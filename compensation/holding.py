"""What a workflow holds, as far as undoing goes: noted when an agent asks, withdrawn when it fails, freed when it has ended."""

from __future__ import annotations

from antiphon.bus.lock import ANSWERED, answer_id
from antiphon.bus.names import COORDINATOR
from antiphon.compensation.scopes import failures, reason_for
from antiphon.compensation.workflow import FINAL, Fact, Free, Node, Workflow


def answered(workflow: Workflow, fact: Fact) -> Workflow:
    """Put an answer that *fact* tells of below the event that asked for it; that one is open until it is handled."""
    id = fact.delivery.event_id
    if fact.delivery.event_type != ANSWERED:
        return workflow
    request = next((one for one in workflow.wants if answer_id(one) == id), None)
    asked = workflow.events.get(request or "")
    if request is None or asked is None:
        return workflow
    # Whoever else hears answers never hears this one.
    node = workflow.events.get(id, Node(ANSWERED))._replace(parents=(request,), past=True, aftermath=asked.aftermath)
    through = asked._replace(done=(COORDINATOR,)) if fact.delivery.outcome in FINAL else asked
    return workflow.with_events({request: through, id: node})


def withdrawn(workflow: Workflow) -> tuple[Workflow, list[Free]]:
    """Let what is to be undone wait for nothing: whoever waits is told so, and that is waited for."""
    if not workflow.wants or not failures(workflow):
        return workflow, []
    over = {
        id: want
        for id, want in workflow.wants.items()
        if not want.withdrawn and COORDINATOR not in workflow.events[id].done and reason_for(workflow, [id]) is not None
    }
    wants = {id: want._replace(withdrawn=id in over or want.withdrawn) for id, want in workflow.wants.items()}
    return workflow._replace(wants=wants), [Free(want.entity, (id,), withdrawn=True) for id, want in over.items()]


def released(workflow: Workflow) -> tuple[Workflow, list[Free]]:
    """Free all that a workflow which has ended holds."""
    if not workflow.wants:
        return workflow, []
    entities: dict[str, tuple[str, ...]] = {}
    for id, want in workflow.wants.items():
        entities[want.entity] = (*entities.get(want.entity, ()), id)
    free = [Free(entity, requests, withdrawn=False) for entity, requests in entities.items()]
    return workflow._replace(wants={}), free
