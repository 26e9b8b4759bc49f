"""A workflow as it stands in the coordinator's state: as JSON, with what is as usual left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import compress
from operator import ne
from typing import Any, NamedTuple

from antiphon.bus.besides import carry
from antiphon.compensation.workflow import Effect, Failure, Node, Status, Want, Workflow

NOTHING = Workflow()
"""A workflow of which nothing is known, or needed any more."""


class Kept(NamedTuple):
    """What stands in the state under a workflow's id."""

    workflow: Workflow = NOTHING
    touched_us: int = 0
    """When something last happened in it; 0 where nothing stands there."""
    due_us: int = 0
    """When it is looked at again. The agenda may name it at other times too; those are void."""

    def written(self) -> dict[str, Any]:
        """Return it as JSON."""
        workflow = self.workflow
        said = _but_usual(workflow, _USUAL)
        if workflow.failure is not None:
            said["failure"] = _but_usual(workflow.failure, _USUAL_FAILURE)
        if workflow.scopes:
            said["scopes"] = {id: _but_usual(failure, _USUAL_FAILURE) for id, failure in workflow.scopes.items()}
        if workflow.events:
            said["events"] = {id: _but_usual(node, _USUAL_NODE) for id, node in workflow.events.items()}
        if workflow.wants:
            said["wants"] = {id: _but_usual(want, _USUAL_WANT) for id, want in workflow.wants.items()}
        if workflow.effects:
            said["effects"] = {id: _but_usual(effect, _USUAL_EFFECT) for id, effect in workflow.effects.items()}
        return {"workflow": said, "touched_us": self.touched_us, "due_us": self.due_us}


def kept(said: Mapping[str, Any]) -> Kept:
    """Read what `Kept.written` wrote; nothing from nothing. What a newer release says besides is passed over.

    What else stands there is not looked for, as this is done at every delivery: see `examined`.
    """
    if not said:
        return _NOT_KEPT
    workflow = said["workflow"]
    failure = workflow.get("failure")
    touched_us, due_us, deadline_us = said["touched_us"], said["due_us"], workflow.get("deadline_us")
    if not (isinstance(touched_us, int) and isinstance(due_us, int) and isinstance(deadline_us, int | None)):
        # Times are reckoned with outside of any one workflow.
        message = f"expected times as numbers, got {touched_us!r}, {due_us!r} and {deadline_us!r}"
        raise TypeError(message)
    return Kept(
        workflow=Workflow(
            failure=None if failure is None else _failure(failure),
            scopes={id: _failure(failure) for id, failure in workflow.get("scopes", _NONE).items()},
            events={id: _node(node) for id, node in workflow.get("events", _NONE).items()},
            effects={id: _effect(effect) for id, effect in workflow.get("effects", _NONE).items()},
            wants={
                id: Want(want["entity"], want.get("withdrawn", False))
                for id, want in workflow.get("wants", _NONE).items()
            },
            began_us=workflow.get("began_us"),
            deadline_us=deadline_us,
            forced=workflow.get("forced", False),
            forgetful=workflow.get("forgetful", False),
            ended=workflow.get("ended", False),
            halted=workflow.get("halted", ""),
        ),
        touched_us=touched_us,
        due_us=due_us,
    )


def carry_through(before: Mapping[str, Any], written: dict[str, Any]) -> None:
    """Put into what is *written* what a newer release had said *before* besides, wherever there is still a place for it."""
    if not before:
        return
    was, now = before["workflow"], written["workflow"]
    carry(before, written, _KEPT)
    carry(was, now, _WORKFLOW)
    if now.get("failure") and was.get("failure"):
        carry(was["failure"], now["failure"], _FAILURE)
    for name, fields in _PARTS:
        parts = was.get(name)
        if parts:
            for id, part in now.get(name, _NONE).items():
                if id in parts:
                    carry(parts[id], part, fields)


_KEPT, _WORKFLOW, _FAILURE = frozenset(Kept._fields), frozenset(Workflow._fields), frozenset(Failure._fields)
_PARTS = (
    ("scopes", _FAILURE),
    ("events", frozenset(Node._fields)),
    ("wants", frozenset(Want._fields)),
    ("effects", frozenset(Effect._fields)),
)

_NOT_KEPT = Kept()
_STATUSES = {status.value: status for status in Status}
_NONE: Mapping[str, Any] = {}

# By place, what a field is as a rule; what is never left out is like nothing.
_NEVER = object()
_USUAL = tuple(NOTHING)
_USUAL_FAILURE = (_NEVER, _NEVER, *Failure("", "")[2:])
_USUAL_WANT = (_NEVER, *Want("")[1:])
_USUAL_NODE = (_NEVER, *Node("")[1:])
_USUAL_EFFECT = (_NEVER, _NEVER, _NEVER, *Effect("", "", "")[3:])


def _but_usual(value: Workflow | Failure | Want | Node | Effect, usual: Iterable[object]) -> dict[str, Any]:
    return dict(compress(zip(value._fields, value, strict=True), map(ne, value, usual)))


def _node(said: Mapping[str, Any]) -> Node:
    parents, done = tuple(said.get("parents", ())), tuple(said.get("done", ()))
    if len(said) == 1 + ("parents" in said) + ("done" in said):
        return Node(said["type"], parents, done)
    return Node(
        said["type"],
        parents,
        done,
        said.get("held", False),
        said.get("past", False),
        said.get("aftermath", False),
        said.get("by", ""),
        said.get("sagas", _NONE),
        said.get("again", False),
        said.get("ends", ""),
    )


def _failure(said: Mapping[str, Any]) -> Failure:
    return Failure(said["event_id"], said["reason"], said.get("scope"), said.get("saga", ""))


def _effect(said: Mapping[str, Any]) -> Effect:
    if len(said) == 3 + ("key" in said):
        return Effect(said["agent"], said["type"], said["value"], said.get("key"))
    return Effect(
        said["agent"],
        said["type"],
        said["value"],
        said.get("key"),
        said.get("late", False),
        _STATUSES[said.get("status", "done")],
        said.get("attempts", 0),
        said.get("before", 0),
        said.get("problem", ""),
        tuple(said.get("via", ())),
        said.get("again", 0),
    )
