"""Random causal graphs: what happened and can be undone is undone once, descendants before ancestors."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count

import pytest

from antiphon.bus.delivery import Outcome
from antiphon.compensation.advance import advance
from antiphon.compensation.workflow import Fact, Phase, Undo, Workflow
from antiphon.testing.facts import did, restarted, type_of, undid


class World:
    """A mesh at random: some types, agents that hear some of them and answer, fail, or join, as the dice say.

    Loops come of types that lead to themselves, diamonds of agents that join.
    Everything that is open is handled in any order; undos take their time, and
    facts are told again now and then. Implements `compensation.workflow.Mesh`.
    """

    def __init__(self, dice: random.Random, size: int, types: int = 6) -> None:
        self.dice = dice
        self.left = size
        self.numbers = count()
        self.types = [f"t{n}" for n in range(types)]
        agents = [f"agent{n}" for n in range(4)]
        self.hearing = {name: dice.sample(agents, dice.choice([0, 1, 1, 2, 3])) for name in ["root", *self.types]}
        self.joining = {(agent, name) for agent in agents for name in self.types if dice.random() < 0.15}
        self.parents: dict[str, list[str]] = {"root": []}
        self.marks = {name: dice.choice(["", "+", "+"]) for name in self.types} | {"f": "!"}
        self.open: list[tuple[str, str]] = [("root", agent) for agent in self.hearing["root"]]
        self.waiting: dict[str, str] = {}
        self.requested: list[str] = []
        self.effects: set[str] = set()
        self.undone: list[str] = []
        self.aftermath: set[str] = set()
        self.told: list[Fact] = []
        self.failed = False
        self.kept = Workflow()
        self.ended_as = Phase.RUNNING

    def hearers(self, type: str, topic: str | None) -> list[str]:
        return self.hearing.get(type, [])

    def joins(self, agent: str, type: str) -> bool:
        return (agent, type) in self.joining

    def leads_to_undoable(self, type: str) -> bool:
        return True

    def starts(self, agent: str, type: str) -> bool:
        return False

    def conducts(self, agent: str) -> bool:
        return False

    def asks(self, agent: str, type: str) -> bool:
        return False

    def run(self) -> None:
        while self.open or self.requested:
            if self.told and self.dice.random() < 0.15:
                self.tell(self.dice.choice(self.told))
            if self.requested and (not self.open or self.dice.random() < 0.4):
                self.undo(self.requested.pop(self.dice.randrange(len(self.requested))))
            else:
                self.handle(*self.open.pop(self.dice.randrange(len(self.open))))
        self.ended_as = self.kept.phase
        for fact in self.dice.sample(self.told, min(len(self.told), 5)):
            self.tell(fact)

    def handle(self, event: str, agent: str) -> None:
        causes: list[str] = []
        if self.joins(agent, type_of(event)) and event not in self.aftermath:
            if agent not in self.waiting:
                self.waiting[agent] = event
                return self.tell(did(event, by=agent))
            causes = [self.waiting.pop(agent)]
        emitted = self.emit([event, *causes], aftermath=event in self.aftermath)
        dead = not emitted and not causes and self.dice.random() < 0.1
        if event not in self.aftermath:
            self.failed |= dead or any(name.endswith("!") for name in emitted)
        outcome = Outcome.DEAD_LETTERED if dead else Outcome.COMPLETED
        return self.tell(did(event, *emitted, by=agent, causes=causes, outcome=outcome))

    def undo(self, event: str) -> None:
        self.undone.append(event)
        self.tell(undid(event, *self.emit([], aftermath=True)))

    def emit(self, parents: Sequence[str], *, aftermath: bool) -> list[str]:
        many = min(self.left, self.dice.choice([0, 1, 1, 2, 3]))
        self.left -= many
        kinds = [self.dice.choice([*self.types, "f"] if self.dice.random() < 0.3 else self.types) for _ in range(many)]
        names = [f"{kind}-{next(self.numbers)}{self.marks[kind]}" for kind in kinds]
        for name in names:
            self.parents[name] = [*parents]
            if aftermath:
                self.aftermath.add(name)
            elif name.endswith("+"):
                self.effects.add(name)
                undone = [
                    event for event in [*self.undone, *self.requested] if name in descendants(self.parents, event)
                ]
                assert not undone, f"{name} follows from {undone}, of which the undoing had begun"
            self.open += [(name, agent) for agent in self.hearing.get(type_of(name), [])]
        return names

    def tell(self, fact: Fact) -> None:
        self.told.append(fact)
        crashed = self.dice.random() < 0.2
        self.kept, commands = advance(restarted(self.kept) if crashed else self.kept, fact, self)
        for command in commands:
            assert isinstance(command, Undo)
            self.check_order(command.event_id)
            self.requested.append(command.event_id)

    def check_order(self, event: str) -> None:
        """Nothing that follows from it and can be undone is left. That nothing more comes, `emit` sees."""
        left = (descendants(self.parents, event) & self.effects) - {*self.undone}
        assert not left, f"{event} before {left}"


def descendants(parents: Mapping[str, Sequence[str]], event: str) -> set[str]:
    children: defaultdict[str, list[str]] = defaultdict(list)
    for child, ones in parents.items():
        for parent in ones:
            children[parent].append(child)
    found: set[str] = set()
    ahead = [event]
    while ahead:
        new = [child for child in children[ahead.pop()] if child not in found]
        found.update(new)
        ahead += new
    return found


@pytest.mark.parametrize("hundred", range(20))
def test_s49_any_workflow_is_undone_once_and_backwards(hundred: int) -> None:
    """Whatever the graph, the order, the repeats and the number of failures: each effect of a failed workflow is undone
    exactly once, when nothing of it is left or on its way; of one that did not fail, none. Then it has ended."""
    for seed in range(hundred * 100, hundred * 100 + 100):
        world = World(random.Random(seed), size=1 + seed % 30)
        world.run()
        asked = sorted(world.undone + world.requested)
        completed = Phase.COMPLETED if world.effects else Phase.RUNNING
        assert (asked, world.ended_as) == (
            (sorted(world.effects), Phase.COMPENSATED) if world.failed else ([], completed)
        ), f"seed {seed}"
