"""Every shape of handler, as the engine calls it."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any, Optional, Union

import pytest
from typing_extensions import TypeAliasType

from antiphon import Agent, Context, Event, agent
from antiphon.agents.agent import agent_of
from antiphon.agents.errors import NotAnEventReturnedError
from antiphon.bus.delivery import current
from antiphon.bus.errors import PermanentError, UndeclaredEventError
from antiphon.bus.handler import Handler
from antiphon.schemas.event import envelope_of
from antiphon.testing.delivery import delivery_of, hand


class Asked(Event):
    n: int


class Answered(Event):
    n: int


class Doubted(Event):
    n: int


Said = TypeAliasType("Said", Answered | Doubted)  # what `type Said = Answered | Doubted` makes


async def said(handler: Callable[..., Any], n: int = 1) -> list[Event]:
    """What the agent that *handler* was made emits on hearing that *n* was asked."""
    owner = agent_of(handler)
    assert owner is not None
    return await hand(owner.consumer(), delivery_of(Asked(n=n)))


async def test_one_event() -> None:
    """The simplest handler: one in, one out."""

    @agent
    async def answer(asked: Asked) -> Answered:
        return Answered(n=asked.n)

    assert await said(answer) == [Answered(n=1)]


async def test_nothing() -> None:
    """An agent at the end of a workflow emits nothing, or nothing today."""

    @agent
    async def note(asked: Asked) -> None:
        assert asked.n

    @agent
    async def answer(asked: Asked) -> Answered | None:
        return Answered(n=asked.n) if asked.n > 1 else None

    assert (await said(note), await said(answer)) == ([], [])


async def test_union() -> None:
    """A handler says one of several things, however the union is written."""

    @agent
    async def answer(asked: Asked) -> Answered | Doubted:
        return Answered(n=asked.n) if asked.n == 1 else Doubted(n=asked.n)

    @agent
    async def old_style(asked: Asked) -> Optional[Union[Answered, Doubted]]:  # noqa: UP007, UP045 - that is the test
        return Doubted(n=asked.n)

    @agent
    async def named(asked: Asked) -> Said:
        return Doubted(n=asked.n)

    assert await said(named, 4) == [Doubted(n=4)]
    assert await said(answer, 1) + await said(answer, 2) + await said(old_style, 3) == [
        Answered(n=1),
        Doubted(n=2),
        Doubted(n=3),
    ]


async def test_several_events() -> None:
    """A list, a tuple or any iterable fans out, in its order."""

    @agent
    async def a_list(asked: Asked) -> list[Answered]:
        return [Answered(n=n) for n in range(2)]

    @agent
    async def a_tuple(asked: Asked) -> tuple[Answered, Doubted]:
        return Answered(n=0), Doubted(n=1)

    @agent
    async def a_long_tuple(asked: Asked) -> tuple[Answered, ...]:
        return (Answered(n=0), Answered(n=1))

    @agent
    async def an_iterable(asked: Asked) -> Iterable[Answered | Doubted]:
        return (Answered(n=n) if n == 0 else Doubted(n=n) for n in range(2))

    @agent
    async def maybe(asked: Asked) -> Sequence[Answered] | Doubted | None:
        return Doubted(n=0)

    assert [await said(shape) for shape in (a_list, a_tuple, a_long_tuple, an_iterable, maybe)] == [
        [Answered(n=0), Answered(n=1)],
        [Answered(n=0), Doubted(n=1)],
        [Answered(n=0), Answered(n=1)],
        [Answered(n=0), Doubted(n=1)],
        [Doubted(n=0)],
    ]


async def test_async_generator() -> None:
    """Events may be yielded as they come about; they are published together, with the rest of the delivery."""

    @agent
    async def answer(asked: Asked, context: Context) -> AsyncIterator[Answered | Doubted]:
        yield Answered(n=asked.n)
        yield Doubted(n=context.attempt)

    assert await said(answer, 7) == [Answered(n=7), Doubted(n=1)]


async def test_plain_functions_run_in_a_thread() -> None:
    """A `def` may block: it does so in a thread, generators included, with the delivery still at hand."""
    seen: list[tuple[bool, str]] = []

    def look(context: Context) -> None:
        seen.append((threading.current_thread() is threading.main_thread(), current.get().agent))
        assert context.id == current.get().envelope.id

    @agent
    def answer(asked: Asked, context: Context) -> Answered:
        look(context)
        return Answered(n=asked.n)

    @agent
    def stream(asked: Asked, context: Context) -> Iterator[Answered]:
        look(context)
        yield Answered(n=asked.n)
        yield Answered(n=asked.n + 1)

    assert await said(answer) == [Answered(n=1)]
    assert await said(stream) == [Answered(n=1), Answered(n=2)]
    assert seen == [(False, "test"), (False, "test")]


async def test_plain_functions_do_not_wait_for_one_another() -> None:
    """As many block at a time as the agent may handle events, however few processors there are."""
    together = threading.Barrier(50)

    @agent(concurrency=50)
    def answer(asked: Asked) -> Answered:
        together.wait(timeout=10)
        return Answered(n=asked.n)

    assert await asyncio.gather(*(said(answer, n) for n in range(50))) == [[Answered(n=n)] for n in range(50)]


async def test_stop_iteration_in_a_thread_is_an_error() -> None:
    """A future cannot carry StopIteration; without care the worker would wait for ever."""

    @agent
    def answer(asked: Asked) -> Answered:
        return next(iter(list[Answered]()))

    with pytest.raises(RuntimeError, match="handler raised StopIteration; catch it, or give next"):
        await said(answer)


@pytest.mark.parametrize("error", [TimeoutError("no answer"), futures.CancelledError(), OSError(5, "no seat")])
async def test_what_a_thread_raises_is_what_comes(error: Exception) -> None:
    """The very error, with its cause and the lines that led to it: an event loop's future makes some anew, or a cancellation of them."""

    @agent
    def answer(asked: Asked) -> Answered:
        raise error from LookupError("the cause")

    with pytest.raises(type(error)) as raised:
        await said(answer)
    assert raised.value is error
    assert isinstance(error.__cause__, LookupError)
    assert [entry.name for entry in raised.traceback][-1] == "answer"


async def test_wrapped_coroutine() -> None:
    """A decorator that hides that the function is async does no harm."""

    def timed(function: Callable[[Asked], Awaitable[Answered]]) -> Callable[[Asked], Awaitable[Answered]]:
        @functools.wraps(function)
        def wrapper(asked: Asked) -> Awaitable[Answered]:
            return function(asked)

        return wrapper

    @agent
    @timed
    async def answer(asked: Asked) -> Answered:
        return Answered(n=asked.n)

    assert await said(answer) == [Answered(n=1)]


async def test_parameters_of_the_users_own() -> None:
    """A parameter with a default is the user's: the mesh leaves it alone, a test may fill it."""

    @agent
    async def answer(asked: Asked, factor: int = 2, *, offset: int = 0) -> Answered:
        return Answered(n=asked.n * factor + offset)

    assert await said(answer) == [Answered(n=2)]
    assert await answer(Asked(n=1), factor=10, offset=1) == Answered(n=11)


async def test_one_agent_several_handlers() -> None:
    """Each event finds its function; `.on` returns the function unchanged."""
    desk = Agent("desk", version="1.2.0")

    @desk.on(Asked)
    async def ask(asked: Asked) -> Answered:
        return Answered(n=asked.n)

    @desk.on()
    async def rest(event: Answered | Doubted) -> None:
        assert isinstance(event, Answered | Doubted)

    consumer = desk.consumer()
    assert (consumer.hears, consumer.emits, consumer.version) == (
        {"asked": Asked, "answered": Answered, "doubted": Doubted},
        frozenset({Answered}),
        "1.2.0",
    )
    assert await hand(consumer, delivery_of(Asked(n=3))) == [Answered(n=3)]
    assert await hand(consumer, delivery_of(Doubted(n=3))) == []
    assert await ask(Asked(n=4)) == Answered(n=4)
    assert repr(desk) == "<Agent desk 1.2.0: hears answered, asked, doubted>"


async def test_a_handler_for_anything_named_in_on() -> None:
    """What is named in `.on` may be annotated more loosely."""
    audit = Agent("audit")
    heard: list[Event] = []

    @audit.on(Asked, Answered)
    async def note(event: Event) -> None:
        heard.append(event)

    for event in (Asked(n=1), Answered(n=2)):
        await hand(audit.consumer(), delivery_of(event))
    assert heard == [Asked(n=1), Answered(n=2)]


async def test_a_decorated_function_stays_that_function() -> None:
    """A test calls it as it stands; the agent is its attribute."""

    async def answer(asked: Asked) -> Answered:
        return Answered(n=asked.n)

    decorated = agent(name="oracle", concurrency=7, timeout=2.5, guarantee="at_least_once")(answer)
    owner = agent_of(decorated)

    assert decorated is answer
    assert await decorated(Asked(n=1)) == Answered(n=1)
    assert owner is not None
    consumer = owner.consumer()
    assert (consumer.name, consumer.concurrency, consumer.timeout_s, consumer.guarantee.value) == (
        "oracle",
        7,
        2.5,
        "at_least_once",
    )
    assert agent_of(owner) is owner
    assert agent_of(said) is None


async def test_what_is_emitted_is_placed_in_its_workflow() -> None:
    """Correlation, parent, source and a stable id: nobody has to think of them."""

    @agent
    async def answer(asked: Asked) -> list[Answered]:
        return [Answered(n=1), Answered(n=2)]

    delivery = delivery_of(Asked(n=1))
    first, again = [await hand(answer.agent.consumer(), delivery) for _ in range(2)]  # type: ignore[attr-defined]

    assert {(envelope_of(event).correlation_id, envelope_of(event).parent_id) for event in first} == {
        (delivery.envelope.id, delivery.envelope.id)
    }
    assert envelope_of(first[0]).source == "/agents/answer"
    assert [envelope_of(event).id for event in first] == [envelope_of(event).id for event in again]
    assert envelope_of(first[0]).id != envelope_of(first[1]).id


async def test_middleware_sees_whole_events() -> None:
    """The first listed is the first to see an event, and what was emitted reaches it sealed."""
    log: list[str] = []

    def naming(name: str) -> Callable[[Handler], Handler]:
        def middleware(handler: Handler) -> Handler:
            async def wrapped(event: Event) -> Sequence[Event]:
                log.append(f"{name} in")
                produced = await handler(event)
                log.extend(f"{name} out {envelope_of(event).type}" for event in produced)
                return produced

            return wrapped

        return middleware

    @agent(middleware=[naming("outer"), naming("inner")])
    async def answer(asked: Asked) -> Answered:
        return Answered(n=asked.n)

    await said(answer)
    assert log == ["outer in", "inner in", "inner out answered", "outer out answered"]


async def test_an_undeclared_event_is_refused_for_good() -> None:
    """The return annotation is a promise others build on; a type checker was told to look away here."""

    @agent
    async def answer(asked: Asked) -> Answered | list[Answered]:
        if asked.n == 1:
            return Doubted(n=1)  # type: ignore[return-value]
        return [Answered(n=1), Doubted(n=2)]  # type: ignore[list-item]

    for n in (1, 2):
        with pytest.raises(UndeclaredEventError) as caught:
            await said(answer, n)
        assert str(caught.value) == (
            "agent 'answer' emitted doubted, but declares answered. Add it to the handler's return annotation."
        )


@pytest.mark.parametrize(
    ("result", "got"),
    [
        ("later", "str 'later'"),
        (7, "int 7"),
        ({"n": 1}, "dict {'n': 1}"),
        ([Answered(n=1), "later"], "str 'later'"),
        ({1}, "set {1}"),
    ],
)
async def test_what_is_no_event_is_refused_for_good(result: Any, got: str) -> None:
    """Trying again would give the same, so the event is set aside, with what came instead."""

    @agent
    async def answer(asked: Asked) -> Answered:
        return result  # type: ignore[no-any-return]

    with pytest.raises(NotAnEventReturnedError) as caught:
        await said(answer)
    assert isinstance(caught.value, PermanentError)
    assert str(caught.value) == (
        "agent 'answer': expected handler 'answer' to return events, None, or a list or generator of events, "
        f"got {got}. Return an instance of an Event class."
    )
