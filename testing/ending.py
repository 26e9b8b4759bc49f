"""How one run of a workflow ended, for an invariant to look at; and what must be so of any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import orjson

from antiphon.compensation.instance import Stage
from antiphon.compensation.workflow import Phase, Workflow
from antiphon.testing.model import WORKFLOW, Model, Position
from antiphon.testing.model.undoing import is_condemned

E = TypeVar("E", covariant=True)
T = TypeVar("T")

_WAITING = frozenset({Stage.RUNNING, Stage.RESTING, Stage.UNKNOWN, Stage.PARKED})


class End(Protocol):
    """One run, when nothing is outstanding. What the handlers changed outside of Kafka is as the run left it."""

    @property
    def state(self) -> str:
        """ "completed" where nothing failed, "compensated" where all that was done is undone."""
        ...

    def events(self, event_class: type[T]) -> list[T]:
        """Return the events of a class that are on its topic, each once, in no promised order."""
        ...

    def kept(self, agent: str) -> Mapping[str, Mapping[str, Any]]:
        """Return what *agent* keeps as state, by key."""
        ...


Invariant: TypeAlias = Callable[[End], object]
"""Says what must be so at every end: raises `AssertionError`, or returns False, where it is not. Anything else is taken for yes."""


class ModelEnd:
    """The end of a run on the model. Implements `End`."""

    def __init__(self, model: Model, position: Position) -> None:
        self._model = model
        self._position = position

    @property
    def state(self) -> str:
        """As the outermost run of a saga ended, or the workflow where none ran."""
        outermost = [
            phase.value for (_, start), phase in self._model.phases(self._position).items() if start == WORKFLOW
        ]
        return next(iter(outermost), str(Phase.COMPENSATED if self._position.failed else Phase.COMPLETED))

    def events(self, event_class: type[T]) -> list[T]:
        return [known.event for known in self._position.events.values() if isinstance(known.event, event_class)]

    def kept(self, agent: str) -> Mapping[str, Mapping[str, Any]]:
        return {key: orjson.loads(value) for (name, key), value in self._position.states.items() if name == agent}


def problems(model: Model, position: Position) -> Iterator[str]:
    """Yield what does not hold where nothing more happens: it has ended, and what was done is undone where it failed."""
    kept = model.kept(position)
    effects = {id: known.event.__event__.type for id, known in position.events.items() if known.undoable}
    condemned = {id for id in effects if is_condemned(position, id)}
    left = [type for id, type in effects.items() if id in condemned and id not in position.undone]
    undone = [type for id, type in effects.items() if id in position.undone and id not in condemned]
    if kept.phase is Phase.PARKED:
        problem = next(effect.problem for effect in kept.effects.values() if effect.problem)
        yield f"it does not end: {' and '.join(left)} cannot be undone ({problem})"
    elif left:
        yield f"it failed, and {' and '.join(left)} is not undone"
    elif undone:
        yield f"nothing failed, and {' and '.join(undone)} is undone"
    else:
        yield from _unfinished(model, position, kept)


def _unfinished(model: Model, position: Position, kept: Workflow) -> Iterator[str]:
    for (saga, start), phase in model.phases(position).items():
        if phase not in (Phase.COMPLETED, Phase.COMPENSATED):
            steps = position.runs(saga)[start]["steps"]
            waiting = [f"{name} is {step['stage']}" for name, step in steps.items() if step["stage"] in _WAITING]
            why = f" ({', '.join(waiting)})" if waiting else ""
            yield f"it does not end: {saga} is {phase}{why}, and waits for something that does not come"
            return
    if kept != Workflow() and not kept.ended:
        yield f"it does not end: the coordinator has it as {kept.phase}, and waits for something that does not come"


def broken(invariants: Iterable[Invariant], end: End) -> Iterator[str]:
    """Yield which of the user's own invariants do not hold."""
    for invariant in invariants:
        name = getattr(invariant, "__name__", repr(invariant))
        try:
            held = invariant(end) is not False
            why = ""
        except AssertionError as error:
            # The first line alone: pytest adds how it came to the values, with the addresses of objects.
            held, why = False, f": {str(error).splitlines()[0]}" if str(error) else ""
        if not held:
            yield f"{name} does not hold{why}"


def listed(invariant: Invariant | Sequence[Invariant]) -> Sequence[Invariant]:
    """Return one or several as several."""
    return [invariant] if callable(invariant) else invariant
