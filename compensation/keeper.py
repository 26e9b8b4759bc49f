"""The keeper of locks: hears what is asked to be held and what is freed, and answers whose turn it is.

Part of the coordinator, on the partition of the entity. What it keeps is
committed with its answers, so that a lock outlives whoever kept it.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from antiphon.bus.delivery import current
from antiphon.bus.handler import Handler
from antiphon.bus.lock import ANSWERED, LockFreed, LockWanted, answer_id, lock_answered
from antiphon.bus.names import COORDINATOR
from antiphon.compensation.examined import workable
from antiphon.compensation.locks import PREFIX, Answer, heard
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.event import Event, envelope_of


def keeping(handler: Handler, *, clock_us: Callable[[], int]) -> Handler:
    """Return *handler* with what is said of locks taken out of what it hears."""

    async def keep(event: Event) -> Sequence[Event]:
        if not isinstance(event, LockWanted | LockFreed):
            return await handler(event)
        key, now_us = PREFIX + event.entity, clock_us()
        kept = current.get().state.mapping(key)
        with workable(kept, key):
            answers = heard(event, envelope_of(event), kept, now_us)
            return [_answered(answer, event.entity, now_us) for answer in answers]

    return keep


def _answered(answer: Answer, entity: str, time_us: int) -> Event:
    """Make the answer, which carries the event that waited, below the one that asked."""
    request = answer.request
    said = lock_answered(request.agent)(
        entity=entity,
        granted=answer.granted,
        event_id=request.event_id,
        event_type=request.event_type,
        value=base64.b64decode(request.value),
    )
    return said.sealed(
        Envelope(
            id=answer_id(request.id),
            type=ANSWERED,
            source=f"/agents/{COORDINATOR}",
            time_us=time_us,
            correlation_id=request.workflow,
            parent_id=request.id,
            hops=request.hops + 1,
            key=request.event_key,
            **request.inherited,
        )
    )
