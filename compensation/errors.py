"""What can be wrong with a saga.

Found when its module is imported, with file and line:

    SagaDefinitionError     steps that cannot work as they are written

Found while one runs; trying again cannot help:

    PermanentError (bus/errors.py)
    ├── UnknownSagaVersionError a run that began under a definition that is not deployed
    └── NoUndoError             a saga was asked to undo what it has no command for
"""

from __future__ import annotations

from antiphon.bus.errors import PermanentError
from antiphon.bus.place import Place


class SagaDefinitionError(Exception):
    """A saga that could not work: refused where it is defined, with what was expected, what came, and what to do."""

    def __init__(self, place: Place, saga: str, problem: str) -> None:
        self.place = place
        self.saga = saga
        self.problem = f"saga {saga!r}: {problem}"
        super().__init__(f"{place}: {self.problem}")


class UnknownSagaVersionError(PermanentError):
    """A run began under a definition that is not deployed."""

    def __init__(self, saga: str, version: str, problem: str) -> None:
        self.saga = saga
        self.version = version
        super().__init__(
            f"saga {saga!r}: expected a run of a version that is deployed: {problem}. Then redrive what was set aside."
        )


class NoUndoError(PermanentError):
    """A saga was asked to undo a command of a step that has no undo."""

    def __init__(self, saga: str, type: str, event_id: str) -> None:
        self.saga = saga
        self.type = type
        super().__init__(
            f"saga {saga!r} was asked to undo {type} {event_id}: expected a step with undo=, got none. "
            "Undo it by hand, then: antiphon saga skip."
        )
