"""From an event to the function that handles it, and from what that returns to a list of events.

Everything that can be decided when the agent is defined is decided then. Per
event there is one look-up, one call, and a loop over what was emitted.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

from antiphon.agents.context import Context
from antiphon.agents.errors import NotAnEventReturnedError, UnknownAnswerError, UnknownUndoError
from antiphon.agents.joins import Join, fired, gather
from antiphon.agents.signature import Shape, Signature
from antiphon.agents.threads import Threads
from antiphon.bus.claim import standing
from antiphon.bus.delivery import current
from antiphon.bus.errors import UndeclaredEventError
from antiphon.bus.handler import Handler
from antiphon.bus.lock import LockAnswered, LockWanted
from antiphon.bus.undo import UndoRequested
from antiphon.schemas.event import Event

Call: TypeAlias = Callable[..., Awaitable[Sequence[Event]]]
"""Takes the events of the handler's parameters, adds the context where it takes one, and returns what it emitted."""


def dispatch(routes: Mapping[type[Event], Handler]) -> Handler:
    """Make the handler that hands each event to the route of its class."""

    # Hands on what the route makes: a coroutine more costs every event.
    def dispatched(event: Event) -> Awaitable[Sequence[Event]]:
        return routes[event.__class__](event)

    return dispatched


def call(agent: str, signature: Signature, threads: Threads) -> Call:
    """Make the call of one handler."""
    invoke = _invocation(signature, threads)
    emits = signature.emits

    async def called(*events: Event) -> Sequence[Event]:
        result = await invoke(*events)
        if result is None:
            return ()
        if result.__class__ in emits:
            return (result,)
        return await _checked(agent, signature, result)

    return called


def joined(join: Join, call: Call) -> Handler:
    """Make the route of an event that waits for others."""

    async def arrived(event: Event) -> Sequence[Event]:
        delivery = current.get()
        events = await gather(join, event, delivery)
        if events is None:
            return ()
        if delivery.logs is not None:
            for one in events:
                delivery.logs.hide(one)
        produced = await call(*events)
        # After the call: a handler that raised is called again.
        fired(join, delivery)
        return produced

    return arrived


async def _inside(event_class: type[Event], value: bytes) -> Event:
    """Return the event that another one carries."""
    delivery = current.get()
    event = await delivery.services.decode(event_class, value)
    if delivery.logs is not None:
        delivery.logs.hide(event)
    return event


def undone(agent: str, undos: Mapping[str, tuple[type[Event], Call]]) -> Handler:
    """Make the route of the requests to undo something."""

    async def requested(event: Event) -> Sequence[Event]:
        if not isinstance(event, UndoRequested) or event.event_type not in undos:
            raise UnknownUndoError(agent, getattr(event, "event_type", event.__event__.type), undos)
        event_class, call = undos[event.event_type]
        return await call(await _inside(event_class, event.value))

    return requested


def holding(field: str, call: Call) -> Handler:
    """Make the route of an event that is handled once its workflow holds what *field* names; None there: nothing to hold."""

    async def arrived(event: Event) -> Sequence[Event]:
        entity = getattr(event, field)
        if entity is None:
            return await call(event)
        delivery = current.get()
        wanted = LockWanted(
            entity=f"{field}/{entity}",
            agent=delivery.agent,
            event_id=delivery.envelope.id,
            event_type=event.__event__.type,
            event_key=delivery.envelope.key,
            value=standing(delivery.record),
        )
        return (wanted,)

    return arrived


def answered(agent: str, held: Mapping[str, tuple[type[Event], Call]]) -> Handler:
    """Make the route of the answers to what `holding` asks: the event that waited is handled, or let go."""

    async def came(event: Event) -> Sequence[Event]:
        if not isinstance(event, LockAnswered) or event.event_type not in held:
            raise UnknownAnswerError(agent, getattr(event, "event_type", event.__event__.type), held)
        if not event.granted:
            return ()
        event_class, call = held[event.event_type]
        return await call(await _inside(event_class, event.value))

    return came


def _invocation(signature: Signature, threads: Threads) -> Callable[..., Awaitable[Any]]:
    function, takes_context = signature.function, signature.takes_context

    async def stream(*events: Event) -> list[Any]:
        items = function(*events, Context(current.get())) if takes_context else function(*events)
        return [item async for item in items]

    async def with_context(event: Event, *others: Event) -> Any:
        return await function(event, *others, Context(current.get()))

    async def in_thread(*events: Event) -> Any:
        import asyncio  # noqa: PLC0415 - 80 ms of `import antiphon`, and loaded anyway where a loop runs

        loop = asyncio.get_running_loop()
        arguments = (*events, Context(current.get(), loop=loop)) if takes_context else events
        return await threads.run(loop, plain, *arguments)

    def plain(*arguments: object) -> Any:
        result = function(*arguments)
        # A generator's body runs here, in the thread, not where it is read.
        return [*result] if signature.shape is Shape.GENERATOR else result

    match signature.shape:
        case Shape.ASYNC:
            return with_context if takes_context else function
        case Shape.ASYNC_GENERATOR:
            return stream
        case Shape.PLAIN | Shape.GENERATOR:
            return in_thread


async def _checked(agent: str, signature: Signature, result: Any) -> Sequence[Event]:
    emits = signature.emits
    is_list = result.__class__ is list or result.__class__ is tuple
    produced: Sequence[Event] = result if is_list else await _listed(agent, signature.name, result)
    for item in produced:
        if item.__class__ not in emits:
            raise _refusal(agent, signature, item)
    return produced


async def _listed(agent: str, function: str, result: Any) -> Sequence[Any]:
    """Return the unusual results as a list: another event, a wrapped coroutine, an iterator."""
    if inspect.isawaitable(result):
        result = await result
    if result is None:
        return ()
    if isinstance(result, Event):
        return (result,)
    if isinstance(result, AsyncIterable):
        stream: AsyncIterable[Any] = result  # pyright: ignore[reportUnknownVariableType] - of what, is checked next
        return [item async for item in stream]
    # A set has no order, and ids are made from the order; of a mapping or a model the keys would come.
    if isinstance(result, str | bytes | Mapping | AbstractSet | BaseModel) or not isinstance(result, Iterable):
        raise NotAnEventReturnedError(agent, function, cast("object", result))
    items: Iterable[Any] = result  # pyright: ignore[reportUnknownVariableType] - of what, is checked next
    return [*items]


def _refusal(agent: str, signature: Signature, item: object) -> Exception:
    if not isinstance(item, Event):
        return NotAnEventReturnedError(agent, signature.name, item)
    declared = {event_class.__event__.type for event_class in signature.emits}
    return UndeclaredEventError(agent, item.__event__.type, declared)
