"""What the demo makes of the events it follows."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from antiphon.cli.demo.board import Board, Heard, Package, Stage, summarise

IDENTIFIED = {"licence": "MIT", "confidence": 0.99, "file": "LICENSE", "declared": "MIT", "agrees": True}
DECIDED = {"licence": "MIT", "confidence": 0.99, "reason": "so"}


def heard(type: str, data: Mapping[str, object] | None = None, *, workflow: str = "w1", time_us: int = 0) -> Heard:
    return Heard(type, workflow, time_us, data or {})


def board(*events: Heard) -> Board:
    made = Board(1)
    made.submit("w1", "thing", "1.0", 1_000_000)
    for event in events:
        made.hear(event)
    return made


REFUSED = [
    heard("package.read"),
    heard("package.reserved"),
    heard("licence.identified", IDENTIFIED),
    heard("package.refused", DECIDED, time_us=3_500_000),
    heard("package.released"),
]


def test_events_of_several_topics_come_in_any_order() -> None:
    """A package never goes back a stage, so each order ends in the same row."""
    rows = {repr(board(*order).packages["w1"]) for order in itertools.permutations(REFUSED)}
    assert len(rows) == 1
    assert board(*REFUSED).packages["w1"] == Package(
        "thing",
        "1.0",
        "w1",
        1_000_000,
        stage=Stage.REFUSED,
        ended_us=3_500_000,
        licence="MIT",
        confidence=0.99,
        reason="so",
        declared="MIT",
        judged="MIT",
        file="LICENSE",
        agrees=True,
        released=True,
    )


def test_a_refused_package_is_settled_when_it_is_undone() -> None:
    """And not before: the demo shows that the catalogue is clean."""
    read, _, *identified_and_refused, released = REFUSED
    assert not board(*REFUSED[:-1]).settled
    assert not board(read, *identified_and_refused).settled  # its reservation is read later
    assert board(*REFUSED).settled
    assert board(read, *identified_and_refused, released).settled


def test_an_unreadable_package_is_settled_at_once() -> None:
    """Nothing was reserved, so nothing is undone."""
    row = board(heard("package.unreadable", {"problem": "no METADATA"})).packages["w1"]
    assert (row.stage, row.reason, row.settled) == (Stage.UNREADABLE, "no METADATA", True)


def test_what_an_agent_gave_up_on_has_failed() -> None:
    """An event on a dead-letter topic would otherwise be waited for in vain."""
    failed = board()
    failed.fail("w1", "licence: KeyError: 'x'", 2_000_000)
    assert failed.settled
    assert failed.packages["w1"].document()["outcome"] == "failed"
    assert not summarise(failed, []).good


def test_a_board_is_not_settled_while_packages_are_still_to_be_submitted() -> None:
    """With --rate the first may have ended long before."""
    slow = Board(2)
    slow.submit("w1", "thing", "1.0", 0)
    slow.hear(heard("package.approved", DECIDED))
    assert not slow.settled


def test_events_of_other_workflows_are_not_ours() -> None:
    """A namespace may be shared with --namespace."""
    assert board().hear(heard("package.approved", DECIDED, workflow="another")) is None


def test_the_summary_adds_up() -> None:
    """Rates, agreement, and what the catalogue holds."""
    several = Board(3)
    for number in range(3):
        several.submit(f"w{number}", f"p{number}", "1", 0)
    agrees, differs = IDENTIFIED, IDENTIFIED | {"licence": "BSD-3-Clause", "agrees": False}
    for event in (
        heard("package.reserved", workflow="w0"),
        heard("licence.identified", agrees, workflow="w0"),
        heard("package.approved", DECIDED, workflow="w0", time_us=500_000),
        heard("licence.identified", differs, workflow="w1"),
        heard("review.requested", DECIDED, workflow="w1", time_us=1_000_000),
        heard("package.reserved", workflow="w2"),
        heard("package.refused", DECIDED, workflow="w2", time_us=1_500_000),
        heard("package.released", workflow="w2"),
    ):
        several.hear(event)
    assert summarise(several, [("w0", "approved"), ("w1", "provisional")]).document() == {
        "packages": 3,
        "seconds": 1.5,
        "packages_per_second": 2.0,
        "outcomes": {"approved": 1, "refused": 1, "review": 1, "unreadable": 0, "failed": 0},
        "declared": 2,
        "agreed": 1,
        "disagreements": [{"name": "p1", "declared": "MIT", "licence": "BSD-3-Clause", "confidence": 0.99}],
        "undone": 1,
        "catalogue": {"approved": 1, "provisional": 1},
        "left_behind": [],
    }
    assert summarise(several, [("w2", "provisional")]).left_behind == ("p2",)
