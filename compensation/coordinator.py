"""The coordinator: hears what was handled, and asks agents to undo what failed workflows did.

A handler like any other. Its state is one `Saga` per workflow; being committed
in one transaction with the requests it leads to, it survives a crash at any
point, and scales by partition.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from antiphon.bus.activity import Activity
from antiphon.bus.consumer import Consumer, Lane
from antiphon.bus.delivery import State, current
from antiphon.bus.handler import Handler
from antiphon.bus.undo import UndoRequested, undo_requested
from antiphon.compensation.saga import Fact, Saga, Undo, advance, undo_id
from antiphon.schemas.envelope import Envelope, now_us
from antiphon.schemas.event import Event

NAME = "compensation"
"""The coordinator's own agent name; no other agent can have it."""

_SOURCE = f"/agents/{NAME}"


def coordinator(*, clock_us: Callable[[], int] = now_us) -> Consumer:
    """Return the coordinator as the engine runs it: `antiphon run compensation`."""
    return Consumer(
        name=NAME,
        version="1",
        hears={Activity.__event__.type: Activity},
        handler=_handler(clock_us),
        emits=None,
        # Activity stands in causal order on its workflow's partition, and only there.
        lane=Lane.PARTITION,
        reads=_workflows,
    )


def _workflows(event: Event) -> list[str]:
    assert isinstance(event, Activity), "all it hears"  # noqa: S101 - for the type checker
    return [*dict.fromkeys(delivery.correlation_id for delivery in event.deliveries)]


def _handler(clock_us: Callable[[], int]) -> Handler:
    async def coordinate(event: Event) -> Sequence[Event]:
        assert isinstance(event, Activity), "all it hears"  # noqa: S101 - for the type checker
        sagas = _Sagas(current.get().state)
        requests: list[Event] = []
        for delivery in event.deliveries:
            saga = sagas.of(delivery.correlation_id)
            saga, undos = advance(saga, Fact(event.agent, delivery))
            sagas.keep(delivery.correlation_id, saga)
            requests += [_request(undo, delivery.correlation_id, clock_us()) for undo in undos]
        sagas.store()
        return requests

    return coordinate


class _Sagas:
    """The sagas that one activity record touches: each is read once, and written once where it changed."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._read: dict[str, Saga] = {}
        self._now: dict[str, Saga] = {}

    def of(self, correlation_id: str) -> Saga:
        if correlation_id not in self._now:
            saga = Saga.model_validate(self._state.mapping(correlation_id))
            self._read[correlation_id] = self._now[correlation_id] = saga
        return self._now[correlation_id]

    def keep(self, correlation_id: str, saga: Saga) -> None:
        self._now[correlation_id] = saga

    def store(self) -> None:
        for correlation_id, saga in self._now.items():
            if saga is not self._read[correlation_id]:
                mapping = self._state.mapping(correlation_id)
                mapping.clear()
                mapping.update(saga.model_dump(mode="json", exclude_defaults=True))


def _request(undo: Undo, correlation_id: str, time_us: int) -> Event:
    """Make the event that asks for *undo*. It has no deadline: what is past its deadline is undone all the same."""
    requested = undo_requested(undo.effect.agent)(
        agent=undo.effect.agent,
        event_id=undo.event_id,
        event_type=undo.effect.type,
        value=base64.b64decode(undo.effect.value),
        reason=undo.failure.reason,
    )
    return requested.sealed(
        Envelope(
            id=undo_id(undo.event_id),
            type=UndoRequested.__event__.type,
            source=_SOURCE,
            time_us=time_us,
            correlation_id=correlation_id,
            parent_id=undo.failure.event_id,
            key=undo.effect.key,
        )
    )
