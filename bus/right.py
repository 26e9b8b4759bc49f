"""One thing that somebody may do on the cluster, in Kafka's words."""

from __future__ import annotations

import dataclasses
from enum import StrEnum


class Operation(StrEnum):
    """What may be done, in Kafka's words. Reading and writing imply describing."""

    DESCRIBE = "Describe"
    READ = "Read"
    WRITE = "Write"
    CREATE = "Create"


class Resource(StrEnum):
    """What it may be done to."""

    TOPIC = "topic"
    GROUP = "group"
    TRANSACTIONAL_ID = "transactional-id"


class Pattern(StrEnum):
    """Whether a name is meant whole, or as the beginning of names."""

    LITERAL = "literal"
    PREFIXED = "prefixed"


@dataclasses.dataclass(frozen=True, order=True)
class Right:
    """One thing that one agent must be allowed to do.

    >>> str(Right(Operation.WRITE, Resource.TOPIC, "ticket.triaged"))
    "Write on topic 'ticket.triaged'"
    """

    operation: Operation
    resource: Resource
    name: str
    pattern: Pattern = Pattern.LITERAL
    why: str = dataclasses.field(default="", compare=False)
    """For people: what it is for."""

    def __str__(self) -> str:
        kind = self.resource.value.replace("-", " ")
        return f"{self.operation} on {kind} {self.name!r}" + (
            " and what begins so" if self.pattern is Pattern.PREFIXED else ""
        )
