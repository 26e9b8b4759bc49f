"""Whether what stands in state is what is written there: asked only where it could not be worked with.

State is read at every delivery, so it is taken as it is. Where somebody else wrote
to the topic, or a record was damaged, something fails that cannot fail otherwise;
then it is looked at whole, and whoever reads the dead letter is told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Mapping
from enum import Enum
from functools import cache
from typing import Any, cast

import orjson
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, field_validator

from antiphon.bus.state import StateDamagedError
from antiphon.compensation.agenda import RESERVED
from antiphon.compensation.instance import Stage
from antiphon.compensation.kept import Kept
from antiphon.compensation.locks import Lock
from antiphon.compensation.workflow import Phase

_LOCK = f"{RESERVED}lock/"
_BESIDES = frozenset({"unexpected_keyword_argument", "extra_forbidden"})
"""What a newer release keeps besides is no damage."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Said(_Part):
    id: str
    type: str
    data: dict[str, Any]
    parents: list[str] = []


class _Round(_Part):
    command: str
    answer: _Said | None = None


class _Step(_Part):
    stage: Stage
    command: str = ""
    parents: list[str] = []
    made: int = 0
    tries: int = 0
    answer: _Said | None = None
    answered: bool = False
    rounds: list[_Round] = []
    heard: list[str] = []
    unknown: bool = False
    unsure: bool = False
    below: str = ""
    failed: list[str] = []
    problem: str = ""

    @field_validator("answer")
    @classmethod
    def _there(cls, answer: _Said | None) -> _Said:
        # One that has not come is left out.
        if answer is None:
            message = "expected an answer, or none of that name"
            raise ValueError(message)
        return answer


class _Run(_Part):
    version: str
    phase: Phase
    undoing: bool
    reason: str
    start: _Said
    steps: dict[str, _Step]
    inherited: dict[str, str | int]
    due: dict[str, tuple[int, int]]
    held: list[_Said] = []
    ended_us: int | None = None


@contextlib.contextmanager
def workable(mappings: Mapping[str, Any], key: str, *, saga: bool = False) -> Generator[None]:
    """Work with what stands under *key*; raises `StateDamagedError` where that fails because it is not as it is written."""
    try:
        yield
    except StateDamagedError:
        raise
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        examine(mappings, key, saga=saga, cause=error)
        raise


def examine(kept: Mapping[str, Any], key: str, *, saga: bool = False, cause: BaseException | None = None) -> None:
    """Raise `StateDamagedError` where *kept* is not as the coordinator, or a *saga*, writes it under *key*."""
    if not kept:
        return
    lacking = _ALWAYS.get(_kind(key, saga=saga), frozenset[str]()) - kept.keys()
    if lacking:
        raise StateDamagedError(key, f"it without {', '.join(sorted(lacking))}") from cause
    try:
        _shape(key, saga=saga).validate_json(orjson.dumps(kept), strict=True)
    except TypeError as error:
        raise StateDamagedError(key, f"JSON that nests too deep ({error})") from cause
    except ValidationError as error:
        wrong = [one for one in error.errors(include_url=False, include_input=False) if one["type"] not in _BESIDES]
        if wrong:
            place = ".".join(map(str, wrong[0]["loc"]))
            raise StateDamagedError(key, f"something else in {place or 'it'}: {wrong[0]['msg']}") from cause
    kind = _kind(key, saga=saga)
    # A list of the same parts would do for a tuple, and is not how it is written.
    if any(not isinstance(part, dict) for part in _objects(kind, kept)):
        raise StateDamagedError(key, "a list in the place of an object") from cause
    astray = _astray(kind, kept)
    if astray is not None:
        raise StateDamagedError(key, astray) from cause


def _astray(kind: _Kind, kept: Mapping[str, Any]) -> str | None:
    """Say which parts, each as it is written, do not go together."""
    if kind is _Kind.WORKFLOW:
        workflow = kept["workflow"]
        known = workflow.get("events", {}).keys()
        strange = {*workflow.get("effects", ()), *workflow.get("wants", ())} - known
        return f"something about events that are none of it ({min(strange)[:80]!r})" if strange else None
    if kind is _Kind.RUNS:
        # What is written of such a one takes the place of another, whose damage would not be seen any more.
        strange = {id for id, run in kept.items() if run["start"]["id"] != id}
        return f"a run under another's id ({min(strange)[:80]!r})" if strange else None
    return None


def _objects(kind: _Kind, kept: Mapping[str, Any]) -> Iterator[object]:
    """Yield what must be an object, from the outside in."""
    if kind is _Kind.LOCK:
        yield from kept["waiting"]
    if kind is _Kind.WORKFLOW:
        workflow = kept["workflow"]
        yield workflow
        if isinstance(workflow, dict):
            parts = cast("dict[str, Any]", workflow)
            if parts.get("failure") is not None:
                yield parts["failure"]
            for name in ("scopes", "events", "effects", "wants"):
                yield from parts.get(name, {}).values()


class _Kind(Enum):
    """What stands under a key."""

    LOCK = "a lock"
    WORKFLOW = "a workflow"
    RUNS = "runs of a saga"
    AGENDA = "the agenda"
    PAGE = "a page of the agenda"


_ALWAYS = {_Kind.LOCK: frozenset(Lock._fields), _Kind.WORKFLOW: frozenset(Kept._fields)}
"""What is written even where it is as usual."""


def _kind(key: str, *, saga: bool) -> _Kind:
    if key.startswith(_LOCK):
        return _Kind.LOCK
    if key.startswith(RESERVED):
        return _Kind.PAGE if "/" in key.removeprefix(RESERVED) else _Kind.AGENDA
    return _Kind.RUNS if saga else _Kind.WORKFLOW


def _shape(key: str, *, saga: bool) -> TypeAdapter[Any]:
    return _adapter(_kind(key, saga=saga))


@cache
def _adapter(kind: _Kind) -> TypeAdapter[Any]:
    match kind:
        case _Kind.LOCK:
            return TypeAdapter(Lock)
        case _Kind.WORKFLOW:
            return TypeAdapter(Kept)
        case _Kind.RUNS:
            return TypeAdapter(dict[str, _Run])
        case _Kind.AGENDA:
            return TypeAdapter(dict[str, int])
        case _Kind.PAGE:
            return TypeAdapter(dict[str, list[str]])
