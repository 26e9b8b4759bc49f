"""Which state a workflow is in, and what is still to do."""

from typing import NamedTuple

import pytest

from antiphon.schemas.envelope import Envelope
from antiphon.schemas.ids import caused_id
from antiphon.testing.story import START_US, Says, Story
from antiphon.tracing.seen import SeenEvent
from antiphon.tracing.workflow import Workflow


def verdict(workflow: Workflow) -> tuple[str, list[tuple[str, str]]]:
    """The state, and who owes what: agent and event type."""
    types = {event.id: event.envelope.type for event in workflow.events}
    return workflow.state.value, [(pair.agent, types.get(pair.event_id, "unseen")) for pair in workflow.outstanding]


def order() -> Story:
    """An order that stock and card answer, and of which stock can undo its part."""
    story = Story()
    story.works("stock", hears=["order.placed"], emits=["stock.reserved"], undoes=["stock.reserved"])
    story.works("card", hears=["order.placed"], emits=["card.charged"], fails=["card.declined"])
    return story


def test_running_until_every_subscriber_is_through() -> None:
    """A workflow's end is known, not guessed."""
    story = order()
    placed = story.published("order.placed")
    assert verdict(story.stitched()) == ("running", [("card", "order.placed"), ("stock", "order.placed")])
    story.handled("stock", placed, Says("stock.reserved", undo=True))
    assert verdict(story.stitched()) == ("running", [("card", "order.placed")])
    story.handled("card", placed, Says("card.charged"))
    assert verdict(story.stitched()) == ("completed", [])


def test_an_event_nobody_hears_is_the_end() -> None:
    """That nobody subscribes is a fact, not an error."""
    story = Story()
    story.published("order.placed")
    assert verdict(story.stitched()) == ("completed", [])


def test_a_retry_is_not_the_end() -> None:
    """Only a final outcome settles what an agent owes."""
    story = order()
    placed = story.published("order.placed")
    story.handled("card", placed)
    for attempt, outcome in enumerate(("retried", "timed_out", "cancelled"), start=1):
        story.handled("stock", placed, attempt=attempt, outcome=outcome)
        assert verdict(story.stitched()) == ("running", [("stock", "order.placed")])
    story.handled("stock", placed, attempt=4, outcome="skipped")
    assert verdict(story.stitched()) == ("completed", [])


def test_a_dead_letter_fails_at_once_and_the_rest_goes_on() -> None:
    """The failure shows before the slowest branch is done."""
    story = order()
    placed = story.published("order.placed")
    story.handled("stock", placed, outcome="dead_lettered")
    assert verdict(story.stitched()) == ("failed", [("card", "order.placed")])


def test_an_expired_event_fails() -> None:
    """Work that was not started in time was not done."""
    story = order()
    placed = story.published("order.placed")
    story.handled("card", placed)
    story.handled("stock", placed, outcome="expired")
    assert verdict(story.stitched()) == ("failed", [])


def test_a_redriven_dead_letter_heals() -> None:
    """Once the event has been handled after all, its workflow has not failed."""
    story = order()
    placed = story.published("order.placed")
    story.handled("card", placed)
    story.handled("stock", placed, outcome="dead_lettered")
    story.handled("stock", placed, at_ms=9_000)
    assert verdict(story.stitched(now_ms=1)) == ("completed", [])


def test_a_failing_type_fails_without_its_activity() -> None:
    """The agents say which types fail, also for an event published from outside."""
    story = Story()
    story.works("card", fails=["card.declined"])
    story.published("card.declined")
    assert verdict(story.stitched()) == ("failed", [])


def declined(story: Story) -> tuple[Story, list[str]]:
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [refused] = story.handled("card", placed, Says("card.declined", fails=True))
    seen = [verdict(story.stitched())[0]]
    asked = story.undo_asked(reserved, refused)
    seen.append(verdict(story.stitched())[0])
    story.handled("stock", asked, attempt=1, outcome="retried")
    seen.append(verdict(story.stitched())[0])
    story.handled("stock", asked, attempt=2)
    seen.append(verdict(story.stitched())[0])
    return story, seen


def test_compensating_from_the_failure_on() -> None:
    """The coordinator owes a request for what can be undone: between failure and request nothing has ended."""
    story = order()
    story.works("compensation")
    assert declined(story)[1] == ["compensating", "compensating", "compensating", "compensated"]


def test_without_a_coordinator_nothing_is_about_to_be_undone() -> None:
    """Nobody owes what nobody will do."""
    assert declined(order())[1] == ["failed", "compensating", "compensating", "compensated"]


def test_the_coordinator_owes_the_next_wave() -> None:
    """Effects are undone before their causes; between two waves the workflow is not done."""
    story = order()
    story.works("compensation")
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [packed] = story.handled("pack", reserved, Says("parcel.packed", undo=True))
    [refused] = story.handled("card", placed, Says("card.declined", fails=True))
    story.handled("pack", story.undo_asked(packed, refused))
    assert verdict(story.stitched()) == ("compensating", [("compensation", "card.declined")])


def test_an_undo_is_owed_by_its_agent_alone() -> None:
    """Whoever else says that it hears undo requests does not get this one."""
    story = order()
    story.works("nosy", hears=["antiphon.undo.requested"])
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [refused] = story.handled("card", placed, Says("card.declined", fails=True))
    story.undo_asked(reserved, refused)
    assert verdict(story.stitched()) == ("compensating", [("stock", "antiphon.undo.requested")])


def test_an_undo_set_aside_parks() -> None:
    """Nothing goes on until a person decides."""
    story = order()
    story.works("compensation")
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [refused] = story.handled("card", placed, Says("card.declined", fails=True))
    story.handled("stock", story.undo_asked(reserved, refused), outcome="dead_lettered")
    workflow = story.stitched()
    assert (verdict(workflow), workflow.settled) == (("parked", []), True)


def given_up(story: Story) -> tuple[SeenEvent, SeenEvent]:
    """Have the undo of a reservation given up; return the request and the reservation."""
    story.works("compensation")
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [refused] = story.handled("card", placed, Says("card.declined", fails=True))
    return story.undo_asked(reserved, refused), reserved


def saga_said(
    story: Story, type: str, at_ms: float, *, parent_id: str | None = None, source: str = "/test", **data: str | None
) -> None:
    """Something is said about the workflow's undoing."""
    id = caused_id(story.root_id, type, len(story.events))
    envelope = Envelope(
        id=id,
        type=f"antiphon.saga.{type}",
        source=source,
        time_us=START_US + round(at_ms * 1_000),
        correlation_id=story.root_id,
        parent_id=parent_id,
    )
    story.seen(envelope, data, topic="antiphon.saga.events")


def test_the_coordinator_says_that_it_is_parked() -> None:
    """Also where nothing was set aside, or that is not seen; until somebody decides, and again when that did not help."""
    story = order()
    request, reserved = given_up(story)
    states: list[str] = []
    for word, at_ms in (("parked", 10), ("intervened", 20), ("parked", 30), ("intervened", 40)):
        saga_said(story, word, at_ms, parent_id=request.id, event_id=reserved.id, act="retry")
        states.append(story.stitched().state.value)
    assert states == ["parked", "compensating", "parked", "compensating"]
    story.handled("stock", request)
    assert story.stitched().state.value == "compensated"


@pytest.mark.parametrize("act", ["retry", "skip", "force"])
def test_what_was_decided_is_not_parked(act: str) -> None:
    """Neither what was set aside: it is tried again, or gone past."""
    story = order()
    request, _ = given_up(story)
    story.handled("stock", request, outcome="dead_lettered")
    assert story.stitched().state.value == "parked"
    saga_said(story, "intervened", 100, act=act, event_id=None)
    assert story.stitched().state.value != "parked"


def test_stalled_when_nobody_is_there() -> None:
    """The last worker stopped, or has not been heard of for three intervals; what it owes stays owed."""
    stopped, silent = order(), order()
    for story in (stopped, silent):
        story.handled("card", story.published("order.placed"))
    stopped.works("stock", hears=["order.placed"], at_ms=1, stopped=True)
    assert verdict(stopped.stitched()) == ("stalled", [("stock", "order.placed")])
    assert verdict(silent.stitched(now_ms=3_000)) == ("running", [("stock", "order.placed")])
    assert verdict(silent.stitched(now_ms=3_001)) == ("stalled", [("stock", "order.placed")])


def test_compensation_stalls_too() -> None:
    """Undos are due, and the agent that owes one is gone."""
    story = order()
    placed = story.published("order.placed")
    [reserved] = story.handled("stock", placed, Says("stock.reserved", undo=True))
    [refused] = story.handled("card", placed, Says("card.declined", fails=True))
    story.undo_asked(reserved, refused)
    assert verdict(story.stitched(now_ms=60_000)) == ("stalled", [("stock", "antiphon.undo.requested")])


def test_another_worker_of_the_agent_takes_over() -> None:
    """One live worker is enough."""
    story = order()
    placed = story.published("order.placed")
    story.handled("card", placed)
    story.works("stock", hears=["order.placed"], at_ms=1, stopped=True)
    story.works("stock", hears=["order.placed"], instance="stock-2")
    assert verdict(story.stitched()) == ("running", [("stock", "order.placed")])


def test_what_an_older_version_heard_is_not_owed() -> None:
    """A new version that no longer subscribes owes nothing; the old worker's last word does not count against it."""
    story = Story()
    story.works("stock", hears=["order.placed"], stopped=True)
    story.works("stock", hears=["order.changed"], instance="stock-2", version="2")
    story.published("order.placed")
    assert verdict(story.stitched()) == ("completed", [])


def test_a_gap_takes_back_a_good_end_only() -> None:
    """What is missing may have led anywhere, so it did not simply complete; that it failed stays certain."""
    story = Story()
    lost = Story().published("order.placed")
    story.handled("stock", lost, Says("stock.reserved"))
    assert verdict(story.stitched()) == ("incomplete", [])
    story.works("stock", fails=["stock.reserved"])
    assert verdict(story.stitched()) == ("failed", [])


def test_an_unseen_event_is_still_owed() -> None:
    """Activity tells of an event before a reader has found it: its subscribers owe it all the same."""
    story = Story()
    story.works("mail", hears=["order.confirmed"])
    story.handled("stock", story.published("order.placed"), Says("order.confirmed"))
    story.events.pop()
    assert verdict(story.stitched()) == ("running", [("mail", "unseen")])


class Voyage(NamedTuple):
    """A voyage whose saga has asked for a train and a hotel; the train is reserved, and can be undone."""

    story: Story
    planned: SeenEvent
    train: SeenEvent
    hotel: SeenEvent
    reserved: SeenEvent

    @property
    def verdict(self) -> tuple[str, list[tuple[str, str]]]:
        return verdict(self.story.stitched())

    def fails(self, scope: str | None, *, by: str = "voyage") -> SeenEvent:
        """A saga says that what follows from *scope* is to be undone."""
        said = Says(FAILED, {"scope": scope} if scope else {}, fails=True, topic="antiphon.saga.events")
        [failed] = self.story.handled(by, self.reserved, said)
        return failed


FAILED = "antiphon.saga.failed"


@pytest.fixture
def voyage() -> Voyage:
    story = Story()
    story.works("voyage", hears=["voyage.planned"], emits=["reserve.train", "reserve.hotel"], fails=[FAILED])
    story.works("train", hears=["reserve.train"], emits=["train.reserved"], undoes=["train.reserved"])
    story.works("hotel", hears=["reserve.hotel"], fails=["hotel.full"])
    story.works("compensation")
    planned = story.published("voyage.planned")
    train, hotel = story.handled("voyage", planned, Says("reserve.train"), Says("reserve.hotel"))
    [reserved] = story.handled("train", train, Says("train.reserved", undo=True))
    return Voyage(story, planned, train, hotel, reserved)


def test_a_step_that_a_saga_goes_on_without_is_no_failure(voyage: Voyage) -> None:
    """What it refused was told to the saga, which left it."""
    [full] = voyage.story.handled("hotel", voyage.hotel, Says("hotel.full", fails=True))
    assert voyage.verdict == ("compensating", [("compensation", "hotel.full")])
    saga_said(voyage.story, "told", 50, what="failed", event_id=full.id, about=voyage.hotel.id)
    voyage.fails(voyage.hotel.id)
    assert voyage.verdict == ("completed", [])


def test_what_an_optional_step_did_is_undone_while_the_rest_runs(voyage: Voyage) -> None:
    """The train, which was optional: nothing says that the workflow is undone."""
    failed = voyage.fails(voyage.train.id)
    assert voyage.verdict == ("running", [("hotel", "reserve.hotel"), ("compensation", FAILED)])
    asked = voyage.story.undo_asked(voyage.reserved, failed)
    assert voyage.verdict == ("running", [("hotel", "reserve.hotel"), ("train", "antiphon.undo.requested")])
    voyage.story.handled("train", asked)
    voyage.story.handled("hotel", voyage.hotel)
    assert voyage.verdict == ("completed", [])


@pytest.mark.parametrize(
    ("scope", "state"),
    [("planned", "compensating"), ("train", "compensating"), ("hotel", "failed"), (None, "compensating")],
    ids=["all", "what the train's command started", "what the hotel's started", "it cannot be read"],
)
def test_what_follows_from_where_a_saga_began_is_undone(voyage: Voyage, scope: str | None, state: str) -> None:
    """And nothing else; what cannot be read is taken for all."""
    voyage.story.handled("hotel", voyage.hotel)
    begun = {"planned": voyage.planned.id, "train": voyage.train.id, "hotel": voyage.hotel.id}
    voyage.fails(begun.get(scope or ""), by="nested")
    assert voyage.verdict == (state, [("compensation", FAILED)] if state == "compensating" else [])


def test_a_saga_that_can_undo_its_own_command_is_owed_that() -> None:
    """The command is an effect of the saga's."""
    story = Story()
    story.works("voyage", hears=["voyage.planned"], emits=["charge.card"], undoes=["charge.card"], fails=[FAILED])
    story.works("compensation")
    planned = story.published("voyage.planned")
    [charge] = story.handled("voyage", planned, Says("charge.card", undo=True))
    Voyage(story, planned, charge, charge, charge).fails(charge.id)
    assert verdict(story.stitched()) == ("running", [("compensation", FAILED)])


def test_a_workflow_that_is_cancelled_is_undone_whole(voyage: Voyage) -> None:
    """Also what a saga would have gone on with."""
    voyage.story.handled("hotel", voyage.hotel)
    voyage.fails(voyage.hotel.id)
    assert voyage.verdict == ("completed", [])
    saga_said(voyage.story, "intervened", 70, act="cancel", event_id=None)
    assert voyage.verdict == ("compensating", [("compensation", FAILED)])
