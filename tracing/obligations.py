"""What is still to do in a workflow: who owes which event a delivery.

An agent owes every event it hears a final delivery: completed, skipped, set
aside as a dead letter, or expired. A retried, timed-out or cancelled one is
followed by another. The undo requests of an agent are owed by that agent alone.

The saga coordinator hears activity, not events, so it owes events nothing, but
one thing: once a workflow has failed, a request for every event that can be
undone. It asks in waves, effects before causes; without this, a workflow would
look finished between two of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from antiphon.bus.intervention import Act, SagaIntervened, SagaParked
from antiphon.bus.lock import ANSWERED, LockFreed
from antiphon.bus.names import COORDINATOR
from antiphon.bus.subscriptions import Subscriptions
from antiphon.bus.verdict import SagaFailed, SagaTold, Told
from antiphon.tracing.delivered import DONE, SET_ASIDE, Delivered
from antiphon.tracing.seen import UNDO_REQUESTED, SeenEvent

_UNDO_TOPIC = ".undo"
_SAGA_FAILED = SagaFailed.__event__.type
_FREED = LockFreed.__event__.type


class Outstanding(NamedTuple):
    """An event that an agent has not finished with."""

    event_id: str
    agent: str


@dataclasses.dataclass(frozen=True)
class Obligations:
    """How far a workflow has come."""

    outstanding: tuple[Outstanding, ...]
    failures: tuple[str, ...]
    """Ids of the events that failed the workflow: by their type, or because an agent set them aside; not those that a
    saga goes on without."""
    undoing: bool
    parked: bool


def obligations(
    events: Sequence[SeenEvent],
    deliveries: Sequence[Delivered],
    mesh: Subscriptions,
    *,
    ghosts: Mapping[str, str],
    undo_events: frozenset[str],
) -> Obligations:
    """Say what is still to do. *events* are in causal order.

    *ghosts* are events known only from activity, by id, with their types;
    *undo_events* are the undo requests and all that came of them.
    """
    settled, set_aside = _settled(deliveries)
    settled |= _kept(events)
    owed = [Outstanding(event.id, agent) for event in events for agent in _hearers(event, mesh)]
    owed += [Outstanding(id, agent) for id in sorted(ghosts) for agent in mesh.hearers(ghosts[id], None)]
    outstanding = [pair for pair in owed if pair not in settled]

    requests = {event.id for event in events if event.is_undo_request}
    requests.update(id for id, type in ghosts.items() if type == UNDO_REQUESTED)
    told = {emitted.id for delivery in deliveries for emitted in delivery.emitted if emitted.fails}
    told.update(id for id, _ in set_aside if id not in requests)
    failures = _failures(events, mesh, ghosts, told)
    parked = bool(_given_up(events, deliveries, requests) - {id for id, _ in settled - set_aside})
    # The coordinator learns of a failure from activity; of one published from outside, when somebody has heard it.
    told.update(delivery.event_id for delivery in deliveries)
    signs = [id for id in failures if id in told] or sorted(requests)
    due = COORDINATOR in mesh.agents and bool(signs) and _undos_due(events, deliveries, undo_events, failures)
    if due:
        outstanding.append(Outstanding(signs[0], COORDINATOR))
    left = _left_to_sagas(events)
    failed = tuple(id for id in failures if id not in left)
    elsewhere = requests - {event.id for event in events if event.is_undo_request and event.envelope.parent_id in left}
    undoing = bool(elsewhere) or (due and (bool(failed) or not left or _is_cancelled(events)))
    return Obligations(tuple(outstanding), failed, undoing, parked)


def _kept(events: Sequence[SeenEvent]) -> set[tuple[str, str]]:
    """Return what the keeper of locks owes nothing more: what is answered, or freed. It leaves no activity."""
    answered = {event.envelope.parent_id or "" for event in events if event.envelope.type == ANSWERED}
    freed = {event.id for event in events if event.envelope.type == _FREED}
    return {(id, COORDINATOR) for id in answered | freed}


def _left_to_sagas(events: Sequence[SeenEvent]) -> set[object]:
    """Return the failures that fail no workflow: a saga goes on without an optional step, or it was told and decides itself."""
    sources = {event.id: event.envelope.source for event in events}
    said = [event for event in events if event.envelope.type == _SAGA_FAILED]
    optional = {event.id for event in said if sources.get(str(_field(event, "scope"))) == event.envelope.source}
    return optional | {_field(event, "event_id") for event in events if _is_told_of_failure(event)}


def _given_up(events: Sequence[SeenEvent], deliveries: Iterable[Delivered], requests: set[str]) -> set[str]:
    """Return the undo requests that were set aside, or told to be given up, and not decided on since."""
    since_us: dict[str, int] = {}
    effects = {event.id: _field(event, "event_id") for event in events if event.is_undo_request}
    for delivery in deliveries:
        if delivery.event_id in requests and delivery.outcome in SET_ASIDE:
            since_us[delivery.event_id] = max(since_us.get(delivery.event_id, 0), delivery.ended_us)
    for event in events:
        if event.envelope.type == SagaParked.__event__.type:
            # One that halted was not asked to undo anything.
            halted = _field(event, "agent") == COORDINATOR
            id = event.id if halted else event.envelope.parent_id or event.id
            since_us[id] = max(since_us.get(id, 0), event.envelope.time_us)
            effects[id] = _field(event, "event_id")
    return {id for id, us in since_us.items() if not _decided(events, effects.get(id), us)}


def _decided(events: Sequence[SeenEvent], event_id: object, since_us: int) -> bool:
    return any(
        _field(event, "act") in (Act.RETRY, Act.SKIP, Act.FORCE) and _field(event, "event_id") in (None, event_id)
        for event in events
        if event.envelope.type == SagaIntervened.__event__.type and event.envelope.time_us >= since_us
    )


def _field(event: SeenEvent, name: str) -> object:
    return cast("dict[str, object]", event.data).get(name) if isinstance(event.data, dict) else None


def _settled(deliveries: Iterable[Delivered]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    done = {delivery.pair for delivery in deliveries if delivery.outcome in DONE}
    # A dead letter that was redriven and then handled is no failure any more.
    aside = {delivery.pair for delivery in deliveries if delivery.outcome in SET_ASIDE} - done
    return done | aside, aside


def _hearers(event: SeenEvent, mesh: Subscriptions) -> list[str]:
    if event.is_undo_request:
        return [event.topic.removesuffix(_UNDO_TOPIC)]
    return mesh.hearers(event.envelope.type, event.topic)


def _failures(
    events: Sequence[SeenEvent], mesh: Subscriptions, ghosts: Mapping[str, str], told: set[str]
) -> tuple[str, ...]:
    seen = [event.id for event in events if event.id in told or mesh.fails(event.envelope.type)]
    unseen = [id for id in sorted(ghosts) if id in told or mesh.fails(ghosts[id])]
    return (*seen, *unseen)


def _undos_due(
    events: Sequence[SeenEvent], deliveries: Sequence[Delivered], undo_events: frozenset[str], failures: Sequence[str]
) -> bool:
    """Say whether the coordinator still has to ask for something."""
    requests = [event.data for event in events if event.is_undo_request]
    if any(not isinstance(data, dict) for data in requests):
        return False  # What was asked for cannot be read, so what is left cannot be known.
    asked = {data.get("event_id") for data in requests}
    condemned = _condemned(events, failures)
    return any(
        emitted.undo is not None and emitted.id not in asked
        for delivery in deliveries
        if delivery.event_id not in undo_events
        for emitted in delivery.emitted
        if condemned is None or emitted.id in condemned
    )


def _condemned(events: Sequence[SeenEvent], failures: Sequence[str]) -> set[str] | None:
    """Return what follows from where sagas say that something is to be undone; None where that is the whole workflow."""
    said = {event.id: event for event in events if event.envelope.type == _SAGA_FAILED}
    judged = {_field(event, "event_id") for event in events if _is_told_of_failure(event)}
    if not failures or any(id not in said and id not in judged for id in failures) or _is_cancelled(events):
        return None
    scopes = {_field(event, "scope"): event.envelope.source for event in said.values()}
    if None in scopes:
        return None  # It cannot be read.
    below: set[str] = set()
    condemned: set[str] = set()
    for event in events:
        if not below.isdisjoint(event.parents):
            condemned.add(event.id)
        if event.id in scopes and event.envelope.source == scopes[event.id]:
            condemned.add(event.id)  # A command of the saga itself, which it can undo.
        if event.id in scopes or event.id in condemned:
            below.add(event.id)
    return condemned


def _is_told_of_failure(event: SeenEvent) -> bool:
    return event.envelope.type == SagaTold.__event__.type and _field(event, "what") == Told.FAILED


def _is_cancelled(events: Sequence[SeenEvent]) -> bool:
    return any(
        event.envelope.type == SagaIntervened.__event__.type and _field(event, "act") == Act.CANCEL for event in events
    )
