"""A saga as users write it: what starts it, its steps, and what each of them builds on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Any, Literal, NoReturn, TypeAlias

from antiphon.bus.names import is_legal, is_reserved
from antiphon.bus.place import frame_outside, place_of_frame
from antiphon.bus.retry import RetryPolicy
from antiphon.compensation.errors import SagaDefinitionError
from antiphon.compensation.parameters import START, Bound, bound
from antiphon.schemas.event import Event


class Kind(StrEnum):
    """What can be done about a step once it was taken."""

    COMPENSATABLE = "compensatable"
    """It can be undone: by the agent that answered, or by the step's own `undo`."""
    PIVOT = "pivot"
    """The point of no return. Once it is done, the saga goes forward only."""
    RETRIABLE = "retriable"
    """It succeeds in the end: what fails is asked for again."""
    READ_ONLY = "read_only"
    """It leaves nothing to undo."""


KindName: TypeAlias = Kind | Literal["compensatable", "pivot", "retriable", "read_only"]
Types: TypeAlias = type[Event] | Sequence[type[Event]]


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing that a saga asks for, and the answers that it takes.

    *action* makes the command, from the start event and the answers it has
    parameters for; the step waits for the steps whose answers those are, and for
    those in *after*. It has ended when an event of *done* comes, or one of
    *refused*; one of *working* says that it goes on. An event below its command whose
    class says `fails=True`, or a dead letter there, is a refusal too.

    With *when* the step is taken only where that holds; with *repeat_while* it is
    taken again for as long as that holds of its answer. Where there is no answer
    within *timeout* seconds, the same command is published again, up to
    *retry*'s attempts; then its outcome is unknown. What an *optional* step
    refuses is undone, and the saga goes on without it. *undo* makes a command
    that undoes the step, where the agent that answered has no undo of its own.
    """

    name: str
    _: dataclasses.KW_ONLY
    action: Callable[..., Event]
    done: Types
    refused: Types = ()
    working: Types = ()
    kind: KindName | None = None
    after: Sequence[str] = ()
    when: Callable[..., bool] | None = None
    repeat_while: Callable[..., bool] | None = None
    timeout: float | None = None
    retry: RetryPolicy = dataclasses.field(default_factory=lambda: RetryPolicy(attempts=3, base_s=1.0))
    undo: Callable[..., Event] | None = None
    optional: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """A step, checked, with its functions bound to what they want to be told."""

    name: str
    action: Bound
    command: type[Event]
    done: frozenset[type[Event]]
    refused: frozenset[type[Event]]
    working: frozenset[type[Event]]
    kind: Kind | None
    after: tuple[str, ...]
    """The steps it waits for, those that its functions take answers of among them."""
    when: Bound | None
    repeat_while: Bound | None
    timeout: float | None
    retry: RetryPolicy
    undo: Bound | None
    undoing: type[Event] | None
    """What `undo` makes."""
    optional: bool

    @property
    def answers(self) -> frozenset[type[Event]]:
        return self.done | self.refused | self.working

    @property
    def needs(self) -> frozenset[str]:
        """The steps without whose answers this one is skipped."""
        return self.action.needs | (self.when.needs if self.when else frozenset[str]())


class Definition:
    """What a `Saga` says: its steps, checked, and those of the versions that may still run."""

    def __init__(
        self,
        name: str,
        *,
        starts: type[Event],
        steps: Sequence[Step],
        version: str = "0",
        ends: Callable[..., Event] | None = None,
        previous: Sequence[Definition] = (),
    ) -> None:
        frame = frame_outside(__file__)
        self._place = place_of_frame(frame)
        self.name = name
        self.version = version
        self.starts = starts
        self._names = frame.f_locals
        self._check_name()
        self._check_class("starts", starts)
        self.steps = self._planned(steps)
        self.pivot = self._only_pivot()
        self._check_order()
        self.ends = self._ending(ends)
        self.versions: Mapping[str, Definition] = self._with(previous)

    def __repr__(self) -> str:
        return f"<Saga {self.name} {self.version}: {', '.join(self.steps)}>"

    @property
    def hears(self) -> frozenset[type[Event]]:
        """The classes of the start event and of all answers, of every version."""
        return frozenset(
            heard
            for saga in self.versions.values()
            for heard in (saga.starts, *(answer for step in saga.steps.values() for answer in step.answers))
        )

    @property
    def asks(self) -> Mapping[str, type[Event]]:
        """By type, the commands of every version that can be undone by one of its own."""
        return {
            step.command.__event__.type: step.command
            for saga in self.versions.values()
            for step in saga.steps.values()
            if step.undo is not None
        }

    @property
    def leads_to(self) -> Mapping[str, frozenset[str]]:
        """By type heard, the types that it may publish next: commands of later steps, and what ends it."""
        found: dict[str, set[str]] = {}
        for saga in self.versions.values():
            ends = {saga.ends.makes} if saga.ends is not None and saga.ends.makes is not None else set[type[Event]]()
            said = {step.command for step in saga.steps.values()} | ends
            found.setdefault(saga.starts.__event__.type, set()).update(one.__event__.type for one in said)
            for name, step in saga.steps.items():
                later = {other.command for other in saga.steps.values() if name in saga.before(other.name)}
                said = later | ends | ({step.command} if step.repeat_while else set[type[Event]]())
                for answer in step.answers:
                    found.setdefault(answer.__event__.type, set()).update(one.__event__.type for one in said)
        return {type: frozenset(said) for type, said in found.items()}

    @property
    def emits(self) -> frozenset[type[Event]]:
        """What it may publish: commands, those that undo, and what ends it."""
        found: set[type[Event]] = set()
        for saga in self.versions.values():
            for step in saga.steps.values():
                found |= {step.command} if step.undoing is None else {step.command, step.undoing}
            if saga.ends is not None and saga.ends.makes is not None:
                found.add(saga.ends.makes)
        return frozenset(found)

    def _check_name(self) -> None:
        if is_reserved(self.name) or not is_legal(self.name):
            self._refuse(
                "expected a name of letters, digits, '.', '_' and '-', that is not the mesh's own ('compensation', "
                f"or beginning with 'antiphon'), got {self.name!r}. Give it another name."
            )

    def _planned(self, steps: Sequence[Step]) -> Mapping[str, Plan]:
        if not steps:
            self._refuse("expected steps, got none. Give it Step(...).")
        classes: dict[str, frozenset[type[Event]]] = {START: frozenset({self.starts})}
        for step in steps:
            if step.name in classes:
                self._refuse(f"expected one step {step.name!r}, got two. Give one another name.")
            classes[step.name] = self._types(step, "done", step.done)
            if not classes[step.name]:
                self._refuse(f"step {step.name!r}: expected done= to name what says that it is done, got nothing.")
        return {step.name: self._plan(step, classes) for step in steps}

    def _plan(self, step: Step, classes: Mapping[str, frozenset[type[Event]]]) -> Plan:
        action = self._bound(step, "action", step.action, classes)
        when = self._bound(step, "when", step.when, classes) if step.when else None
        uses = action.uses | (when.uses if when else frozenset[str]())
        if step.name in uses:
            self._refuse(
                f"step {step.name!r}: expected action and when to build on other steps, got its own answer. "
                "To take it again, say repeat_while=."
            )
        undo = self._undo(step, classes) if step.undo else None
        kind = self._kind(step)
        if undo is not None and kind is not None and kind in (Kind.READ_ONLY, Kind.PIVOT):
            self._refuse(
                f"step {step.name!r}: expected no undo of a {kind.value} step, as there is nothing to undo, got one. "
                "Leave undo= out, or make it compensatable."
            )
        if step.timeout is not None and not step.timeout > 0:
            self._refuse(f"step {step.name!r}: expected timeout to be more than 0 seconds, got {step.timeout!r}.")
        return Plan(
            name=step.name,
            action=action,
            command=self._made(step, "action", action),
            done=classes[step.name],
            refused=self._types(step, "refused", step.refused),
            working=self._types(step, "working", step.working),
            kind=kind,
            after=self._after(step, uses, classes),
            when=when,
            repeat_while=self._bound(step, "repeat_while", step.repeat_while, classes) if step.repeat_while else None,
            timeout=step.timeout,
            retry=step.retry,
            undo=undo,
            undoing=None if undo is None else self._made(step, "undo", undo),
            optional=step.optional,
        )

    def _after(self, step: Step, uses: frozenset[str], classes: Mapping[str, object]) -> tuple[str, ...]:
        for name in step.after:
            if name not in classes or name == START:
                others = ", ".join(other for other in classes if other not in (START, step.name)) or "none"
                self._refuse(f"step {step.name!r}: expected after= to name other steps, {others}; got {name!r}.")
        return tuple(name for name in classes if name in uses or name in step.after)

    def _bound(
        self,
        step: Step,
        option: str,
        function: Callable[..., Any],
        classes: Mapping[str, frozenset[type[Event]]],
    ) -> Bound:
        try:
            return bound(function, classes, self._names)
        except ValueError as error:
            self._refuse(f"step {step.name!r}, {option}: {error}.")

    def _undo(self, step: Step, classes: Mapping[str, frozenset[type[Event]]]) -> Bound:
        assert step.undo is not None  # noqa: S101 - for the type checker
        undo = self._bound(step, "undo", step.undo, classes)
        if step.name in undo.needs and not _is_lambda(step.undo):
            answers = " | ".join(sorted(answer.__name__ for answer in classes[step.name]))
            self._refuse(
                f"step {step.name!r}, undo: expected its own answer as {answers} | None, got it without None. "
                "Whether the step was done may be unknown when it is undone."
            )
        return undo

    def _made(self, step: Step, option: str, function: Bound) -> type[Event]:
        made = function.makes
        if made is None:
            self._refuse(
                f"step {step.name!r}: expected {option} to say by its return annotation which event it makes, got "
                f"{function.returns!r}. Write a function, for example def {step.name}(...) -> SomeCommand."
            )
        return made

    def _kind(self, step: Step) -> Kind | None:
        if step.kind is None:
            return None if step.undo is None else Kind.COMPENSATABLE
        try:
            return Kind(step.kind)
        except ValueError:
            kinds = ", ".join(kind.value for kind in Kind)
            self._refuse(f"step {step.name!r}: expected kind to be one of {kinds}, got {step.kind!r}.")

    def _types(self, step: Step, option: str, said: Types) -> frozenset[type[Event]]:
        types = said if isinstance(said, Sequence) else (said,)
        for one in types:
            self._check_class(f"step {step.name!r}: {option}", one)
            if one is self.starts:
                self._refuse(
                    f"step {step.name!r}: expected answers that do not start the saga, got {one.__name__} in {option}. "
                    "Answer with an event of another class."
                )
        return frozenset(types)

    def _check_class(self, what: str, got: object) -> None:
        if not (isinstance(got, type) and issubclass(got, Event)) or got is Event:
            self._refuse(
                f"expected {what} to name event classes, got {got!r}. Give it a class that derives from Event."
            )
        if (key := got.__event__.key) is not None:
            self._refuse(
                f"expected what it hears to be keyed by its workflow, got {got.__event__.type} keyed by {key!r}, "
                f"which would not reach it. Take key={key!r} out of the class line of {got.__name__}."
            )

    def _only_pivot(self) -> str | None:
        pivots = [plan.name for plan in self.steps.values() if plan.kind is Kind.PIVOT]
        if len(pivots) > 1:
            self._refuse(f"expected one pivot at most, got {', '.join(pivots)}. Make the later ones retriable.")
        return pivots[0] if pivots else None

    def _check_order(self) -> None:
        sorter = TopologicalSorter({plan.name: plan.after for plan in self.steps.values()})
        try:
            sorter.prepare()
        except CycleError as error:
            circle = " after ".join(reversed(error.args[1]))
            self._refuse(f"expected steps in an order, got a circle: {circle}. Take one of them out.")
        if self.pivot is None:
            return
        for plan in self.steps.values():
            if plan.kind is Kind.COMPENSATABLE and self.pivot in self.before(plan.name):
                self._refuse(
                    f"step {plan.name!r}: expected no compensatable step after the pivot {self.pivot!r}, since nothing is "
                    "undone any more then. Make it retriable, or put it before the pivot."
                )

    def before(self, name: str) -> frozenset[str]:
        """Return the steps that have ended when step *name* begins."""
        found: set[str] = set()
        ahead = [*self.steps[name].after]
        while ahead:
            one = ahead.pop()
            if one not in found:
                found.add(one)
                ahead += self.steps[one].after
        return frozenset(found)

    def _ending(self, ends: Callable[..., Event] | None) -> Bound | None:
        if ends is None:
            return None
        classes = {START: frozenset({self.starts})} | {plan.name: plan.done for plan in self.steps.values()}
        try:
            ending = bound(ends, classes, self._names)
        except ValueError as error:
            self._refuse(f"ends: {error}.")
        if ending.makes is None:
            self._refuse(
                f"expected ends to say by its return annotation which event it makes, got {ending.returns!r}. "
                "Write a function, for example def ended(...) -> SomethingDone."
            )
        if lacking := sorted(name for name in ending.needs if self._may_be_skipped(name)):
            self._refuse(
                f"ends: expected the answers of {', '.join(lacking)} as ... | None, got them without None. "
                "Those steps may be skipped."
            )
        return ending

    def _may_be_skipped(self, name: str) -> bool:
        plan = self.steps[name]
        return plan.when is not None or plan.optional or any(self._may_be_skipped(need) for need in plan.needs)

    def _with(self, previous: Sequence[Definition]) -> Mapping[str, Definition]:
        versions: dict[str, Definition] = {self.version: self}
        for saga in previous:
            if saga.name != self.name or saga.version in versions:
                self._refuse(
                    f"expected previous= to name earlier versions of {self.name!r}, each once, got {saga.name!r} "
                    f"{saga.version!r}. Give each its version=."
                )
            versions[saga.version] = saga
        return versions

    def _refuse(self, problem: str) -> NoReturn:
        raise SagaDefinitionError(self._place, self.name, problem)


def _is_lambda(function: Callable[..., Any]) -> bool:
    return getattr(function, "__name__", "") == "<lambda>"
