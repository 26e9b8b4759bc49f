"""What can be wrong with an event, its schema or its bytes.

SchemaError
├── NotAnEventError         a record whose headers are not an event's
├── UnsupportedTypeError    a field's type that Avro cannot say
├── EventDefinitionError    a class line that asks for something impossible
├── EncodeError             data that its own schema cannot hold
├── DecodeError             bytes that are not what their schema says
│   └── LimitError          bytes that would cost too much to read
├── UnknownSchemaError      a writer's schema this process has not seen yet
├── ConditionError          a condition on an event's data that cannot be read
├── IncompatibleSchemaError a writer's schema the reader's cannot resolve
└── RegistryError           the registry cannot be reached, or says no
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?")) else f"{text}."


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


class UnsupportedTypeError(SchemaError, TypeError):
    """A field has a type that Avro cannot say."""

    def __init__(self, model: str, field: str, found: str, remedy: str) -> None:
        self.model = model
        self.field = field
        self.found = found
        self.remedy = remedy
        place = f"{model}.{field}" if field else model
        super().__init__(f"{place}: expected a type that Avro can say, got {found}. {remedy}.")


class EventDefinitionError(SchemaError, TypeError):
    """A class line asks for something that cannot be."""

    def __init__(self, model: str, expected: str, got: str, remedy: str) -> None:
        self.model = model
        super().__init__(f"class {model}: expected {expected}, got {got}. {_sentence(remedy)}")


class EncodeError(SchemaError):
    """An event holds what its own schema cannot."""

    def __init__(self, type: str, field: str, expected: str, got: str, remedy: str) -> None:
        self.type = type
        self.field = field
        place = f"{type}, field {field!r}" if field else type
        super().__init__(f"{place}: expected {expected}, got {got}. {_sentence(remedy)}")


class DecodeError(SchemaError):
    """Bytes are not what their schema says, or say what the class does not allow.

    *problems* has a line for each field that is wrong.
    """

    def __init__(
        self, type: str, problems: Sequence[str], remedy: str = "Whoever wrote this record must mend it"
    ) -> None:
        self.type = type
        self.problems = problems
        super().__init__(f"{type}: {'; '.join(problems)}. {remedy}.")


class LimitError(DecodeError):
    """Bytes would cost too much to read; they were not."""

    def __init__(self, type: str, what: str, limit: int, got: str) -> None:
        self.what = what
        self.limit = limit
        super().__init__(
            type,
            [f"expected at most {limit} {what}, got {got}"],
            "Send less in one event, or read it with a Codec of larger Limits",
        )


class UnknownSchemaError(SchemaError):
    """A value names a writer's schema that is not known here."""

    def __init__(self, reference: bytes | int, looked: str = "this process has not learned it yet") -> None:
        self.reference = reference
        name = f"id {reference}" if isinstance(reference, int) else f"fingerprint {reference.hex()}"
        super().__init__(
            f"expected a value whose schema is published, got one with {name}: {looked}. "
            "It was written against another registry, or its schema was deleted; publish the schema again."
        )


class ConditionError(SchemaError):
    """A condition on events' data cannot be read."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(
            f"expected a field, a comparison (= != < <= > >= ~) and a value, got {text!r}. "
            "For example: amount>100, customer.country=DE, body~refund"
        )


class Incompatible(StrEnum):
    """In which way a writer and a reader do not fit. Documents use these words."""

    TYPE_CHANGED = "type_changed"
    MISSING_DEFAULT = "missing_default"
    """The reader requires a field that the writer does not have."""
    UNKNOWN_SYMBOL = "unknown_symbol"
    """The writer's enum has a symbol that the reader's has not."""
    UNREADABLE_BRANCH = "unreadable_branch"
    """The writer's union has a branch that the reader cannot read."""
    AMBIGUOUS_BRANCH = "ambiguous_branch"
    """Several of the reader's branches could be meant."""
    TIGHTER_CONSTRAINT = "tighter_constraint"
    """The reader's class refuses values that the writer's allows."""
    TOPIC_MOVED = "topic_moved"
    """They stand on a topic that the reader does not read."""
    KEY_CHANGED = "key_changed"
    """Another field is the key, and with it order, joins and state."""


class IncompatibleSchemaError(SchemaError):
    """A writer's schema cannot be read as the class that is to read it."""

    def __init__(
        self, type: str, field: str, problem: str, remedy: str, *, kind: Incompatible = Incompatible.TYPE_CHANGED
    ) -> None:
        self.type = type
        self.field = field
        self.problem = problem
        self.remedy = remedy
        self.kind = kind
        place = f"{type}, field {field!r}" if field else type
        super().__init__(f"{place}: {problem}. {_sentence(remedy)}")


class RegistryError(SchemaError):
    """The registry cannot be reached, or says no."""

    def __init__(self, expected: str, got: str, remedy: str) -> None:
        super().__init__(f"expected {expected}, got {got}. {_sentence(remedy)}")


class UnsupportedSchemaError(SchemaError):
    """A schema cannot be said as Python classes."""

    def __init__(self, place: str, expected: str, got: str, remedy: str) -> None:
        self.place = place
        super().__init__(f"{place}: expected {expected}, got {got}. {_sentence(remedy)}")


class InvalidDataError(SchemaError):
    """Somebody's JSON does not parse, or is not what an event's class asks for.

    *problems* has a line for each thing that is wrong.
    """

    def __init__(self, type: str, problems: Sequence[str], remedy: str) -> None:
        self.type = type
        self.problems = problems
        self.remedy = _sentence(remedy)
        lines = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"expected JSON that is a {type}, got some that is not:{lines}\n{_sentence(remedy)}")
