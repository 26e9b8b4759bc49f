"""When a workflow has ended, and what is kept of it then."""

from __future__ import annotations

import pytest

from antiphon.compensation.workflow import Phase, Workflow
from antiphon.testing.facts import Hears, did, told, undid

SHOP = Hears(placed=["stock"], reserved=["card"])


def test_it_has_ended_when_all_who_hear_an_event_are_through() -> None:
    """Nobody needs to say so."""
    facts = [did("placed", "reserved+", by="stock"), did("reserved+", by="card")]
    assert [told(facts[:count], SHOP)[0].phase for count in (1, 2)] == [Phase.RUNNING, Phase.COMPLETED]


def test_of_one_that_did_nothing_undoable_nothing_is_kept() -> None:
    """Most workflows. Where nothing undoable can come, nothing is kept while it runs either."""
    facts = [did("placed", "reserved", by="stock"), did("reserved", by="card")]
    assert [told(facts[:count], SHOP)[0] == Workflow() for count in (1, 2)] == [False, True]
    harmless = Hears(placed=["stock"], reserved=["card"], harmless=["placed", "reserved"])
    assert told(facts[:1], harmless)[0] == Workflow()


def test_a_failure_that_is_added_later_undoes_what_was_done() -> None:
    """A person was asked, and says no when nothing was outstanding any more."""
    facts = [did("root", "a+"), did("a+", "b+"), did("no!", by="desk", failing=["no"]), undid("b+"), undid("a+")]
    kept, asked = told(facts)
    assert (kept.phase, asked) == (Phase.COMPENSATED, [[], [], ["b+"], ["a+"], []])


def test_an_effect_that_comes_after_all_was_undone_is_undone() -> None:
    """The workflow is not revived: what the late agent did is undone when it comes, and nothing else again."""
    kept, _ = told([did("root", "a+"), did("a+", "failed!"), undid("a+")])
    assert kept.phase is Phase.COMPENSATED
    kept, asked = told([did("a+", "late+", by="newcomer"), did("root", "a+"), undid("late+")], workflow=kept)
    assert (kept.phase, asked) == (Phase.COMPENSATED, [["late+"], [], []])


@pytest.mark.parametrize(("queued_s", "phase"), [(5, Phase.RUNNING), (86_400, Phase.COMPLETED)])
def test_an_agent_that_handles_what_is_long_past_waits_for_nobody(queued_s: float, phase: Phase) -> None:
    """It was deployed today and handles yesterday's events: that others handled them yesterday need not be known."""
    fact = did("placed", "noted+", by="newcomer", queued_s=queued_s)
    assert told([fact], SHOP)[0].phase is phase
