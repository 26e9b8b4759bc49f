"""What can be wrong with an event, its schema or its bytes.

SchemaError
├── NotAnEventError         a record whose headers are not an event's
├── UnsupportedTypeError    a field's type that Avro cannot say
├── EventDefinitionError    a class line that asks for something impossible
├── EncodeError             data that its own schema cannot hold
├── DecodeError             bytes that are not what their schema says
│   └── LimitError          bytes that would cost too much to read
├── UnknownSchemaError      a writer's schema this process has not seen yet
├── IncompatibleSchemaError a writer's schema the reader's cannot resolve
└── RegistryError           the registry cannot be reached, or says no
"""

from __future__ import annotations

from collections.abc import Sequence


class SchemaError(Exception):
    """Base of every error this package raises."""


class NotAnEventError(SchemaError):
    """A record does not carry the headers of an event."""

    def __init__(self, problem: str, headers: Sequence[str]) -> None:
        self.problem = problem
        self.headers = headers
        super().__init__(
            f"expected CloudEvents headers ce_id, ce_source and ce_type, got {', '.join(headers) or 'none'}: {problem}. "
            "Whoever wrote this record must set them; see docs/reference/wire.md."
        )
