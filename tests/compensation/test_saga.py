"""What is undone, and in which order. Delivery by delivery, as activity tells it."""

from __future__ import annotations

import base64
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.bus.activity import Emitted, Failure, Handled
from antiphon.bus.undo import UndoRequested
from antiphon.compensation.saga import Fact, Phase, Saga, Undo, advance, undo_id


def did(event: str, *emitted: str, by: str = "agent", causes: Sequence[str] = (), outcome: str = "completed") -> Fact:
    """A delivery of *event*. What it emitted is an effect with "+" at its end, a failure with "!"."""
    return fact(event, "some.event", emitted, by=by, causes=causes, outcome=outcome)


def undid(event: str, *emitted: str, outcome: str = "completed") -> Fact:
    """A delivery of the request to undo *event*."""
    return fact(undo_id(event), UndoRequested.__event__.type, emitted, outcome=outcome)


def fact(
    event: str, type: str, emitted: Iterable[str], *, by: str = "agent", causes: Sequence[str] = (), outcome: str
) -> Fact:
    return Fact(
        by,
        Handled(
            event_id=event,
            event_type=type,
            correlation_id="w",
            topic="t",
            partition=0,
            offset=0,
            attempt=1,
            outcome=outcome,
            started_us=0,
            duration_us=0,
            queue_us=0,
            causes=[*causes],
            emitted=[
                Emitted(
                    id=name,
                    type=f"{name.rstrip('+!')}.happened",
                    fails=name.endswith("!"),
                    undo=name.encode() if name.endswith("+") else None,
                )
                for name in emitted
            ],
            error=Failure(type="ValueError", message="no such order") if outcome == "dead_lettered" else None,
        ),
    )


def play(*facts: Fact, saga: Saga | None = None) -> tuple[Phase, list[list[str]]]:
    """Tell *facts* to a coordinator that restarts before each; return its phase and what it asked to undo after each."""
    saga = saga or Saga()
    asked: list[list[str]] = []
    for known in facts:
        saga, undos = advance(Saga.model_validate(saga.model_dump(mode="json", exclude_defaults=True)), known)
        asked.append([undo.event_id for undo in undos])
    return saga.phase, asked


def test_s01_nothing_fails() -> None:
    """Effects alone are no reason to undo anything."""
    assert play(did("root", "a+"), did("a+", "b+")) == (Phase.RUNNING, [[], []])


def test_s02_a_later_step_refuses() -> None:
    """What was done before is undone last first, each once the one after it is undone."""
    assert play(did("root", "a+"), did("a+", "b+"), did("b+", "refused!"), undid("b+"), undid("a+")) == (
        Phase.COMPENSATED,
        [[], [], ["b+"], ["a+"], []],
    )


def test_s03_the_first_step_refuses() -> None:
    """Nothing was done, so there is nothing to undo."""
    assert play(did("root", "refused!")) == (Phase.COMPENSATED, [[]])


def test_s06_steps_without_undo_are_passed_over() -> None:
    """Events between two effects do not hide that one follows from the other."""
    assert play(did("root", "a+"), did("a+", "x"), did("x", "y"), did("y", "b+"), did("y", "failed!"), undid("b+")) == (
        Phase.COMPENSATING,
        [[], [], [], [], ["b+"], ["a+"]],
    )


def test_s11_a_branch_that_finishes_after_the_failure_is_undone_too() -> None:
    """Its effect came late; it is undone at once, and what led to both waits for it."""
    assert play(
        did("root", "a+"), did("a+", "x", "y"), did("x", "failed!"), undid("a+"), did("y", "b+"), undid("b+")
    ) == (Phase.COMPENSATED, [[], [], ["a+"], [], ["b+"], []])


def test_a_late_effect_holds_back_what_is_not_asked_for_yet() -> None:
    """Although the effect between the two is undone already."""
    assert play(
        did("root", "a+"),
        did("a+", "b+", "c+"),
        did("b+", "failed!", "x"),  # asks for b and c
        undid("b+"),
        did("x", "late+"),
        undid("c+"),
        undid("late+"),
    ) == (Phase.COMPENSATING, [[], [], ["c+", "b+"], [], ["late+"], [], ["a+"]])


def test_s12_diamond() -> None:
    """The join's effect first, then both branches at once, then the root's."""
    assert play(
        did("root", "a+"),
        did("a+", "left+", by="left"),
        did("a+", "right+", by="right"),
        did("right+", "joined+", causes=["left+"]),
        did("joined+", "failed!"),
        undid("joined+"),
        undid("left+"),
        undid("right+"),
    ) == (Phase.COMPENSATING, [[], [], [], [], ["joined+"], ["right+", "left+"], [], ["a+"]])


def test_s18_what_is_known_already_changes_nothing() -> None:
    """Every fact may come again, at once or later."""
    facts = [did("root", "a+"), did("a+", "failed!"), undid("a+")]
    assert play(*(again for known in facts for again in (known, *facts[: facts.index(known) + 1]))) == (
        Phase.COMPENSATED,
        [[], [], ["a+"], [], [], [], [], [], []],
    )


@pytest.mark.parametrize("outcome", ["retried", "timed_out", "cancelled", "skipped"])
def test_s20_an_attempt_that_is_not_the_last_decides_nothing(outcome: str) -> None:
    """Neither of an event nor of an undo."""
    assert play(
        did("root", outcome=outcome), did("root", "a+"), did("a+", "failed!"), undid("a+", outcome=outcome)
    ) == (
        Phase.COMPENSATING,
        [[], [], ["a+"], []],
    )


def test_s21_an_undo_that_fails_for_good_parks_the_workflow() -> None:
    """What led to it is not touched; a redriven undo that works lets the rest go on."""
    parked = [did("root", "a+"), did("a+", "b+"), did("b+", "failed!"), undid("b+", outcome="dead_lettered")]
    assert play(*parked) == (Phase.PARKED, [[], [], ["b+"], []])
    assert play(*parked, undid("b+"), undid("a+")) == (Phase.COMPENSATED, [[], [], ["b+"], [], ["a+"], []])


def test_s42_a_loop_is_undone_event_by_event() -> None:
    """One step that ran three times did three things."""
    assert play(did("root", "a1+", "a2+", "a3+", "failed!"), undid("a2+"), undid("a3+"), undid("a1+")) == (
        Phase.COMPENSATED,
        [["a3+", "a2+", "a1+"], [], [], []],
    )


def test_the_aftermath_of_undoing_is_let_be() -> None:
    """What an undo emits may look like an effect or a failure; undoing that would never end."""
    assert play(
        did("root", "a+"),
        did("a+", "failed!"),
        undid("a+", "released+", "sorry!"),
        did("released+", "more+", outcome="completed"),
        did("more+", outcome="dead_lettered"),
        did("x", "joined+", causes=["more+"]),
    ) == (Phase.COMPENSATED, [[], ["a+"], [], [], [], []])


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        (did("a+", "refused!", by="policy"), "refused.happened, said by policy"),
        (
            did("a+", by="answer", outcome="dead_lettered"),
            "answer could not handle some.event: ValueError: no such order",
        ),
        (
            did("a+", by="answer", outcome="expired"),
            "the deadline had passed when answer was to handle some.event",
        ),
    ],
)
def test_why_it_failed_goes_along(failing: Fact, reason: str) -> None:
    """Each request says what for, and follows from the event that failed."""
    saga, _ = advance(Saga(), did("root", "a+", by="stock"))
    _, [undo] = advance(saga, failing)
    assert (undo.event_id, undo.effect.agent, undo.effect.type, undo.failure.reason) == (
        "a+",
        "stock",
        "a.happened",
        reason,
    )
    assert base64.b64decode(undo.effect.value) == b"a+"
    assert undo.failure.event_id == (failing.delivery.emitted[0].id if failing.delivery.emitted else "a+")


def test_s52_a_workflow_without_effects_leaves_nothing() -> None:
    """Most workflows: the state stays empty, and empty state is forgotten."""
    saga = Saga()
    for known in (did("root", "x", "y"), did("x", "z"), did("z")):
        saga, _ = advance(saga, known)
    assert saga.model_dump(mode="json", exclude_defaults=True) == {}


class World:
    """A mesh at random: agents that handle events in any causal order, fail somewhere, and undo when they get to it."""

    def __init__(self, dice: random.Random, size: int) -> None:
        self.dice = dice
        self.size = size
        self.made = 0
        self.parents: dict[str, list[str]] = {"root": []}
        self.open = ["root"]
        self.requested: list[str] = []
        self.undone: set[str] = set()
        self.asked: list[str] = []
        self.told: list[Fact] = []
        self.effects: set[str] = set()
        self.aftermath: set[str] = set()
        self.failed = False
        self.saga = Saga()

    def run(self) -> None:
        while self.open or self.requested:
            if self.told and self.dice.random() < 0.2:
                self.tell(self.dice.choice(self.told))
            if self.requested and (not self.open or self.dice.random() < 0.4):
                self.undo(self.requested.pop(self.dice.randrange(len(self.requested))))
            else:
                self.handle(self.open.pop(self.dice.randrange(len(self.open))))

    def handle(self, event: str) -> None:
        known = [other for other in self.parents if other not in self.aftermath and other not in self.open]
        causes = self.dice.sample(known, min(len(known), self.dice.choice([0, 0, 0, 1, 2])))
        emitted = self.emit([event, *causes], aftermath=event in self.aftermath)
        dead = not emitted and self.dice.random() < 0.1
        if event not in self.aftermath:
            self.failed |= dead or any(name.endswith("!") for name in emitted)
        self.tell(did(event, *emitted, causes=causes, outcome="dead_lettered" if dead else "completed"))

    def undo(self, event: str) -> None:
        self.undone.add(event)
        self.tell(undid(event, *self.emit([undo_id(event)], aftermath=True)))

    def emit(self, parents: Sequence[str], *, aftermath: bool) -> list[str]:
        count = min(self.dice.choice([0, 1, 1, 2, 3]), self.size - self.made)
        names = [
            f"{self.made + n}{self.dice.choice(['', '', '+', '+', '!' if self.made > 3 else ''])}" for n in range(count)
        ]
        self.made += count
        for name in names:
            self.parents[name] = [*parents]
            if aftermath:
                self.aftermath.add(name)
            elif name.endswith("+"):
                self.effects.add(name)
        self.open += names
        return names

    def tell(self, known: Fact) -> None:
        self.told.append(known)
        self.saga, undos = advance(self.saga, known)
        for undo in undos:
            self.check_order(undo)
            self.asked.append(undo.event_id)
            self.requested.append(undo.event_id)

    def check_order(self, undo: Undo) -> None:
        """Whatever follows from it and can be undone has been."""
        following = descendants(self.parents, undo.event_id) & self.effects
        assert following <= self.undone, f"{undo.event_id} before {following - self.undone}"


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


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(min_value=1, max_value=40))
def test_s49_any_workflow_is_undone_once_and_backwards(dice: random.Random, size: int) -> None:
    """Whatever the graph, the interleaving and the repeats: each effect of a failed workflow is undone exactly once,
    after every effect that followed from it and had happened by then; of one that did not fail, none."""
    world = World(dice, size)
    world.run()

    assert sorted(world.asked) == (sorted(world.effects) if world.failed else [])
    assert world.saga.phase is (Phase.COMPENSATED if world.failed else Phase.RUNNING)
