"""Seal every emitted event in an envelope that says which workflow it belongs to and what caused it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from antiphon.bus.delivery import current
from antiphon.bus.guard import budget_left
from antiphon.bus.handler import Handler
from antiphon.schemas.envelope import Envelope, now_us
from antiphon.schemas.event import Event, envelope_of, key_of
from antiphon.schemas.ids import caused_id


def lineage(agent: str, *, clock_us: Callable[[], int] = now_us) -> Callable[[Handler], Handler]:
    """Make the middleware for *agent*. An event's ordinal is its place in what the handler returned."""
    source = f"/agents/{agent}"

    def middleware(handler: Handler) -> Handler:
        async def sealed(event: Event) -> Sequence[Event]:
            produced = await handler(event)
            if not produced:
                return ()
            cause = envelope_of(event)
            delivery = current.get(None)
            causes = delivery.causes if delivery is not None else ()
            budget = cause.budget if delivery is None else budget_left(cause.budget, delivery)
            return [
                made.sealed(
                    Envelope(  # by place: by name it takes as long again
                        caused_id(cause.id, agent, ordinal),
                        made.__event__.type,
                        source,
                        clock_us(),
                        cause.correlation_id,
                        cause.id,
                        causes,
                        cause.traceparent,
                        cause.deadline_us,
                        cause.hops + 1,
                        budget,
                        cause.tenant,
                        cause.replay_of,
                        None,
                        key_of(made),
                    )
                )
                for ordinal, made in enumerate(produced)
            ]

        sealed.unsealed = handler  # type: ignore[attr-defined]
        return sealed

    return middleware


def unsealed(handler: Handler) -> Handler:
    """Return *handler* without the sealing of what it says, where that is the last thing it does; otherwise *handler*.

    For whoever looks at the data alone: sealing costs more than most handlers do.
    """
    inner: Handler = getattr(handler, "unsealed", handler)
    return inner
