"""What is marked as volatile is known from the schema, at any depth."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel

from antiphon.schemas.avro import canonical_form, schema_of
from antiphon.schemas.event import Event
from antiphon.schemas.redaction import REDACT
from antiphon.schemas.volatility import VOLATILE, volatile_paths


class Line(BaseModel):
    item: str
    picked_at: Annotated[datetime, VOLATILE]


class Node(BaseModel):
    seen: Annotated[int, VOLATILE] = 0
    below: list["Node"] = []  # noqa: UP037 - it refers to itself


class Packed(Event):
    order: str
    lines: list[Line]
    by_name: dict[str, Line]
    first: Line | None
    tree: Node
    note: Annotated[str, VOLATILE, REDACT] | None = None


def test_marked_fields_are_found_wherever_they_stand() -> None:
    """In lists, maps, unions and records that hold themselves."""
    assert sorted(volatile_paths(schema_of(Packed))) == [
        "by_name.*.picked_at",
        "first.picked_at",
        "lines.*.picked_at",
        "note",
        "tree.below.*.seen",
        "tree.seen",
    ]


def test_the_mark_changes_no_schemas_name() -> None:
    """Marking a field later makes no other schema of it: readers and fingerprints do not see it."""

    class Unmarked(Event, type="closed"):
        at: datetime

    class Closed(Event, type="closed"):
        at: Annotated[datetime, VOLATILE]

    Unmarked.__name__ = Closed.__name__
    assert canonical_form(schema_of(Closed)) == canonical_form(schema_of(Unmarked))
