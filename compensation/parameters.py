"""What a function of a saga wants to be told: the start event and answers, by its parameters.

Read once, when the saga is defined. A parameter annotated with an event class
gets the event of that class; one without annotation, as a lambda's, goes by its
name: that of a step, or `start`.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from antiphon.schemas.event import Event

START = "start"
"""What a parameter for the start event is called where it has no annotation; no step can have the name."""

Classes: TypeAlias = Mapping[str, frozenset[type[Event]]]
"""By source, `start` or a step's name, the classes of events that may come of it."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """A function, and what each of its parameters gets."""

    function: Callable[..., Any]
    sources: tuple[str, ...]
    may_lack: tuple[bool, ...]
    """Whether a parameter takes None where its step was skipped."""
    returns: Any
    """Its return annotation."""

    @property
    def makes(self) -> type[Event] | None:
        """The class of event that it says it makes."""
        made: object = self.returns
        return made if isinstance(made, type) and issubclass(made, Event) and made is not Event else None

    @property
    def needs(self) -> frozenset[str]:
        """The steps without whose answer it cannot be called."""
        return frozenset(
            source for source, may in zip(self.sources, self.may_lack, strict=True) if source != START and not may
        )

    @property
    def uses(self) -> frozenset[str]:
        """The steps whose answers it takes, if there are any."""
        return frozenset(self.sources) - {START}

    def __call__(self, known: Mapping[str, Event]) -> Any:
        return self.function(*(known.get(source) for source in self.sources))


def bound(function: Callable[..., Any], classes: Classes, names: Mapping[str, Any]) -> Bound:
    """Read *function*, resolving annotations that are text with its module's names and *names*.

    Raises `ValueError` on one that cannot be called; the saga says whose it is.
    """
    if not inspect.isfunction(function) or inspect.iscoroutinefunction(function):
        problem = f"expected a plain function, which decides and does nothing, got {function!r}"
        raise ValueError(problem)
    try:
        hints = typing.get_type_hints(function, localns=dict(names))
    except NameError as error:
        problem = f"expected annotations that can be read at run time, got {error}. Import the class above it"
        raise ValueError(problem) from None
    found = [_source(parameter, hints.get(parameter, _NOTHING), classes) for parameter in _parameters(function)]
    return Bound(
        function=function,
        sources=tuple(source for source, _ in found),
        may_lack=tuple(may_lack for _, may_lack in found),
        returns=hints.get("return"),
    )


_NOTHING = object()


def _parameters(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            problem = f"expected parameters for events alone, got {parameter}"
            raise ValueError(problem)
    # One that has a default is the function's own.
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def _source(parameter: str, hint: Any, classes: Classes) -> tuple[str, bool]:
    if hint is _NOTHING:
        if parameter not in classes:
            problem = (
                f"expected parameter {parameter!r} to be annotated with the start event or an answer, "
                f"or to be called as what it gets, {' or '.join(classes)}"
            )
            raise ValueError(problem)
        return parameter, parameter != START
    members = {*typing.get_args(hint)} if _is_union(hint) else {hint}
    wanted = members - {types.NoneType}
    found = [source for source, answers in classes.items() if wanted & answers]
    if parameter in found:
        found = [parameter]
    if len(found) != 1:
        said = " | ".join(sorted(getattr(member, "__name__", str(member)) for member in wanted))
        problem = (
            f"expected parameter {parameter!r} to take what one step answers, got {said}, which several do: "
            f"{', '.join(found)}. Call the parameter as the step"
            if found
            else f"expected parameter {parameter!r} to be the start event or a step's answer, got {said}, which no step has"
        )
        raise ValueError(problem)
    if missing := classes[found[0]] - wanted:
        also = " | ".join(sorted(answer.__name__ for answer in missing))
        problem = f"expected parameter {parameter!r} to take all that {found[0]!r} may answer, got it without {also}"
        raise ValueError(problem)
    return found[0], types.NoneType in members


def _is_union(hint: Any) -> bool:
    return isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
