"""What the coordinator keeps of a workflow, written and read again."""

from __future__ import annotations

from typing import Any

import orjson
from test_coordinator import Town, handled, refused, reserved

from antiphon.compensation.examined import examine
from antiphon.compensation.kept import NOTHING, Kept, carry_through, kept
from antiphon.compensation.locks import Lock, Request, read
from antiphon.compensation.workflow import Effect, Failure, Node, Status, Want, Workflow

FULL = Workflow(
    failure=Failure("e1", "it broke", scope="s", saga="voyage"),
    scopes={"s": Failure("e2", "it too", scope="s", saga="voyage")},
    events={
        "root": Node("a"),
        "e1": Node(
            "b",
            parents=("root",),
            done=("x", "y"),
            held=True,
            past=True,
            aftermath=True,
            by="voyage",
            sagas={"voyage": "stopped"},
            again=True,
            ends="voyage",
        ),
    },
    effects={
        "plain": Effect("x", "b", "dmFsdWU="),
        "undone": Effect(
            "x",
            "b",
            "",
            key="k",
            late=True,
            status=Status.UNDONE,
            attempts=3,
            before=2,
            problem="p",
            via=("c1", "c2"),
            again=1,
        ),
    },
    wants={"e1": Want("order/A-7", withdrawn=True)},
    began_us=1,
    deadline_us=2,
    forced=True,
    forgetful=True,
    ended=True,
    halted="too much",
)


def test_what_is_written_is_read() -> None:
    """Every field, at its usual value and at another one; also that an effect's value was emptied."""
    for workflow in (FULL, NOTHING, Workflow(events={"root": Node("a")})):
        before = Kept(workflow, touched_us=3, due_us=4)
        assert kept(orjson.loads(orjson.dumps(before.written()))) == before
    usual = [*zip(NOTHING, FULL, strict=True), *zip(Node("a"), FULL.events["e1"], strict=True)]
    assert all(is_usual != other for is_usual, other in usual)


def newer(said: dict[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return what is kept with a field more in each of its parts."""
    inner = {name for name, value in said.items() if depth < 3 and isinstance(value, dict)}
    parts = {name: newer(value, depth + 1) if name in inner else value for name, value in said.items()}
    # Ids stand on the third level, but for the one failure of the whole.
    return parts if depth == 2 and "event_id" not in said else parts | {"since 2.0": [depth]}


def test_what_a_newer_release_keeps_besides_stays() -> None:
    """In a rolling deployment the old one passes it over, and leaves it where it stands."""
    before = Kept(FULL._replace(failure=Failure("e1", "it broke")), touched_us=3, due_us=4)
    said = newer(orjson.loads(orjson.dumps(before.written())))
    assert kept(said) == before
    after = kept(said)._replace(touched_us=5)
    written = after.written()
    carry_through(said, written)
    assert orjson.loads(orjson.dumps(written)) == said | {"touched_us": 5}


async def test_a_workflow_goes_on_with_what_a_newer_release_keeps_besides() -> None:
    """As the coordinator reads and writes it."""
    town = Town()
    await town.hears(handled("w", "r", reserved("e1")))
    town.state.mapping("w").update(newer(town.state.values["w"]))
    town.state.keep()
    examine(town.state.values["w"], "w")
    await town.hears(handled("w", "e1", refused("f"), type="reserved"))
    after = town.state.values["w"]
    assert (after["since 2.0"], after["workflow"]["effects"]["e1"]["since 2.0"]) == ([0], [3])
    assert kept(after).workflow.effects["e1"].status is Status.ASKED


def test_a_lock_is_read_that_a_newer_release_wrote() -> None:
    """What it keeps besides is passed over, also of what the answer inherits."""
    request = Request("e", "w", "card", 1, "c", "card.charge", None, "", 0, {"tenant": "t"})
    lock = Lock("v", 1, ("d",), (request,))
    said = lock._asdict() | {
        "waiting": [request._asdict() | {"inherited": {"tenant": "t", "mood": 1}, "more": 2}],
        "x": 3,
    }
    assert read(said) == lock


def test_what_is_as_usual_is_not_written() -> None:
    """The state of ten thousand workflows says little more than what has to be undone."""
    workflow = Workflow(
        events={"root": Node("a", done=("x",))}, effects={"e": Effect("x", "b", "dmFsdWU=")}, ended=True
    )
    assert Kept(workflow, 3, 4).written() == {
        "workflow": {
            "events": {"root": {"type": "a", "done": ("x",)}},
            "effects": {"e": {"agent": "x", "type": "b", "value": "dmFsdWU="}},
            "ended": True,
        },
        "touched_us": 3,
        "due_us": 4,
    }
