"""What a recording tells: how each handling ended, and the state before it, never guessed."""

from __future__ import annotations

from antiphon.bus.activity import Activity, Emitted, Failure, Handled
from antiphon.bus.undo import UndoRequested
from antiphon.replay.choice import Choice
from antiphon.replay.recording import UNKNOWN, Before, Change, Handling, StatesBefore, handlings


def entry(event: str, *, at: int, workflow: str = "w", outcome: str = "completed", **more: object) -> Handled:
    said = {"event_type": "order.placed", "topic": "order.placed", "partition": 0, "offset": at, "attempt": 1}
    times = {"started_us": at, "duration_us": 1, "queue_us": 0}
    return Handled.model_validate(
        {**said, **times, "event_id": event, "correlation_id": workflow, "outcome": outcome, **more}
    )


def told(*entries: Handled, agent: str = "stock") -> Activity:
    return Activity(agent=agent, version="1", instance="one", deliveries=[*entries])


def handled(*entries: Handled, agent: str = "stock") -> list[Handling]:
    return handlings([told(*entries, agent=agent)])


def before(found: list[Handling], *changes: Change) -> list[Before]:
    states = StatesBefore(found, {"stock": changes})
    return [states.before(handling) for handling in found]


def test_a_handling_is_what_it_ended_as() -> None:
    """Attempts before it are its past; of one that was set aside and redriven the last end counts. Undos are none."""
    found = handled(
        entry("b", at=5),
        entry("a", at=1, outcome="retried"),
        entry("a", at=2, outcome="dead_lettered"),
        entry("a", at=9),
        entry("u", at=7, event_type=UndoRequested.__event__.type),
    )

    assert [(one.entry.event_id, one.entry.started_us, one.entry.outcome) for one in found] == [
        ("b", 5, "completed"),
        ("a", 9, "completed"),
    ]


def test_state_before_a_handling_is_what_the_one_before_left() -> None:
    """One that changed nothing leaves what it found; a workflow begins with none."""
    found = handled(entry("a", at=1, changed=True), entry("b", at=2), entry("c", at=3, changed=True), entry("d", at=4))
    states = before(found, Change("w", "a", b"1"), Change("w", "c", b"2"))

    assert states == [Before(True), Before(True, b"1"), Before(True, b"1"), Before(True, b"2")]


def test_what_side_effects_left_while_it_ran_is_not_what_stood_before() -> None:
    """A handling may write several records of its key."""
    found = handled(entry("a", at=1, changed=True), entry("b", at=2, changed=True))
    states = before(found, Change("w", "a", b"1"), Change("w", "b", b"1+once"), Change("w", "b", b"2"))

    assert states == [Before(True), Before(True, b"1")]


def test_state_that_was_compacted_away_is_unknown_until_a_record_tells() -> None:
    """It is not taken for the state before that."""
    found = handled(*(entry(id, at=at, changed=True) for at, id in enumerate("abcd")))
    states = before(found, Change("w", "c", b"3"), Change("w", "d", b"4"))

    assert states == [Before(True), UNKNOWN, UNKNOWN, Before(True, b"3")]


def test_state_of_a_key_field_may_be_older_than_what_is_recorded() -> None:
    """So before the first handling it is known only where a record tells."""
    found = handled(entry("a", at=1, key="k", changed=True), entry("b", at=2, key="k", changed=True))

    assert before(found, Change("k", "a", b"1"), Change("k", "b", b"2")) == [UNKNOWN, Before(True, b"1")]
    assert before(found, Change("k", None, b"0"), Change("k", "a", b"1")) == [Before(True, b"0"), Before(True, b"1")]


WORKFLOWS = handlings(
    [
        told(
            entry("a", at=1, workflow="w1", emitted=[Emitted(id="b", type="stock.reserved")]),
            entry("x", at=3, workflow="w2", outcome="dead_lettered"),
            entry("late", at=4, workflow="w2", outcome="expired"),
            entry(
                "round", at=5, workflow="w2", outcome="dead_lettered", error=Failure(type="HopLimitError", message="")
            ),
        ),
        told(entry("b", at=2, workflow="w1", event_type="stock.reserved"), agent="card"),
    ]
)


def chosen(choice: Choice) -> list[str]:
    return [handling.entry.event_id for handling in choice.of(WORKFLOWS)]


def test_handlings_are_chosen_by_what_they_were() -> None:
    """All that is asked has to hold; what no handler ran for is never run again."""
    assert chosen(Choice()) == ["a", "b", "x"]
    assert chosen(Choice(workflows=frozenset({"w1"}))) == ["a", "b"]
    assert chosen(Choice(agents=frozenset({"card"}))) == ["b"]
    assert chosen(Choice(types=frozenset({"order.placed"}))) == ["a", "x"]
    assert chosen(Choice(since_us=2, until_us=3)) == ["b"]
    assert chosen(Choice(failed=True)) == ["x"]
    assert chosen(Choice(last=1)) == ["x"]
    assert chosen(Choice(event="a")) == ["a", "b"]
