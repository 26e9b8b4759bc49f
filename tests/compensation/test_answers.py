"""How the undoing of one effect can go, fact by fact, and what operators can say to it."""

from __future__ import annotations

import base64

import pytest

from antiphon.bus.intervention import Act, SagaIntervened
from antiphon.compensation.advance import advance
from antiphon.compensation.workflow import Fact, Park, Phase, Status, Undo, Workflow
from antiphon.testing.facts import NOBODY, Hears, did, said, told, undid

DEAD = "dead_lettered"
PARKED: list[Fact | SagaIntervened] = [
    did("root", "a+"),
    did("a+", "b+"),
    did("b+", "failed!"),
    undid("b+", outcome=DEAD, attempt=5),
]


@pytest.mark.parametrize("outcome", ["retried", "timed_out", "cancelled"])
def test_an_attempt_that_is_not_the_last_decides_nothing(outcome: str) -> None:
    """Neither of an event nor of an undo; it is counted."""
    mesh = Hears(root=["agent"])
    kept, asked = told(
        [did("root", outcome=outcome), did("root", "a+"), did("a+", "failed!"), undid("a+", outcome=outcome)], mesh
    )
    assert (kept.phase, asked, kept.effects["a+"].attempts) == (Phase.COMPENSATING, [[], [], ["a+"], []], 1)


def test_an_undo_that_is_given_up_parks_the_workflow() -> None:
    """It is told once, what led to it is not touched, and a redriven undo that works lets the rest go on."""
    kept, _ = told(PARKED[:3])
    given_up = undid("b+", outcome=DEAD, attempt=5)
    kept, commands = advance(kept, given_up, NOBODY)
    again, more = advance(kept, given_up, NOBODY)
    assert (kept.phase, commands, again, more) == (Phase.PARKED, [Park("b+", kept.effects["b+"])], kept, [])
    assert (kept.effects["b+"].problem, kept.effects["b+"].attempts) == ("ValueError: no such order", 5)

    kept, asked = told([undid("b+"), undid("a+")], workflow=kept)
    assert (kept.phase, asked) == (Phase.COMPENSATED, [["a+"], []])


def test_going_on_past_what_was_given_up() -> None:
    """What led to it is undone; it stays what it is."""
    kept, asked = told([*PARKED, undid("a+")], past_stuck=True)
    statuses = {id: effect.status for id, effect in kept.effects.items()}
    assert (kept.phase, asked[3], statuses) == (
        Phase.PARKED,
        ["a+"],
        {"a+": Status.UNDONE, "b+": Status.STUCK},
    )


def test_an_operator_has_it_tried_again() -> None:
    """Under the same id; a second failure is told again."""
    kept, asked = told([*PARKED, said(Act.RETRY), undid("b+", outcome=DEAD), said(Act.RETRY, "b+"), undid("b+")])
    assert (kept.phase, asked[4:]) == (Phase.COMPENSATING, [["b+"], [], ["b+"], ["a+"]])
    assert kept.effects["b+"].attempts == 5 + 1 + 1


def test_an_operator_skips_it() -> None:
    """Nothing claims that it was undone: who skipped it and why is kept."""
    kept, asked = told([*PARKED, said(Act.SKIP), undid("a+")])
    assert (kept.phase, asked[4]) == (Phase.COMPENSATED, ["a+"])
    assert [(effect.status, effect.problem) for effect in kept.effects.values()] == [
        (Status.UNDONE, ""),
        (Status.SKIPPED, "skipped by ann: she knows"),
    ]


def test_what_an_operator_skipped_stays_skipped() -> None:
    """Also when it is told a second time that its undo was given up, before he spoke; an undo that is redriven counts."""
    decided = [*PARKED, said(Act.SKIP), undid("a+")]
    skipped, _ = told(decided)
    assert told([PARKED[-1]], workflow=skipped) == (skipped, [[]])
    kept, _ = told([undid("b+")], workflow=skipped)
    assert kept.effects["b+"].status is Status.UNDONE


def test_an_operator_forces_it_on() -> None:
    """Neither what was given up nor what has not ended is waited for; what comes of that is late."""
    mesh = Hears(a=["slow", "agent"])
    facts: list[Fact | SagaIntervened] = [
        *PARKED,
        said(Act.FORCE),
        undid("a+"),
        did("a+", "c+", by="slow"),
        undid("c+"),
    ]
    kept, asked = told(facts, mesh)
    assert (kept.phase, asked[3:]) == (Phase.COMPENSATED, [[], ["a+"], [], ["c+"], []])
    assert kept.effects["c+"].late


@pytest.mark.parametrize("act", [Act.RETRY, Act.SKIP, Act.FORCE])
def test_what_does_not_fit_changes_nothing(act: Act) -> None:
    """Nothing was given up, and nothing failed."""
    running, _ = told([did("root", "a+")], Hears(a=["agent"]))
    assert told([said(act)], Hears(a=["agent"]), workflow=running) == (running, [[]])


def test_cancelling_undoes_what_was_done() -> None:
    """As if it had failed. A second word, or one while it is undone, changes nothing."""
    mesh = Hears(root=["agent"], a=["agent"])
    facts: list[Fact | SagaIntervened] = [
        did("root", "a+"),
        said(Act.CANCEL),
        did("a+", "b+"),
        said(Act.CANCEL),
        undid("b+"),
        undid("a+"),
    ]
    kept, asked = told(facts, mesh)
    assert (kept.phase, asked) == (Phase.COMPENSATED, [[], [], ["b+"], [], ["a+"], []])
    assert kept.failure is not None
    assert kept.failure.reason == "cancelled by ann: she knows"


def test_cancelling_what_has_ended_changes_nothing() -> None:
    """It completed first; that is final."""
    done, _ = told([did("root", "a+")])
    assert told([said(Act.CANCEL)], workflow=done) == (done, [[]])
    assert told([said(Act.CANCEL)]) == (Workflow(), [[]])


def test_the_aftermath_of_undoing_is_let_be() -> None:
    """What an undo emits may look like an effect or a failure; undoing that would never end."""
    facts = [
        did("root", "a+"),
        did("a+", "failed!"),
        undid("a+", "released+", "sorry!"),
        did("released+", "more+"),
        did("more+", outcome=DEAD),
        did("sorry!", failing=["sorry"]),
        did("x", "joined+", causes=["more+"]),
    ]
    kept, asked = told(facts)
    assert (kept.phase, asked) == (Phase.COMPENSATED, [[], ["a+"], [], [], [], [], []])


@pytest.mark.parametrize(("times", "action"), [(1, None), (2, "seat")])
def test_s15_of_what_was_asked_for_twice_a_copy_may_come_after_its_undo(times: int, action: str | None) -> None:
    """Then the request says which command that is, so that its agent passes the copy over; else it need keep nothing for that."""
    mesh = Hears(seat=["train"], taken=["voyage"], starts={"voyage": "planned"}, asks={"voyage": ["seat"]})
    asked = [did("planned", "seat", by="voyage"), *[did("told", "seat", by="voyage")] * (times - 1)]
    kept, _ = told([*asked, did("seat", "taken+", by="train"), did("taken+", by="voyage")], mesh)
    _, commands = advance(kept, did("lost!", failing=["lost"]), mesh)
    assert [(undo.event_id, undo.action) for undo in commands if isinstance(undo, Undo)] == [("taken+", action)]


@pytest.mark.parametrize(
    ("failing", "cause", "reason"),
    [
        (did("a+", "refused!", by="policy"), "refused!", "refused, said by policy"),
        (did("a+", by="answer", outcome=DEAD), "a+", "answer could not handle a: ValueError: no such order"),
        (did("a+", by="answer", outcome="expired"), "a+", "the deadline had passed when answer was to handle a"),
        (did("lost!", by="desk", failing=["lost"]), "lost!", "lost, heard by desk"),
    ],
)
def test_why_it_failed_goes_along(failing: Fact, cause: str, reason: str) -> None:
    """Each request says what for, and follows from the event that failed, also one that no agent said."""
    kept, _ = told([did("root", "a+", by="stock")])
    _, [undo] = advance(kept, failing, NOBODY)
    assert isinstance(undo, Undo)
    assert (undo.event_id, undo.effect.agent, undo.effect.type) == ("a+", "stock", "a")
    assert (undo.failure.event_id, undo.failure.reason) == (cause, reason)
    assert base64.b64decode(undo.effect.value) == b"a+"
