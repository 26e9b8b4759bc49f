"""What can be wrong with an agent.

Found when its module is imported, with file and line:

    DefinitionError
    ├── AgentNameError          a name that cannot be part of a topic's, or is the mesh's own
    ├── AgentOptionError        an option whose value makes no sense
    ├── SignatureError          a handler whose annotations do not say what it hears and emits
    ├── HeardTwiceError         two handlers of one agent for one event type
    ├── JoinError               a join that could never fire, or not only once
    ├── UndoError               an undo of what the agent does not emit, or a second one
    └── NoHandlerError          an agent that hears nothing

Found while it runs; trying again cannot help:

    PermanentError (bus/errors.py)
    ├── NotAnEventReturnedError a handler gave something that is no event
    ├── JoinKeyError            an event of a join that is not keyed by its workflow
    ├── UnknownUndoError        a request to undo what the agent cannot undo
    ├── UnknownAnswerError      an answer for an event that the agent does not hold anything for
    └── NotJsonError            a side effect whose result cannot be remembered
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection

from antiphon.bus.errors import PermanentError
from antiphon.bus.place import Place


class DefinitionError(Exception):
    """Base of what is refused when an agent's module is imported."""

    def __init__(self, place: Place, problem: str) -> None:
        self.place = place
        self.problem = problem
        super().__init__(f"{place}: {problem}")


class AgentNameError(DefinitionError):
    """A name that no agent can have."""

    def __init__(self, place: Place, name: str, *, reserved: bool) -> None:
        self.name = name
        expected = (
            "a name that is not the mesh's own ('compensation', or beginning with 'antiphon')"
            if reserved
            else "a name of letters, digits, '.', '_' and '-', at most 200, since topics are named after the agent"
        )
        super().__init__(place, f"expected {expected}, got {name!r}. Give the agent another name.")


class AgentOptionError(DefinitionError):
    """An option of an agent whose value makes no sense."""

    def __init__(self, place: Place, agent: str, option: str, *, expected: str, got: object) -> None:
        self.agent = agent
        self.option = option
        super().__init__(place, f"agent {agent!r}: expected {option} to be {expected}, got {got!r}.")


class SignatureError(DefinitionError):
    """A handler whose annotations do not say what it hears and emits."""

    def __init__(self, place: Place, function: str, problem: str) -> None:
        self.function = function
        super().__init__(place, f"handler {function!r}: {problem}")


class HeardTwiceError(DefinitionError):
    """Two handlers of one agent want the same event type."""

    def __init__(self, place: Place, agent: str, type: str, *, function: str, other: str) -> None:
        self.agent = agent
        self.type = type
        super().__init__(
            place,
            f"agent {agent!r}: expected one handler for {type}, got two, {other!r} and {function!r}. "
            "Do both in one handler, or make the second an agent of its own.",
        )


class JoinError(DefinitionError):
    """A join that could never fire, or not only once."""

    def __init__(self, place: Place, agent: str, problem: str) -> None:
        self.agent = agent
        super().__init__(place, f"agent {agent!r}: {problem}")


class UndoError(DefinitionError):
    """An undo of what the agent does not emit, or a second one of the same."""

    def __init__(self, place: Place, agent: str, problem: str) -> None:
        self.agent = agent
        super().__init__(place, f"agent {agent!r}: {problem}")


class NoHandlerError(DefinitionError):
    """An agent that hears nothing."""

    def __init__(self, place: Place, agent: str) -> None:
        self.agent = agent
        super().__init__(
            place,
            f"agent {agent!r}: expected at least one handler, got none. Decorate one with @{agent}.on(SomeEvent).",
        )


class NotAnEventReturnedError(PermanentError):
    """A handler gave something that is no event."""

    def __init__(self, agent: str, function: str, got: object) -> None:
        self.agent = agent
        self.function = function
        super().__init__(
            f"agent {agent!r}: expected handler {function!r} to return events, None, or a list or generator of events, "
            f"got {type(got).__name__} {_short(got)}. Return an instance of an Event class."
        )


class JoinKeyError(PermanentError):
    """An event of a join is not keyed by its workflow, so it would never meet the others."""

    def __init__(self, agent: str, type: str, key: str) -> None:
        self.agent = agent
        self.type = type
        self.key = key
        super().__init__(
            f"agent {agent!r} joins {type}: expected it keyed by its workflow, got key {key!r}. "
            "Publish it without a key of its own."
        )


class UnknownUndoError(PermanentError):
    """An agent was asked to undo what it cannot."""

    def __init__(self, agent: str, type: str, known: Collection[str]) -> None:
        self.agent = agent
        self.type = type
        super().__init__(
            f"agent {agent!r} was asked to undo {type}, but can undo {', '.join(sorted(known)) or 'nothing'}. "
            "Deploy a version that has the undo, then redrive this request."
        )


class UnknownAnswerError(PermanentError):
    """An agent was told that an entity is held for an event that it handles without."""

    def __init__(self, agent: str, type: str, known: Collection[str]) -> None:
        self.agent = agent
        self.type = type
        super().__init__(
            f"agent {agent!r} was told that what {type} waits for is held, but it holds something for "
            f"{', '.join(sorted(known)) or 'nothing'}. Deploy a version that says holds= for it, then redrive this answer."
        )


class NotJsonError(PermanentError):
    """A side effect's result cannot be remembered."""

    def __init__(self, name: str, path: str, got: object) -> None:
        self.name = name
        self.path = path
        super().__init__(
            f"once({name!r}): expected a result of JSON's types (str, int, float, bool, None, list, dict with str keys), "
            f"got {type(got).__name__} {_short(got)} at {path}. Return what you need of it, "
            "for example model.model_dump(mode='json')."
        )


def _short(value: object) -> str:
    return reprlib.repr(value)
