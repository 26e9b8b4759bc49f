"""Every way that a workflow can go, and what must be so at the end of each.

For a few steps all interleavings are gone through: whose turn it is, and which
of them crash, are repeated, given up or timed out. For more, ways are drawn
from seeds. What is found is the shortest way to it.
"""

from __future__ import annotations

import heapq
import itertools
import random
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from antiphon.bus.undo import UndoRequested
from antiphon.schemas.event import Event
from antiphon.testing.ending import End, Invariant, ModelEnd, broken, listed, problems
from antiphon.testing.model import Choice, Mishap, Model, NotModelledError, Position
from antiphon.testing.model.choosing import TOO_EARLY
from antiphon.testing.outside import NotRestorableError, Outside
from antiphon.testing.quiet import quiet
from antiphon.testing.retelling import story
from antiphon.testing.virtual import run_virtually

__all__ = [
    "End",
    "ExplorationError",
    "Explored",
    "Mishap",
    "NotModelledError",
    "NotRestorableError",
    "ReplayError",
    "explore",
]

STEPS = 4
"""Deliveries of a workflow that goes well, up to which every interleaving is gone through."""

MOST_OF_SAGAS = 1
"""Mishaps on one way where a saga's are gone through, unless it is said otherwise: a saga has many more ways than agents alone."""

_MOST_STEPS = 300  # of one way; who takes more goes on for ever
_MISHAP_ODDS = 0.15


class ExplorationError(AssertionError):
    """A way for a workflow to go, the shortest that was found, at whose end something is not as it must be."""

    def __init__(self, problem: str, told: Iterable[str], replay: str) -> None:
        self.problem = problem
        self.replay = replay
        """Give it to `explore` to have this way alone played again."""
        lines = [
            "expected every interleaving to end as it must; the shortest that does not:",
            f"  {problem}",
            *told,
            f"Run it again with replay={replay!r}.",
        ]
        super().__init__("\n".join(lines))


class ReplayError(ValueError):
    """A way does not fit the agents: they have changed since it was told."""

    def __init__(self, replay: str, number: int, options: int) -> None:
        super().__init__(
            f"expected a replay that fits these agents, got {replay!r}, which takes option {number} where there are {options}. "
            "Explore again: they have changed since it was told."
        )


@dataclass(frozen=True)
class Explored:
    """What was gone through, when nothing was found."""

    steps: int
    """Deliveries to the agents where nothing goes wrong."""
    interleavings: int
    """Ways from the beginning to an end."""
    positions: int
    """Different ones on these ways. Ways that meet in one go on together."""
    ends: int
    exhaustive: bool
    """Whether that was all there are."""
    seconds: float
    most: int | None = None
    """How many mishaps each may have; None: any number."""

    def __str__(self) -> str:
        all_of = "all" if self.exhaustive else "some of the"
        limit = "" if self.most is None else f" with {self.most} mishap{'s' if self.most != 1 else ''} at most"
        return (
            f"{all_of} {self.interleavings:,} interleavings{limit} of a workflow of {self.steps} steps, by {self.positions:,} "
            f"positions to {self.ends:,} ends, in {self.seconds:.1f} s"
        )


def explore(  # noqa: PLR0913 - all but two have a default
    agents: Iterable[object],
    event: Event,
    *,
    invariant: Invariant | Sequence[Invariant] = (),
    outside: Sequence[object] = (),
    mishaps: Collection[Mishap] = frozenset(Mishap),
    most: int | None = None,
    repeats: int = 1,
    repeatable: bool = True,
    steps: int = STEPS,
    seeds: Iterable[int] = range(1_000),
    replay: str | None = None,
) -> Explored:
    """Have *event* start a workflow of *agents*, and go through the ways it can go, undoing included.

    *agents* are decorated functions, `Agent`s, `Saga`s or `Consumer`s; the coordinator is
    there without being named. At every turn any agent that has something to do
    may be next, and each of *mishaps* may happen to its delivery, *most* of them
    on one way (any number; one where there is a saga) and *repeats* of what repeats.
    What a saga waits for may come before its time-out or after. A workflow of more than
    *steps* deliveries to agents is not gone through: of it, ways are drawn from *seeds*.

    *outside* are the fakes of what handlers change elsewhere, plain objects that
    the agents hold; they are put back before every step. At each end it must be
    so that the workflow has ended; that what it did and can be undone is undone
    once if it failed, descendants before ancestors, and not at all if it did
    not; and that each *invariant* holds. On every way a handler that runs again
    after a crash, from the same state, must answer the same, unless
    *repeatable* is False.

    Raises `ExplorationError`, which tells the shortest way to what was found;
    with its `replay` that way alone is played.
    """
    fakes = Outside(outside)
    before = fakes.taken()
    model = Model(agents, outside=fakes, mishaps=mishaps, repeats=repeats, repeatable=repeatable)
    exploration = _Exploration(model, fakes, event, listed(invariant), most)
    try:
        with quiet(indeed=replay is None):
            if replay is not None:
                return run_virtually(exploration.replayed(replay))
            return run_virtually(exploration.explored(steps, seeds))
    finally:
        fakes.put_back(before)


class _Exploration:
    def __init__(
        self, model: Model, outside: Outside, event: Event, invariants: Sequence[Invariant], most: int | None
    ) -> None:
        self._model = model
        self._most = most
        self._outside = outside
        self._invariants = invariants
        self._beginning = model.published(Position(), event, 0)
        self._began = time.perf_counter()

    async def explored(self, steps: int, seeds: Iterable[int]) -> Explored:
        going_well = await self._way(_nothing_goes_wrong)
        length = self._length(going_well)
        if length <= steps:
            return await self._every_way(length)
        return await self._drawn_ways(length, seeds)

    async def replayed(self, replay: str) -> Explored:
        """Play one way; where the choices end before it does, nothing goes wrong any more."""
        numbers = [int(number) for number in replay.split(".") if number]
        ahead = iter(numbers)

        def next_of(options: Sequence[Choice]) -> int:
            number = next(ahead, 0)
            if number >= len(options):
                raise ReplayError(replay, number, len(options))
            return number

        end = await self._way(next_of)
        self._check(end)
        return Explored(self._length(end), 1, end.steps, 1, exhaustive=False, seconds=self._took_s())

    async def _every_way(self, length: int) -> Explored:
        """Go from position to position, those with the fewest mishaps and steps first, and to none twice."""
        most = MOST_OF_SAGAS if self._most is None and self._model.crew.sagas else self._most
        numbers = {self._beginning.fingerprint: 0}
        follows: list[list[int]] = [[]]
        ends = 0
        order = itertools.count()
        ahead = [(0, 0, next(order), self._beginning)]
        seen: set[int] = set()
        while ahead:
            *_, position = heapq.heappop(ahead)
            at = numbers[position.fingerprint]
            if at in seen:
                continue
            seen.add(at)
            options = self._model.options(position)
            if not options:
                ends += 1
                self._check(position)
            self._must_end(position)
            for number, choice in enumerate(options):
                if choice.mishap is not None and position.mishaps == most:
                    continue
                after = await self._model.after(position, choice, number)
                place = numbers.setdefault(after.fingerprint, len(follows))
                if place == len(follows):
                    follows.append([])
                follows[at].append(place)
                if place not in seen:
                    heapq.heappush(ahead, (after.mishaps, after.steps, next(order), after))
        return Explored(length, _ways(follows), len(follows), ends, exhaustive=True, seconds=self._took_s(), most=most)

    async def _drawn_ways(self, length: int, seeds: Iterable[int]) -> Explored:
        found: list[tuple[int, int, int, Position]] = []
        ends: set[int] = set()
        positions = ways = 0
        for seed in seeds:
            dice = random.Random(f"way {seed}")  # noqa: S311 - it has to come again
            end = await self._way(_drawn(dice))
            ways += 1
            positions += end.steps
            ends.add(end.fingerprint)
            if self._problems(end):
                found.append((end.mishaps, end.steps, seed, end))
        if found:
            self._check(min(found, key=lambda one: one[:3])[3])
        return Explored(length, ways, positions, len(ends), exhaustive=False, seconds=self._took_s())

    async def _way(self, pick: Callable[[Sequence[Choice]], int]) -> Position:
        """Go one way to its end, as *pick* says at every turn."""
        position = self._beginning
        while options := self._model.options(position):
            self._must_end(position)
            may = [one for one in options if one.mishap is None] if position.mishaps == self._most else options
            number = options.index(may[pick(may)])
            position = await self._model.after(position, options[number], number)
        return position

    def _length(self, position: Position) -> int:
        """Return how many deliveries to agents there were, sagas and undos left out."""
        entries = [step.entry for step in position.told() if step.entry is not None]
        return sum(
            entry.agent not in self._model.crew.sagas and entry.deliveries[0].event_type != UndoRequested.__event__.type
            for entry in entries
        )

    def _problems(self, position: Position) -> list[str]:
        if position.problem:
            return [position.problem]
        self._outside.put_back(position.outside)
        return [*problems(self._model, position), *broken(self._invariants, ModelEnd(self._model, position))]

    def _check(self, position: Position) -> None:
        if found := self._problems(position):
            raise self._error(found[0], position)

    def _must_end(self, position: Position) -> None:
        if position.steps > _MOST_STEPS:
            problem = f"it does not end: after {position.steps} deliveries there is still something to do"
            raise self._error(problem, position)

    def _error(self, problem: str, position: Position) -> ExplorationError:
        replay = ".".join(str(step.choice) for step in position.told() if step.choice >= 0)
        return ExplorationError(problem, story(self._model, position), replay)

    def _took_s(self) -> float:
        return time.perf_counter() - self._began


def _nothing_goes_wrong(options: Sequence[Choice]) -> int:  # noqa: ARG001 - of any, the first goes well
    return 0


def _drawn(dice: random.Random) -> Callable[[Sequence[Choice]], int]:
    """Pick whose turn it is, and now and then a mishap."""

    def pick(options: Sequence[Choice]) -> int:
        lane = dice.choice([choice.lane for choice in options if choice.mishap is None] or [options[0].lane])
        goes_wrong = dice.random() < _MISHAP_ODDS
        possible = [
            number
            for number, choice in enumerate(options)
            if (choice.lane == lane or choice == TOO_EARLY) and (choice.mishap is not None) is goes_wrong
        ]
        return dice.choice(possible or [number for number, choice in enumerate(options) if choice.lane == lane])

    return pick


def _ways(follows: Sequence[Sequence[int]]) -> int:
    """Return how many ways there are from the first position to an end. Positions are not come back to."""
    ways: dict[int, int] = {}
    stack = [0]
    while stack:
        at = stack[-1]
        unknown = [place for place in follows[at] if place not in ways]
        if unknown:
            stack += unknown
        else:
            ways[at] = sum(ways[place] for place in follows[at]) or 1
            stack.pop()
    return ways[0]
