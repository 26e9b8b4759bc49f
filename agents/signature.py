"""What a handler's annotations say: what it hears, what it emits, and how it is to be called.

Read once, when the handler is decorated. Nothing here runs per event.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeGuard

from antiphon.agents.context import Context
from antiphon.agents.errors import SignatureError
from antiphon.bus.place import Place
from antiphon.schemas.event import Event

# Of a set the order is not given, and an event's id is made from its place among those emitted.
_SEQUENCES = frozenset({list, tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection})
_STREAMS = frozenset(
    {
        collections.abc.AsyncGenerator,
        collections.abc.AsyncIterable,
        collections.abc.AsyncIterator,
        collections.abc.Generator,
        collections.abc.Iterator,
    }
)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Shape(Enum):
    """How a handler runs."""

    ASYNC = "async def"
    ASYNC_GENERATOR = "async def with yield"
    PLAIN = "def, in a thread"
    GENERATOR = "def with yield, in a thread"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signature:
    """One handler, as its annotations describe it."""

    function: Callable[..., Any]
    name: str
    place: Place
    hears: tuple[tuple[type[Event], ...], ...]
    """For each event parameter the classes it may be: several for a union. `(Event,)` for any."""
    emits: frozenset[type[Event]]
    takes_context: bool
    shape: Shape


def read_signature(function: Callable[..., Any], *, names: Mapping[str, Any] | None = None) -> Signature:
    """Read the annotations of *function*, resolving strings with its module's names and *names*.

    Raises `SignatureError`.
    """
    if not inspect.isfunction(function):
        raise SignatureError(
            Place("<unknown>", 0), repr(function), f"expected a function, got {_said(type(function))}. Decorate a def."
        )
    place = place_of(function)
    refuse = _Refusal(place, function.__name__)
    hints = _hints(function, names, refuse)
    heard, takes_context = _parameters(function, hints, refuse)
    if "return" not in hints:
        refuse(
            "expected a return annotation, which says what it may emit, got none. "
            "Annotate it, for example -> TicketTriaged; with -> None it emits nothing."
        )
    return Signature(
        function=function,
        name=function.__name__,
        place=place,
        hears=heard,
        emits=frozenset(_emitted(hints["return"], refuse)),
        takes_context=takes_context,
        shape=_shape(function),
    )


def place_of(function: Callable[..., Any]) -> Place:
    """Return where *function* is defined: the line of its first decorator."""
    code = inspect.unwrap(function).__code__
    return Place(code.co_filename, code.co_firstlineno)


class _Refusal:
    """Raises `SignatureError` for one handler."""

    def __init__(self, place: Place, function: str) -> None:
        self._place = place
        self._function = function

    def __call__(self, problem: str) -> typing.NoReturn:
        raise SignatureError(self._place, self._function, problem)


def _hints(function: Callable[..., Any], names: Mapping[str, Any] | None, refuse: _Refusal) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, localns=dict(names) if names else None)
    except NameError as error:
        refuse(
            f"expected annotations that can be read at run time, got {error}. "
            "Import the class outside `if TYPE_CHECKING:`, above the handler."
        )


def _parameters(
    function: Callable[..., Any], hints: Mapping[str, Any], refuse: _Refusal
) -> tuple[tuple[tuple[type[Event], ...], ...], bool]:
    parameters = [*inspect.signature(function).parameters.values()]
    heard: list[tuple[type[Event], ...]] = []
    takes_context = False
    for index, parameter in enumerate(parameters):
        hint = hints.get(parameter.name)
        if _is_context(hint) and not takes_context and parameter.kind is not parameter.KEYWORD_ONLY:
            takes_context = True
        elif parameter.default is not parameter.empty and not _is_event(hint):
            continue  # the user's own; the mesh does not fill it
        elif takes_context or parameter.kind in _VARIADIC or parameter.kind is parameter.KEYWORD_ONLY:
            refuse(f"expected (event) or (event, context), got {_written(parameters)}. {_EXAMPLE}")
        elif parameter.name not in hints:
            refuse(
                f"expected parameter {parameter.name!r} to be annotated with "
                f"{'the event class it hears' if index == 0 else 'Context'}, got no annotation. {_EXAMPLE}"
            )
        else:
            heard.append(_heard(parameter.name, hint, refuse))
    if not heard:
        refuse(f"expected a parameter for the event it hears, got {_written(parameters)}. {_EXAMPLE}")
    return tuple(heard), takes_context


_EXAMPLE = "For example: async def triage(ticket: TicketOpened, context: Context) -> TicketTriaged."


def _written(parameters: list[inspect.Parameter]) -> str:
    return f"({', '.join(parameter.name for parameter in parameters)})"


def _is_context(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Context)


def _is_event(hint: Any) -> TypeGuard[type[Event]]:
    return isinstance(hint, type) and issubclass(hint, Event)


def _heard(parameter: str, hint: Any, refuse: _Refusal) -> tuple[type[Event], ...]:
    classes: list[type[Event]] = []
    for member in _members(hint):
        if not _is_event(member):
            refuse(
                f"expected parameter {parameter!r} to be an Event class or a union of them, got {_said(member)}. {_EXAMPLE}"
            )
        classes.append(member)
    return tuple(classes)


def _emitted(hint: Any, refuse: _Refusal, *, nested: bool = False) -> Iterator[type[Event]]:
    for member in _members(hint):
        origin = typing.get_origin(member)
        if member is types.NoneType and not nested:
            continue
        if _is_event(member):
            if member is Event:
                refuse(
                    "expected a return annotation of event classes, got Event itself. "
                    "Name what it emits, for example -> StockReserved | StockMissing."
                )
            yield member
        elif origin in _SEQUENCES and not nested:
            for argument in typing.get_args(member):
                if argument is not Ellipsis:
                    yield from _emitted(argument, refuse, nested=True)
        elif origin in _STREAMS and not nested:
            # Of Generator[yield, send, return] only what is yielded is emitted.
            yield from _emitted(typing.get_args(member)[0], refuse, nested=True)
        else:
            refuse(
                f"expected a return annotation of event classes, None, or a list or iterator of event classes, "
                f"got {_said(member)}. {_remedy(member, origin)}"
            )


def _remedy(member: Any, origin: Any) -> str:
    if member in _SEQUENCES or member in _STREAMS:
        return f"Say of what, for example {member.__name__}[TicketTriaged]."
    if origin in (set, frozenset, collections.abc.Set):
        return "An event's id depends on its place, and a set has no order: use list[...]."
    return "Give what it says a class that derives from Event."


def _members(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, however it is written; a hint that is no union is its own only member."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        for member in typing.get_args(hint):
            yield from _members(member)
    elif hasattr(hint, "__value__"):  # `type Said = A | B`, Python 3.12
        yield from _members(hint.__value__)
    else:
        yield hint


def _shape(function: Callable[..., Any]) -> Shape:
    if inspect.isasyncgenfunction(function):
        return Shape.ASYNC_GENERATOR
    if inspect.iscoroutinefunction(function):
        return Shape.ASYNC
    return Shape.GENERATOR if inspect.isgeneratorfunction(function) else Shape.PLAIN


def _said(hint: Any) -> str:
    return hint.__qualname__ if isinstance(hint, type) else str(hint)
