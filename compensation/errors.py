"""What can be wrong with a saga.

Found when its module is imported, with file and line:

    SagaDefinitionError     steps that cannot work as they are written
"""

from __future__ import annotations

from antiphon.bus.place import Place


class SagaDefinitionError(Exception):
    """A saga that could not work: refused where it is defined, with what was expected, what came, and what to do."""

    def __init__(self, place: Place, saga: str, problem: str) -> None:
        self.place = place
        self.saga = saga
        self.problem = f"saga {saga!r}: {problem}"
        super().__init__(f"{place}: {self.problem}")
