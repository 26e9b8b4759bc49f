"""One workflow, told as what is there, what happens, and what is expected of it.

    given(stock, card, parcel).when(OrderPlaced(order="A")).but("parcel", Mishap.GIVE_UP).expects(
        Refunded(order="A"), state="compensated"
    )

It is played on the model that `antiphon.testing.explorer` goes through, once, in
a fixed order; undoing included, no broker. A `Saga` among the agents has its
time-outs by a clock that jumps to the next of them when nothing else is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from antiphon.bus.undo import UndoRequested
from antiphon.compensation.workflow import Phase
from antiphon.schemas.event import Event
from antiphon.testing.ending import Invariant, ModelEnd, broken, listed, problems
from antiphon.testing.model import Choice, Mishap, Model, Position
from antiphon.testing.model.choosing import OPERATOR, TOO_EARLY
from antiphon.testing.model.position import is_due
from antiphon.testing.outside import Outside
from antiphon.testing.retelling import story
from antiphon.testing.virtual import run_virtually

__all__ = ["Mishap", "Scenario", "ScenarioError", "given"]

_MOST_STEPS = 1_000


class ScenarioError(AssertionError):
    """A workflow did not come to what was expected of it."""

    def __init__(self, differences: Iterable[str], told: Iterable[str]) -> None:
        self.differences = [*differences]
        lines = [
            "expected what the test says, and it came otherwise:",
            *(f"  {line}" for line in self.differences),
            *told,
        ]
        super().__init__("\n".join(lines))


class Scenario:
    """Agents and what happens to them. Each method but `expects` and `never` returns another scenario; these two play it."""

    def __init__(
        self,
        agents: Sequence[object],
        *,
        outside: Outside,
        before: bytes,
        events: Sequence[Event] = (),
        mishaps: Sequence[tuple[str, Mishap]] = (),
    ) -> None:
        self._agents = agents
        self._outside = outside
        self._before = before
        self._events = events
        self._mishaps = mishaps

    def when(self, *events: Event) -> Scenario:
        """Have *events* come from outside, one after the other, each when nothing of the ones before is outstanding.

        All belong to one workflow, which the first of them starts.
        """
        return self._with(events=(*self._events, *events))

    def but(self, agent: str, mishap: Mishap) -> Scenario:
        """Have *mishap* happen to the first delivery to *agent*; said twice, to its first two."""
        return self._with(mishaps=(*self._mishaps, (agent, mishap)))

    def expects(
        self, *events: Event, state: str | None = None, invariant: Invariant | Sequence[Invariant] = ()
    ) -> Scenario:
        """Play it; each of *events* must have been emitted, as often as it stands here, and the workflow be in *state* at its end.

        Each *invariant* finds what handlers changed outside of Kafka as it is then; afterwards it is put back. Raises
        `ScenarioError`, which tells what is missing, what happened instead, and the tree that came of it.
        """
        model, end = self._played()
        left = [*_emitted(end)]
        differences: list[str] = []
        for event in events:
            if event in left:
                left.remove(event)
            else:
                differences.append(f"expected {event!r} to be emitted, got {_nearest(event, left)}")
        got = ModelEnd(model, end).state
        if state not in (None, got):
            differences.append(f"expected it to end {state}, got {got}")
        differences += self._broken(listed(invariant), model, end)
        return self._judged(differences, model, end)

    def never(self, *types: type[Event]) -> Scenario:
        """Play it; nothing of *types* may have been emitted. Raises `ScenarioError`."""
        model, end = self._played()
        found = [event for event in _emitted(end) if isinstance(event, types)]
        return self._judged([f"expected none of these to be emitted, got {event!r}" for event in found], model, end)

    def _broken(self, invariants: Sequence[Invariant], model: Model, end: Position) -> list[str]:
        self._outside.put_back(end.outside)
        try:
            return [*broken(invariants, ModelEnd(model, end))]
        finally:
            self._outside.put_back(self._before)

    def _with(
        self, *, events: Sequence[Event] | None = None, mishaps: Sequence[tuple[str, Mishap]] | None = None
    ) -> Scenario:
        return Scenario(
            self._agents,
            outside=self._outside,
            before=self._before,
            events=self._events if events is None else events,
            mishaps=self._mishaps if mishaps is None else mishaps,
        )

    def _played(self) -> tuple[Model, Position]:
        if not self._events:
            message = (
                "expected events to play with, got none. Say .when(SomethingHappened(...)) before what is expected."
            )
            raise ValueError(message)
        model = Model(self._agents, outside=self._outside, mishaps=frozenset(Mishap), repeats=len(self._mishaps))
        known = {agent.agent for agent in model.crew.seen}
        unknown = {agent for agent, _ in self._mishaps} - known
        if unknown:
            names = ", ".join(sorted(known))
            message = f"expected .but(...) to name one of the agents {names}, got {', '.join(sorted(unknown))}"
            raise ValueError(message)
        self._outside.put_back(self._before)
        try:
            return model, run_virtually(self._end(model))
        finally:
            self._outside.put_back(self._before)

    async def _end(self, model: Model) -> Position:
        position = Position()
        waiting = [*self._mishaps]
        for number, event in enumerate(self._events):
            position = model.published(position, event, number)
            while (after := await self._next(model, position, waiting)) is not None:
                position = after
        return position

    async def _next(self, model: Model, position: Position, waiting: list[tuple[str, Mishap]]) -> Position | None:
        """Return the position after the next thing that happens: a delivery, or a time that comes; None at the end."""
        if position.steps > _MOST_STEPS:
            problem = f"expected it to end, and after {position.steps} deliveries there is still something to do"
            raise ScenarioError([problem], story(model, position))
        options = model.options(position)
        if not options or (options == [OPERATOR] and model.kept(position).phase is not Phase.PARKED):
            # What a step of a saga waits for is for the test to see; what an undo does, somebody has tried again.
            return None
        return await model.after(position, _choice(model, position, options, waiting))

    def _judged(self, differences: list[str], model: Model, end: Position) -> Scenario:
        # What a saga does past its pivot, or goes on without, is for its steps to say.
        found = [end.problem] if end.problem else [] if model.crew.sagas else problems(model, end)
        wrong = [*differences, *found]
        if wrong:
            raise ScenarioError(wrong, story(model, end))
        return self


def given(*agents: object, outside: Sequence[object] = ()) -> Scenario:
    """Begin a scenario of *agents*: decorated functions, `Agent`s, `Saga`s or `Consumer`s. The coordinator is there unnamed.

    *outside* are the fakes of what handlers change elsewhere, as `explore` takes them.
    """
    fakes = Outside(outside)
    return Scenario(agents, outside=fakes, before=fakes.taken())


def _choice(model: Model, position: Position, options: Sequence[Choice], waiting: list[tuple[str, Mishap]]) -> Choice:
    """Return the first that goes well, unless a mishap waits for that agent. That a time has come is heard before all else."""
    first = next((one for one in options if one.lane >= 0 and is_due(position.due[one.lane].event)), options[0])
    turn = position.due[first.lane].agent if first.lane >= 0 else ""
    for place, (agent, mishap) in enumerate(waiting):
        wanted = TOO_EARLY if mishap is Mishap.LATE else Choice(first.lane, mishap)
        whose = model.next_woken(position) if mishap is Mishap.LATE else turn
        if whose == agent and wanted in options:
            del waiting[place]
            return wanted
    return first


def _emitted(end: Position) -> Iterator[Event]:
    published = {id(event) for step in end.told() if step.entry is None for event in step.emitted}
    for known in end.events.values():
        if not isinstance(known.event, UndoRequested) and id(known.event) not in published:
            yield known.event


def _nearest(event: Event, left: Sequence[Event]) -> str:
    """Return what was emitted of the same type, or that nothing was."""
    return ", ".join(repr(other) for other in left if type(other) is type(event)) or f"no {event.__event__.type}"
