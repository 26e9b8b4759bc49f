"""What the coordinator keeps of a workflow, written and read again."""

from __future__ import annotations

import orjson

from antiphon.compensation.kept import NOTHING, Kept, kept
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
