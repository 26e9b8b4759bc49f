"""What is undone after what, fact by fact."""

from __future__ import annotations

from antiphon.compensation.advance import advance
from antiphon.compensation.workflow import Phase
from antiphon.testing.facts import NOBODY, Hears, did, told, undid


def test_last_done_first_undone() -> None:
    """Each is asked for once the one after it is undone."""
    kept, asked = told([did("root", "a+"), did("a+", "b+"), did("b+", "refused!"), undid("b+"), undid("a+")])
    assert (kept.phase, asked) == (Phase.COMPENSATED, [[], [], ["b+"], ["a+"], []])


def test_events_without_undo_do_not_hide_what_follows_from_what() -> None:
    """However many stand between two effects."""
    mesh = Hears(x=["agent"], y=["agent", "other"])
    facts = [did("root", "a+"), did("a+", "x"), did("x", "y"), did("y", "b+"), did("y", "failed!", by="other")]
    assert told([*facts, undid("b+")], mesh)[1] == [[], [], [], [], ["b+"], ["a+"]]


def test_a_diamond() -> None:
    """The join's effect first, then both branches at once, then the root's."""
    _, asked = told(
        [
            did("root", "a+"),
            did("a+", "left+"),
            did("a+", "right+"),
            did("right+", "joined+", causes=["left+"]),
            did("joined+", "failed!"),
            undid("joined+"),
            undid("left+"),
            undid("right+"),
        ]
    )
    assert asked == [[], [], [], [], ["joined+"], ["right+", "left+"], [], ["a+"]]


def test_what_may_still_run_is_waited_for_where_something_may_follow() -> None:
    """The sibling's branch holds back what it follows from, and nothing else."""
    mesh = Hears(a=["x", "y"])
    facts = [did("root", "a+", "b+"), did("a+", "failed!", by="x"), undid("b+"), did("a+", "c+", by="y"), undid("c+")]
    assert told(facts, mesh)[1] == [[], ["b+"], [], ["c+"], ["a+"]]


def test_what_can_bring_no_effect_is_not_waited_for() -> None:
    """A slow agent that only reports holds nothing back; the workflow has not ended without it all the same."""
    mesh = Hears(a=["x"], failed=["reporter"], harmless=["failed"])
    facts = [did("root", "a+"), did("a+", "failed!", by="x"), undid("a+"), did("failed!", by="reporter")]
    assert [told(facts[:count], mesh)[0].phase for count in (3, 4)] == [Phase.COMPENSATING, Phase.COMPENSATED]
    assert told(facts, mesh)[1] == [[], ["a+"], [], []]


def test_what_a_join_holds_is_waited_for_while_it_may_fire() -> None:
    """Its other event is on its way: what it then says would follow from both."""
    facts = [
        did("root", "a+", "slow"),
        did("a+", by="join"),
        did("a+", "failed!", by="x"),
        did("slow", "b+", by="z"),
        did("b+", "c+", by="join", causes=["a+"]),
    ]
    assert told(facts, Joining())[1] == [[], [], [], [], ["c+"]]


class Joining(Hears):
    """`join` joins a and b; x hears a too, and z what leads to b."""

    def __init__(self) -> None:
        super().__init__(a=["join", "x"], b=["join"], slow=["z"])

    def joins(self, agent: str, type: str) -> bool:
        return agent == "join"


def test_a_late_effect_holds_back_what_is_not_asked_for_yet() -> None:
    """Of an agent that nobody knew: what it did is undone when it comes, marked, and before what led to it."""
    kept, asked = told(
        [
            did("root", "a+"),
            did("a+", "b+", "c+"),
            did("b+", "failed!", "x"),
            undid("b+"),
            did("x", "late+"),
            undid("c+"),
            undid("late+"),
        ]
    )
    assert asked == [[], [], ["c+", "b+"], [], ["late+"], [], ["a+"]]
    assert [id for id, effect in kept.effects.items() if effect.late] == ["late+"]


def test_a_loop_is_undone_event_by_event() -> None:
    """What ran three times did three things."""
    facts = [did("root", "a-1+", "a-2+", "a-3+", "failed!"), undid("a-2+"), undid("a-3+"), undid("a-1+")]
    kept, asked = told(facts, NOBODY)
    assert (kept.phase, asked) == (Phase.COMPENSATED, [["a-3+", "a-2+", "a-1+"], [], [], []])


def test_s19_what_is_told_before_its_cause_finds_its_place() -> None:
    """Activity of agents without transactions may be out of order."""
    facts = [did("a+", "b+"), did("root", "a+"), did("b+", "failed!"), undid("b+")]
    assert told(facts)[1] == [[], [], ["b+"], ["a+"]]


def test_what_is_forgotten_leaves_no_gap() -> None:
    """Of a workflow of hundreds of events few are kept, and what follows from what is known all the same."""
    kept, _ = told([did("root", "a+"), did("a+", "x-0")], Hears(x=["loop"]))
    for n in range(500):
        kept, _ = advance(kept, did(f"x-{n}", f"x-{n + 1}", by="loop"), Hears(x=["loop"]))
    assert len(kept.events) <= 200
    kept, asked = told([did("x-500", "b+", "failed!", by="loop"), undid("b+")], Hears(x=["loop"]), workflow=kept)
    assert asked == [["b+"], ["a+"]]
