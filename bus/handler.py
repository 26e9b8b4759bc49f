"""The one callable shape of the mesh: an event in, the events it caused out.

Agents, the saga coordinator, an orchestrator, the tracer and the replayer are
all handlers, so whatever wraps one of them wraps any of them. What else a
handler may need to know of the delivery in hand is in `delivery.current`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

from antiphon.schemas.event import Event

Handler: TypeAlias = Callable[[Event], Awaitable[Sequence[Event]]]
Middleware: TypeAlias = Callable[[Handler], Handler]


def wrap(handler: Handler, middleware: Iterable[Middleware]) -> Handler:
    """Wrap *handler* so that the first middleware listed is the first to see an event."""
    for layer in reversed([*middleware]):
        handler = layer(handler)
    return handler
