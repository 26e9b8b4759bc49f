"""How the coordinator counts its workflows: what stands in its state, and what other releases left there."""

from __future__ import annotations

from collections.abc import Mapping

import orjson
import pytest

from antiphon.compensation.census import Census
from antiphon.compensation.kept import Kept
from antiphon.compensation.store import Change
from antiphon.compensation.workflow import Workflow
from antiphon.testing.clock import FakeClock
from antiphon.testing.delivery import MemoryState

RUNNING, PARKED = Workflow(), Workflow(halted="it must")


class Room:
    """A partition's state, and whoever counts in it now."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.state = MemoryState()
        self.takes_over()

    def takes_over(self) -> None:
        """Have another process count."""
        self.census = Census(self.clock.now_us)

    def take(self, changes: Mapping[str, tuple[Workflow | None, Workflow | None]], *, committed: bool = True) -> None:
        """Have workflows change, as one delivery does."""
        for id, (_, after) in changes.items():
            mapping = self.state.mapping(id)
            mapping.clear()
            mapping.update({} if after is None else Kept(after, 1, 2).written())
        self.census.take(0, self.state, [Change(id, *pair) for id, pair in changes.items()])
        self.state.keep() if committed else self.state.drop()

    @property
    def told(self) -> tuple[float, float]:
        """How many are parked, and since when the oldest."""
        figures = {" ".join([one.name, *one.labels.values()]): one.value for one in self.census.figures([0])}
        return figures["sagas parked"], figures["saga_oldest_parked_seconds"]


def test_one_more_rewrites_little() -> None:
    """However many are parked: no record of state grows with their number as fast as they do, and none is written in vain."""
    room = Room()
    room.take({f"w{number}": (None, PARKED) for number in range(6_400)})
    room.census.take(0, room.state, [Change("other", None, RUNNING)])
    assert [*room.state.changed()] == ["antiphon:census"]
    room.census.take(0, room.state, [Change("another", RUNNING, PARKED)])
    sizes = {key: len(value or b"") for key, value in room.state.changed().items()}
    assert len(sizes) == 2
    assert max(sizes.values()) < 5_000


@pytest.mark.parametrize("look", [{}, {"w9": (None, RUNNING)}])
def test_whoever_takes_over_knows(look: Mapping[str, tuple[None, Workflow]]) -> None:
    """With the first record, or the first look: since when which one is parked stands in the state."""
    room = Room()
    room.take({"w1": (None, PARKED)})
    room.clock.advance(10)
    room.take({"w2": (RUNNING, PARKED)})
    room.takes_over()
    room.take(look)
    assert room.told == (2, 10)
    room.take({"w1": (PARKED, RUNNING)})
    assert room.told == (1, 0)


def test_what_was_not_committed_is_not_counted() -> None:
    """The delivery comes again, and something else may have come before it."""
    room = Room()
    room.take({"w1": (None, PARKED)})
    room.clock.advance(10)
    room.take({"w1": (PARKED, None), "w2": (None, PARKED)}, committed=False)
    assert room.told == (1, 0)
    room.take({})
    assert room.told == (1, 10)


def test_what_an_earlier_release_counted_is_taken_over() -> None:
    """It kept all that are parked under one key: that one goes, and what it says stays."""
    room = Room()
    now_us = room.clock.now_us()
    since = {"w1": now_us - 30_000_000, "w2": now_us - 20_000_000, "w3": now_us}
    room.take(dict.fromkeys(since, (None, PARKED)))
    for key in [key for key in room.state.values if key.startswith("antiphon:")]:
        room.state.mapping(key).clear()
    room.state.mapping("antiphon:census").update(parked=3, running=1, since=since)
    room.state.keep()
    room.takes_over()
    room.take({"w1": (PARKED, RUNNING)})
    assert room.told == (2, 20)
    census = room.state.values["antiphon:census"]
    assert {name: census.get(name) for name in ("parked", "running", "since")} == {
        "parked": 2,
        "running": 2,
        "since": None,
    }


def test_what_an_earlier_release_let_go_is_missed() -> None:
    """In a rolling deployment, or after going back: it knows of no pages, and parks and lets go under its one key."""
    room = Room()
    room.take({"w1": (None, PARKED), "w2": (None, PARKED)})
    room.clock.advance(10)
    census = room.state.mapping("antiphon:census")
    census.update(parked=2, running=1, since={"w3": room.clock.now_us()})
    room.state.mapping("w1").update(Kept(RUNNING, 1, 2).written())
    room.state.mapping("w3").update(Kept(PARKED, 1, 2).written())
    room.state.keep()
    room.clock.advance(1)
    room.take({})
    assert room.told == (2, 11)
    room.take({"w2": (PARKED, None)})
    assert room.told == (1, 1)


def test_a_damaged_page_costs_its_own_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Those that stand on it have no time; the others do, and all are counted."""
    room = Room()
    ids = [f"w{number}" for number in range(20)]
    room.take(dict.fromkeys(ids, (None, PARKED)))
    page = next(key for key, value in room.state.values.items() if key.startswith("antiphon:parked/") and "w3" in value)
    room.state.mapping(page).update({"x": "y"})
    room.state.keep()
    room.takes_over()
    room.clock.advance(5)
    for id in ("w3", "w4"):
        room.take({id: (PARKED, RUNNING)})
    assert room.told == (18, 5)
    assert [record.message for record in caplog.records] == ["workflows are not counted"]
    assert orjson.loads(orjson.dumps(room.state.values[page]))["x"] == "y"
