"""An agent: functions, and the events they hear and say."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any, Literal, TypeAlias, TypeVar, overload

from antiphon.agents.dispatch import Call, answered, call, dispatch, holding, joined, undone
from antiphon.agents.errors import (
    AgentNameError,
    AgentOptionError,
    HeardTwiceError,
    JoinError,
    NoHandlerError,
    SignatureError,
    UndoError,
)
from antiphon.agents.joins import Join
from antiphon.agents.signature import Signature, read_signature
from antiphon.agents.threads import Threads
from antiphon.bus.consumer import STATE_EXPIRES_S, UNSAID, Consumer, Guarantee
from antiphon.bus.handler import Handler, Middleware, wrap
from antiphon.bus.lock import ANSWERED, WANTED, LockWanted, lock_answered
from antiphon.bus.middleware.lineage import lineage
from antiphon.bus.names import is_legal, is_reserved
from antiphon.bus.place import Place, frame_outside, place_of_frame
from antiphon.bus.retry import RetryPolicy
from antiphon.bus.undo import undo_requested
from antiphon.schemas.event import Event

F = TypeVar("F", bound=Callable[..., Any])
Promise: TypeAlias = Guarantee | Literal["exactly_once", "at_least_once"]


class Agent:
    """Several handlers that make one agent: one consumer group, one state, one place in a trace.

    Names its topics, so *name* should outlive refactorings. *concurrency* is how
    many events of different keys one worker handles at a time; *timeout*, in
    seconds, ends one attempt. The first of *middleware* is the first to see an
    event; what a handler emitted reaches it sealed in its envelope.

    State that belongs to a workflow is forgotten when nothing has changed it for
    *state_expires*; None keeps it for ever. State of a key field is always kept.
    """

    def __init__(
        self,
        name: str,
        *,
        version: str = UNSAID,
        concurrency: int = 100,
        retry: RetryPolicy | None = None,
        timeout: float | None = None,
        guarantee: Promise = Guarantee.EXACTLY_ONCE,
        state_expires: timedelta | None = timedelta(seconds=STATE_EXPIRES_S),
        middleware: Sequence[Middleware] = (),
    ) -> None:
        self._place = _users_place()
        self.name = name
        self.version = version
        self._concurrency = concurrency
        self._retry = retry or RetryPolicy()
        self._timeout = timeout
        self._guarantee = guarantee
        self._state_expires = state_expires
        self._middleware = tuple(middleware)
        self._heard: dict[str, tuple[type[Event], Handler, str]] = {}
        self._functions: dict[str, Callable[..., object]] = {}
        self._joins: set[str] = set()
        self._held: dict[str, tuple[type[Event], Call]] = {}
        self._holds: dict[str, str] = {}
        self._undos: dict[str, tuple[type[Event], Call]] = {}
        self._emits: set[type[Event]] = set()
        self._leads_to: dict[str, frozenset[str]] = {}
        self._emits_undoing: set[type[Event]] = set()
        self._check()
        self._threads = Threads(name, concurrency)

    def _check(self) -> None:
        reserved = is_reserved(self.name)
        if reserved or not is_legal(self.name):
            raise AgentNameError(self._place, self.name, reserved=reserved)
        if self._concurrency < 1:
            self._refuse_option("concurrency", "at least 1", self._concurrency)
        if self._timeout is not None and not self._timeout > 0:
            self._refuse_option("timeout", "more than 0 seconds", self._timeout)
        if self._state_expires is not None and not self._state_expires > timedelta(0):
            self._refuse_option("state_expires", "more than no time", self._state_expires)
        promises = [guarantee.value for guarantee in Guarantee]
        if not isinstance(self._guarantee, Guarantee) and self._guarantee not in promises:
            self._refuse_option("guarantee", " or ".join(promises), self._guarantee)

    def _refuse_option(self, option: str, expected: str, got: object) -> None:
        raise AgentOptionError(self._place, self.name, option, expected=expected, got=got)

    def __repr__(self) -> str:
        return f"<Agent {self.name} {self.version}: hears {', '.join(sorted(self._heard)) or 'nothing'}>"

    def on(self, *events: type[Event], join: bool = False, holds: str | None = None) -> Callable[[F], F]:
        """Have the decorated function hear *events*; without any, those its first parameter is annotated with.

        With *join* it hears them together: it is called once for a workflow,
        when all have come, with each in the parameter annotated with its class.
        The last to come is the parent of what it emits. Of one type that comes
        twice before that the newest counts; what comes after it is ignored.

        With *holds*, the name of a field, an event is handled once its workflow
        holds what the field names, `order/A-7` for instance: another workflow that
        wants it waits until this one has ended, completed or undone. Nothing of
        the agent is blocked meanwhile, so a later event of the same key may be
        handled before. It costs two events more; workflows that wait for one
        another do so until a deadline of theirs passes.
        """

        def decorate(function: F) -> F:
            self._hear(read_signature(function, names=_users_frame().f_locals), events, join=join, holds=holds)
            return function

        return decorate

    def undoes(self, event: type[Event]) -> Callable[[F], F]:
        """Have the decorated function undo *event*, which a handler of this agent emits, when its workflow fails.

        It gets the event as it was emitted. Its own `context.id` is the
        request's, the same however often that is delivered.
        """

        def decorate(function: F) -> F:
            signature = read_signature(function, names=_users_frame().f_locals)
            self._check_undo(signature, event)
            self._undos[event.__event__.type] = (event, call(self.name, signature, self._threads))
            self._emits_undoing |= signature.emits
            return function

        return decorate

    def consumer(self, *, name: str | None = None) -> Consumer:
        """Return this agent as the engine runs it; under another *name*: in that agent's place, down to the ids of what it says.

        Raises `NoHandlerError`.
        """
        name = name or self.name
        if not self._heard:
            raise NoHandlerError(self._place, self.name)
        routes: dict[type[Event], Handler] = {event_class: route for event_class, route, _ in self._heard.values()}
        if self._undos:
            routes[undo_requested(name)] = undone(name, self._undos)
        hears = {type: event_class for type, (event_class, _, _) in self._heard.items()}
        if self._held:
            hears[ANSWERED] = lock_answered(name)
            routes[hears[ANSWERED]] = answered(name, self._held)
        return Consumer(
            name=name,
            version=self.version,
            hears=hears,
            # Lineage stands inside, so that the user's middleware sees whole events.
            handler=wrap(dispatch(routes), [*self._middleware, lineage(name)]),
            emits=frozenset(self._emits | self._emits_undoing),
            leads_to=dict(self._leads_to),
            undoes={type: event_class for type, (event_class, _) in self._undos.items()},
            tells=frozenset({WANTED} if self._held else ()),
            joins=frozenset(self._joins),
            holds=dict(self._holds),
            concurrency=self._concurrency,
            guarantee=Guarantee(self._guarantee),
            retry=self._retry,
            timeout_s=self._timeout,
            state_expires_s=None if self._state_expires is None else self._state_expires.total_seconds(),
            functions=dict(self._functions),
        )

    def _hear(self, signature: Signature, events: Sequence[type[Event]], *, join: bool, holds: str | None) -> None:
        for event in events:
            if not inspect.isclass(event):
                problem = (
                    f"expected event classes in .on(...), got {event!r}. Write @{self.name}.on() with its brackets."
                )
                raise SignatureError(signature.place, signature.name, problem)
        routes = self._join(signature, events) if join else self._single(signature, events)
        if holds is not None:
            routes = self._holding(signature, routes, holds, join=join)
        for event_class, route in routes.items():
            type_ = event_class.__event__.type
            if type_ in self._heard:
                other = self._heard[type_][2]
                raise HeardTwiceError(signature.place, self.name, type_, function=signature.name, other=other)
            self._heard[type_] = (event_class, route, signature.name)
            self._functions[type_] = signature.function
            says = frozenset(said.__event__.type for said in signature.emits)
            self._leads_to[type_] = says if holds is None else says | {WANTED}
        if join:
            self._joins |= {event_class.__event__.type for event_class in routes}
        self._emits |= signature.emits

    def _single(self, signature: Signature, events: Sequence[type[Event]]) -> Mapping[type[Event], Handler]:
        if len(signature.hears) > 1:
            classes = ", ".join(part.__name__ for parts in signature.hears for part in parts)
            problem = (
                f"expected one event parameter, got {len(signature.hears)}. To wait for several events: "
                f"agent = Agent({self.name!r}), then @agent.on({classes}, join=True)."
            )
            raise SignatureError(signature.place, signature.name, problem)
        annotated = next(iter(signature.hears))
        if not events and Event in annotated:
            problem = "expected an event class as annotation, got Event itself. Name what it hears, also in .on(...)."
            raise SignatureError(signature.place, signature.name, problem)
        for event in events:
            if not issubclass(event, annotated):
                expected = " | ".join(part.__name__ for part in annotated)
                problem = f"expected {expected}, as its parameter is annotated, got .on({event.__name__})."
                raise SignatureError(signature.place, signature.name, problem)
        return dict.fromkeys(events or annotated, call(self.name, signature, self._threads))

    def _holding(
        self, signature: Signature, routes: Mapping[type[Event], Call], field: str, *, join: bool
    ) -> Mapping[type[Event], Handler]:
        for event_class in routes:
            if join:
                problem = "expected holds= for one event, got it for a join. Let an agent before the join hold it."
                raise SignatureError(signature.place, signature.name, problem)
            if field not in event_class.model_fields:
                fields = ", ".join(event_class.model_fields) or "none"
                problem = f"expected holds= to name a field of {event_class.__name__}, {fields}; got {field!r}."
                raise SignatureError(signature.place, signature.name, problem)
        self._held |= {event_class.__event__.type: (event_class, call) for event_class, call in routes.items()}
        self._holds |= {event_class.__event__.type: field for event_class in routes}
        self._emits.add(LockWanted)
        answers = {said.__event__.type for said in signature.emits}
        self._leads_to[ANSWERED] = self._leads_to.get(ANSWERED, frozenset()) | answers
        return {event_class: holding(field, call) for event_class, call in routes.items()}

    def _join(self, signature: Signature, events: Sequence[type[Event]]) -> Mapping[type[Event], Handler]:
        classes = tuple(part for parts in signature.hears for part in parts)
        names = ", ".join(event.__name__ for event in events or classes)
        if len(classes) != len(signature.hears):
            self._refuse_join(signature, "expected each parameter of a join to be one event class, got a union.")
        if len(events or classes) < 2:  # noqa: PLR2004 - that is what joining means
            self._refuse_join(
                signature, f"expected a join of at least two event types, got {names}. Leave join=True out."
            )
        if len({event.__event__.type for event in events or classes}) != len(events or classes):
            self._refuse_join(signature, f"expected a join of different event types, got {names}.")
        if events and {*events} != {*classes}:
            got = ", ".join(part.__name__ for part in classes)
            self._refuse_join(signature, f"expected a join's parameters to be {names}, as in .on(...), got {got}.")
        for event in classes:
            if (key := event.__event__.key) is not None:
                self._refuse_join(
                    signature,
                    f"expected a join's events to be keyed by their workflow, got {event.__event__.type} keyed by "
                    f"{key!r}, so they would not meet. Take key={key!r} out of the class line of {event.__name__}.",
                )
        route = joined(Join(classes), call(self.name, signature, self._threads))
        return dict.fromkeys(classes, route)

    def _refuse_join(self, signature: Signature, problem: str) -> None:
        raise JoinError(signature.place, self.name, problem)

    def _check_undo(self, signature: Signature, event: type[Event]) -> None:
        emitted = sorted(event_class.__name__ for event_class in self._emits)
        if event not in self._emits:
            problem = (
                f"expected to undo what it emits, {' or '.join(emitted) or 'nothing yet'}, got {event.__name__}. "
                "Put the undo below the handler that emits the event."
            )
        elif event.__event__.type in self._undos:
            problem = f"expected one undo of {event.__name__}, got a second, {signature.name!r}. Do both in one."
        elif signature.hears != ((event,),):
            problem = f"expected {signature.name!r} to take the {event.__name__} it undoes, and nothing else."
        else:
            return
        raise UndoError(signature.place, self.name, problem)


@overload
def agent(function: F, /) -> F: ...
@overload
def agent(
    *,
    name: str | None = None,
    version: str = UNSAID,
    concurrency: int = 100,
    retry: RetryPolicy | None = None,
    timeout: float | None = None,
    guarantee: Promise = Guarantee.EXACTLY_ONCE,
    state_expires: timedelta | None = timedelta(seconds=STATE_EXPIRES_S),
    middleware: Sequence[Middleware] = (),
) -> Callable[[F], F]: ...
def agent(function: F | None = None, /, *, name: str | None = None, **options: Any) -> F | Callable[[F], F]:
    """Make an agent of one function: it hears its first parameter's annotation and says its return annotation.

    The agent is called as the function is, unless *name* says otherwise; the
    options are those of `Agent`. The function stays that function, so a test
    calls it; the agent is its attribute `agent`.
    """

    def decorate(function: F) -> F:
        # Read first: only of a function it is known that it has a name.
        signature = read_signature(function, names=_users_frame().f_locals)
        made = Agent(name or signature.name, **options)
        made.on()(function)
        function.agent = made  # type: ignore[attr-defined]
        return function

    return decorate if function is None else decorate(function)


def agent_of(found: object) -> Agent | None:
    """Return the agent that *found* is, or that it was decorated to be; None for anything else."""
    owner = found if isinstance(found, Agent) else getattr(found, "agent", None)
    return owner if isinstance(owner, Agent) else None


def _users_frame() -> FrameType:
    """Return the frame that called into this module: where the agent is being defined."""
    return frame_outside(__file__)


def _users_place() -> Place:
    return place_of_frame(_users_frame())
