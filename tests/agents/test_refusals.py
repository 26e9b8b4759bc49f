"""What is refused when an agent's module is imported, and what is said then."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import pytest

from antiphon import Agent, Context, Event, agent
from antiphon.agents.errors import DefinitionError

if TYPE_CHECKING:
    from decimal import Decimal


class Placed(Event):
    n: int


class Reserved(Event):
    n: int


class Released(Event):
    n: int


class Charged(Event, key="card"):
    card: str


EXAMPLE = "For example: async def triage(ticket: TicketOpened, context: Context) -> TicketTriaged."


def refusal(define: Callable[[], object]) -> str:
    """Why *define* was refused; it must have been, at a place in this file."""
    with pytest.raises(DefinitionError) as caught:
        define()
    assert caught.value.place.file == __file__
    assert str(caught.value) == f"{__file__}:{caught.value.place.line}: {caught.value.problem}"
    return f"{type(caught.value).__name__}: {caught.value.problem}"


def decorated(handler: Callable[..., Any]) -> str:
    return refusal(lambda: agent(handler))


def test_the_place_is_the_handlers() -> None:
    """File and line lead to the handler, wherever it was decorated."""

    async def handler(order: Placed): ...  # type: ignore[no-untyped-def]

    with pytest.raises(DefinitionError) as caught:
        agent(handler)
    assert caught.value.place == (__file__, handler.__code__.co_firstlineno)


def test_no_return_annotation() -> None:
    """Without it nobody knows what the agent says; None has to be said."""

    async def handler(order: Placed): ...  # type: ignore[no-untyped-def]

    assert decorated(handler) == (
        "SignatureError: handler 'handler': expected a return annotation, which says what it may emit, got none. "
        "Annotate it, for example -> TicketTriaged; with -> None it emits nothing."
    )


def test_return_annotation_of_no_event() -> None:
    """Only events travel."""

    async def text(order: Placed) -> str:
        raise NotImplementedError

    async def texts(order: Placed) -> list[str]:
        raise NotImplementedError

    async def stream(order: Placed) -> AsyncIterator[int]:
        raise NotImplementedError

    async def bare(order: Placed) -> list:  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType] - the test
        raise NotImplementedError

    async def unordered(order: Placed) -> set[Reserved]:
        raise NotImplementedError

    async def anything(order: Placed) -> Event:
        raise NotImplementedError

    expected = "expected a return annotation of event classes, None, or a list or iterator of event classes, got"
    derive = "Give what it says a class that derives from Event."
    handlers: list[Callable[..., Any]] = [text, texts, stream, bare, unordered, anything]
    assert [decorated(handler) for handler in handlers] == [
        f"SignatureError: handler 'text': {expected} str. {derive}",
        f"SignatureError: handler 'texts': {expected} str. {derive}",
        f"SignatureError: handler 'stream': {expected} int. {derive}",
        f"SignatureError: handler 'bare': {expected} list. Say of what, for example list[TicketTriaged].",
        f"SignatureError: handler 'unordered': {expected} set[{__name__}.Reserved]. "
        "An event's id depends on its place, and a set has no order: use list[...].",
        "SignatureError: handler 'anything': expected a return annotation of event classes, got Event itself. "
        "Name what it emits, for example -> StockReserved | StockMissing.",
    ]


def test_parameters() -> None:
    """A handler takes (event) or (event, context), and says of which class."""

    async def none() -> None: ...
    async def only_context(context: Context) -> None: ...
    async def unannotated(order) -> None: ...  # type: ignore[no-untyped-def]
    async def no_event(order: dict[str, Any]) -> None: ...
    async def half(order: Placed | int) -> None: ...
    async def untyped_second(order: Placed, context) -> None: ...  # type: ignore[no-untyped-def]
    async def after_context(order: Placed, context: Context, more: Placed) -> None: ...
    async def variadic(order: Placed, *more: Placed) -> None: ...
    async def anything(event: Event) -> None: ...

    handlers: list[Callable[..., Any]] = [
        none,
        only_context,
        unannotated,
        no_event,
        half,
        untyped_second,
        after_context,
        variadic,
        anything,
    ]
    assert [decorated(handler).removeprefix("SignatureError: handler ") for handler in handlers] == [
        f"'none': expected a parameter for the event it hears, got (). {EXAMPLE}",
        f"'only_context': expected a parameter for the event it hears, got (context). {EXAMPLE}",
        "'unannotated': expected parameter 'order' to be annotated with the event class it hears, "
        f"got no annotation. {EXAMPLE}",
        "'no_event': expected parameter 'order' to be an Event class or a union of them, "
        f"got dict[str, typing.Any]. {EXAMPLE}",
        f"'half': expected parameter 'order' to be an Event class or a union of them, got int. {EXAMPLE}",
        f"'untyped_second': expected parameter 'context' to be annotated with Context, got no annotation. {EXAMPLE}",
        f"'after_context': expected (event) or (event, context), got (order, context, more). {EXAMPLE}",
        f"'variadic': expected (event) or (event, context), got (order, more). {EXAMPLE}",
        "'anything': expected an event class as annotation, got Event itself. Name what it hears, also in .on(...).",
    ]


def test_two_events_are_a_join() -> None:
    """Two event parameters without join=True: the remedy is spelled out."""

    async def policy(reserved: Reserved, released: Released) -> None: ...

    assert decorated(policy) == (
        "SignatureError: handler 'policy': expected one event parameter, got 2. To wait for several events: "
        "agent = Agent('policy'), then @agent.on(Reserved, Released, join=True)."
    )


def test_an_annotation_that_cannot_be_read() -> None:
    """Imported for the type checker only: unknown when it matters."""

    async def handler(order: Placed, rate: Decimal) -> None: ...

    assert decorated(handler) == (
        "SignatureError: handler 'handler': expected annotations that can be read at run time, "
        "got name 'Decimal' is not defined. Import the class outside `if TYPE_CHECKING:`, above the handler."
    )


def test_what_is_no_function() -> None:
    """A class, a callable object, or `.on` without its brackets."""

    async def handler(order: Placed) -> None: ...

    with pytest.raises(DefinitionError, match="expected a function, got builtin_function_or_method"):
        agent(print)
    assert refusal(lambda: Agent("stock").on(handler)(handler)).startswith(  # type: ignore[arg-type]
        "SignatureError: handler 'handler': expected event classes in .on(...), got <function"
    )


def test_names() -> None:
    """A name becomes part of topics' names, and must not be the mesh's own."""
    legal = "expected a name of letters, digits, '.', '_' and '-', at most 200, since topics are named after the agent"
    own = "expected a name that is not the mesh's own ('compensation', or beginning with 'antiphon')"
    assert [refusal(lambda name=name: Agent(name)) for name in ("my agent", "", "antiphon.x", "compensation")] == [  # type: ignore[misc]
        f"AgentNameError: {legal}, got 'my agent'. Give the agent another name.",
        f"AgentNameError: {legal}, got ''. Give the agent another name.",
        f"AgentNameError: {own}, got 'antiphon.x'. Give the agent another name.",
        f"AgentNameError: {own}, got 'compensation'. Give the agent another name.",
    ]


def test_options() -> None:
    """Options that make no sense."""
    assert [
        refusal(lambda: Agent("a", concurrency=0)),
        refusal(lambda: Agent("a", timeout=0)),
        refusal(lambda: Agent("a", guarantee="sometimes")),  # type: ignore[arg-type]
    ] == [
        "AgentOptionError: agent 'a': expected concurrency to be at least 1, got 0.",
        "AgentOptionError: agent 'a': expected timeout to be more than 0 seconds, got 0.",
        "AgentOptionError: agent 'a': expected guarantee to be exactly_once or at_least_once, got 'sometimes'.",
    ]


def test_two_handlers_for_one_type() -> None:
    """Which one would it be? Also when two classes claim the same type."""
    stock = Agent("stock")

    class Other(Event, type="placed"):
        n: int

    @stock.on(Placed)
    async def reserve(order: Placed) -> None: ...

    async def reserve_too(order: Other) -> None: ...

    assert refusal(lambda: stock.on(Other)(reserve_too)) == (
        "HeardTwiceError: agent 'stock': expected one handler for placed, got two, 'reserve' and 'reserve_too'. "
        "Do both in one handler, or make the second an agent of its own."
    )


def test_on_and_annotation_disagree() -> None:
    """The decorator says one thing, the annotation another."""

    async def reserve(order: Released) -> None: ...

    assert refusal(lambda: Agent("stock").on(Placed)(reserve)) == (
        "SignatureError: handler 'reserve': expected Released, as its parameter is annotated, got .on(Placed)."
    )


def test_joins() -> None:
    """A join that could never fire, or whose events would not meet, is none."""
    policy = Agent("policy")

    async def one(reserved: Reserved) -> None: ...
    async def same(reserved: Reserved, again: Reserved) -> None: ...
    async def union(reserved: Reserved | Placed, released: Released) -> None: ...
    async def other(reserved: Reserved, released: Released) -> None: ...
    async def keyed(reserved: Reserved, charged: Charged) -> None: ...

    assert [
        refusal(lambda: policy.on(Reserved, join=True)(one)),
        refusal(lambda: policy.on(join=True)(same)),
        refusal(lambda: policy.on(join=True)(union)),
        refusal(lambda: policy.on(Reserved, Placed, join=True)(other)),
        refusal(lambda: policy.on(Reserved, Charged, join=True)(keyed)),
    ] == [
        "JoinError: agent 'policy': expected a join of at least two event types, got Reserved. Leave join=True out.",
        "JoinError: agent 'policy': expected a join of different event types, got Reserved, Reserved.",
        "JoinError: agent 'policy': expected each parameter of a join to be one event class, got a union.",
        "JoinError: agent 'policy': expected a join's parameters to be Reserved, Placed, as in .on(...), "
        "got Reserved, Released.",
        "JoinError: agent 'policy': expected a join's events to be keyed by their workflow, got charged keyed by "
        "'card', so they would not meet. Take key='card' out of the class line of Charged.",
    ]


def test_undos() -> None:
    """An agent undoes what it emits, each event once, and says how in one handler."""
    stock = Agent("stock")

    @stock.on(Placed)
    async def reserve(order: Placed) -> Reserved:
        raise NotImplementedError

    async def release(reserved: Reserved) -> Released:
        raise NotImplementedError

    async def release_too(reserved: Reserved) -> None: ...
    async def forget(released: Released) -> None: ...

    assert refusal(lambda: stock.undoes(Reserved)(forget)) == (
        "UndoError: agent 'stock': expected 'forget' to take the Reserved it undoes, and nothing else."
    )
    stock.undoes(Reserved)(release)
    assert refusal(lambda: stock.undoes(Reserved)(release_too)) == (
        "UndoError: agent 'stock': expected one undo of Reserved, got a second, 'release_too'. Do both in one."
    )
    assert refusal(lambda: stock.undoes(Released)(forget)) == (
        "UndoError: agent 'stock': expected to undo what it emits, Reserved, got Released. "
        "Put the undo below the handler that emits the event."
    )


def test_an_agent_that_hears_nothing() -> None:
    """It would be a consumer group of no topics."""
    assert refusal(lambda: Agent("stock").consumer()) == (
        "NoHandlerError: agent 'stock': expected at least one handler, got none. "
        "Decorate one with @stock.on(SomeEvent)."
    )
