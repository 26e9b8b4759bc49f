import json
import subprocess
import sys
import types
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from antiphon.schemas.avro import canonical_form, schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import UnsupportedSchemaError
from antiphon.schemas.event import Declaration
from antiphon.schemas.generate import class_from_schema, source_from_schemas
from antiphon.schemas.redaction import is_redacted
from antiphon.schemas.store import AvroSchema, MemoryStore

FOREIGN: AvroSchema = {
    "type": "record",
    "name": "Payment",
    "namespace": "com.acme.billing",
    "doc": "Money moved.",
    "aliases": ["Transfer"],
    "fields": [
        {
            "name": "id",
            "type": {"type": "fixed", "name": "Digest", "size": 4},
            "doc": "What it is called.\nEverywhere.",
        },
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}},
        {"name": "cents", "type": "int", "default": 0, "aliases": ["pennies", "pence"]},
        {"name": "rate", "type": "float", "default": 1.5},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
        {"name": "odd", "type": {"type": "long", "logicalType": "moon-phase"}, "default": 1},
        {
            "name": "kind",
            "type": {
                "type": "enum",
                "name": "com.acme.Kind",
                "symbols": ["CARD", "cash", "class"],
                "default": "cash",
                "doc": "How.",
            },
            "default": "CARD",
        },
        {
            "name": "party",
            "type": {
                "type": "record",
                "name": "Party",
                "fields": [
                    {"name": "name", "type": "string"},
                    {"name": "agent", "type": ["null", "Party"], "default": None},
                ],
            },
        },
        {"name": "others", "type": {"type": "map", "values": "com.acme.billing.Party"}, "default": {}},
        {"name": "digest", "type": ["null", "Digest"], "default": None},
        {"name": "raw", "type": "bytes", "default": "\u00ff\u0000"},
    ],
}

SOURCE = '''\
"""Events, generated from their Avro schemas by `antiphon schema generate`."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from antiphon import Event
from antiphon.schemas.shape import As
from pydantic import AliasChoices, BaseModel, ConfigDict, Field


class Kind(StrEnum):
    """How."""

    __avro_default__ = "cash"

    CARD = "CARD"
    CASH = "cash"
    CLASS = "class"


class Party(BaseModel):
    model_config = ConfigDict(frozen=True, validate_by_name=True)

    name: str
    agent: Party | None = None


class Payment(Event):
    """Money moved."""

    __avro_aliases__ = ("Transfer",)

    id: Annotated[bytes, As("fixed", name="Digest", size=4)] = Field(
        description="What it is called.\\nEverywhere.",
    )
    amount: Annotated[Decimal, Field(max_digits=10, decimal_places=2)]
    cents: Annotated[int, As("int")] = Field(
        default=0,
        validation_alias=AliasChoices("pennies", "pence"),
    )
    rate: Annotated[float, As("float")] = 1.5
    at: Annotated[datetime, As("long", logicalType="timestamp-millis")] = Field(
        default=datetime(1970, 1, 1, tzinfo=UTC),
    )
    odd: int = 1
    kind: Kind = Kind.CARD
    party: Party
    others: dict[str, Party] = {}
    digest: Annotated[bytes, As("fixed", name="Digest", size=4)] | None = None
    raw: bytes = b"\\xff\\x00"
'''


def imported(source: str) -> Any:
    module = types.ModuleType("generated_by_a_test")
    sys.modules[module.__name__] = module
    exec(compile(source, "generated_by_a_test.py", "exec"), module.__dict__)
    return module


def test_source_is_what_a_person_would_have_written(tmp_path: Path) -> None:
    """Nested types first, docs and defaults in their places; the formatter has nothing to add."""
    source = source_from_schemas([FOREIGN])
    assert source == SOURCE

    path = tmp_path / "events.py"
    path.write_text(source)
    command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", str(path)]
    formatted = subprocess.run(command, capture_output=True, text=True, check=False)
    assert formatted.stdout == ""


def test_source_and_class_agree() -> None:
    """Both ways make the same class."""
    assert schema_of(imported(SOURCE).Payment) == schema_of(class_from_schema(FOREIGN))


async def test_a_foreign_schema_s_class_writes_what_its_readers_take() -> None:
    """int stays int and fixed stays fixed; only the namespace is gone, which readers do not need."""
    payment: Any = class_from_schema(FOREIGN)
    here = json.loads(canonical_form(schema_of(payment)))
    there = json.loads(canonical_form(FOREIGN).replace("com.acme.billing.", "").replace("com.acme.", ""))
    assert here == there

    codec = Codec(MemoryStore())
    await codec.announce([payment])
    event = payment(id=b"abcd", amount=Decimal("1.50"), party={"name": "x", "agent": {"name": "y"}}, digest=b"wxyz")
    assert codec.decode(payment, codec.encode(event)) == event


def test_defaults_are_python_s_own_values() -> None:
    """Not numbers of milliseconds, or Latin-1."""
    payment: Any = class_from_schema(FOREIGN)
    made = payment(id=b"abcd", amount=Decimal(1), party={"name": "x"})
    assert (made.at, made.raw, made.kind.value) == (datetime(1970, 1, 1, tzinfo=UTC), b"\xff\x00", "CARD")


def test_what_the_class_line_said_comes_back() -> None:
    """Type, topic, key and fails."""
    schema = {
        "type": "record",
        "name": "Refused",
        "fields": [{"name": "order", "type": "string"}],
        "antiphon": {"type": "order.refused", "topic": "orders", "key": "order", "fails": True},
    }
    assert class_from_schema(schema).__event__ == Declaration("order.refused", "orders", "order", fails=True)
    source = source_from_schemas([schema])
    assert 'class Refused(\n    Event,\n    type="order.refused",\n' in source or "class Refused(Event, type=" in source
    assert schema_of(imported(source).Refused) == schema


def record(name: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [*fields], **more}


def test_what_is_not_to_be_shown_stays_marked() -> None:
    """In the class, at any depth, and in the source: whoever starts from a schema hides what its author hid."""

    def text(*, hidden: bool) -> dict[str, Any]:
        return {"antiphon": {"redact": True}} if hidden else {}

    card = {"type": "record", "name": "Card", "fields": [{"name": "number", "type": "string", **text(hidden=True)}]}
    schema = {
        "type": "record",
        "name": "OrderPlaced",
        "fields": [
            {"name": "order", "type": "string"},
            {"name": "email", "type": ["null", "string"], "default": None, **text(hidden=True)},
            {"name": "age", "type": "int", **text(hidden=True)},
            {"name": "cards", "type": {"type": "array", "items": card}},
        ],
    }

    def marks(event_class: Any) -> dict[str, bool]:
        found = schema_of(event_class)["fields"]
        return {field["name"]: is_redacted(field) for field in (*found, *found[3]["type"]["items"]["fields"])}

    source = source_from_schemas([schema])
    expected = {"order": False, "email": True, "age": True, "cards": False, "number": True}
    assert marks(class_from_schema(schema)) == marks(imported(source).OrderPlaced) == expected
    assert "    email: Annotated[str | None, REDACT] = None\n" in source
    assert '    age: Annotated[int, As("int"), REDACT]\n' in source


def test_schemas_that_share_a_record_share_its_class() -> None:
    """Written once; another definition of the same name is refused."""
    line = record("Line", {"name": "count", "type": "long"})
    first = record("First", {"name": "line", "type": line})
    source = source_from_schemas([first, record("Second", {"name": "line", "type": line})])
    assert source.count("class Line(") == 1

    other = record("Line", {"name": "count", "type": "string"})
    with pytest.raises(
        UnsupportedSchemaError, match="Second: expected one definition for each name, got another definition of Line"
    ):
        source_from_schemas([first, record("Second", {"name": "line", "type": other})])


FIXED_UUID = {"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}


@pytest.mark.parametrize(
    ("type", "value"),
    [
        (FIXED_UUID, UUID("0199f2c1-0000-7000-8000-000000000000")),
        (
            {"type": "fixed", "name": "D", "size": 8, "logicalType": "decimal", "precision": 10, "scale": 2},
            Decimal("-1.50"),
        ),
        ({"type": "long", "logicalType": "local-timestamp-micros"}, datetime(2026, 1, 1)),  # noqa: DTZ001 - local
        ({"type": "enum", "name": "E", "symbols": ["a", "A", "_b", "mro"]}, "mro"),
    ],
)
async def test_foreign_types_are_written_and_read(type: Any, value: Any) -> None:
    """What Avro has and we would not choose ourselves."""
    made: Any = class_from_schema(record("Foreign", {"name": "value", "type": type}))
    codec = Codec(MemoryStore())
    await codec.announce([made])
    event = made(value=value)
    assert codec.decode(made, codec.encode(event)) == event


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (record("R", {"name": "class", "type": "long"}), "R.class: expected a name that a pydantic field can have, got 'class'. Rename it in the schema, and list the old name among its aliases."),
        (record("R", {"name": "_id", "type": "long"}), "R._id: expected a name that a pydantic field can have, got '_id'."),
        (record("R", {"name": "model_dump", "type": "long"}), "R.model_dump: expected a name that a pydantic field can have"),
        (record("None"), "None: expected a name that a class can have, got 'None'."),
        (record("R", {"name": "a", "type": record("x.I")}, {"name": "b", "type": record("y.I")}), "R: expected names that differ without their namespaces, got y.I and x.I"),
        (record("R", {"name": "a", "type": "nope"}), "R: expected an Avro schema, got nope."),
        (record("R", {"name": "a", "type": []}), "R.a: expected a union of types, got an empty one."),
        (record("R", {"name": "a", "type": {"type": "array", "items": "null"}}), "R.a: expected a type that Avro can say, got list[None]."),
        ({"type": "enum", "name": "E", "symbols": ["a"]}, "E: expected a record, got enum. Wrap it in a record with one field."),
        (record("R", {"name": "a", "type": "long", "antiphon": {"constraints": {"pattern": "("}}}), "R: expected a schema that a class can have, got "),
    ],
)  # fmt: skip
def test_what_python_cannot_say_is_refused(schema: AvroSchema, said: str) -> None:
    """The place, what is wrong with it, and what to do."""
    with pytest.raises((UnsupportedSchemaError, TypeError)) as refused:
        class_from_schema(schema)
    assert said in str(refused.value)


def test_names_the_module_needs_are_refused_in_source() -> None:
    """A record called Event would hide Event."""
    with pytest.raises(UnsupportedSchemaError, match="Event: expected a name that the module does not import"):
        source_from_schemas([record("Event")])


def test_nothing_of_a_schema_is_executed() -> None:
    """A schema may come from anybody who can write to the topic."""
    evil = '""" + __import__("os").abort() + """\\'
    schema = record(
        "R",
        {"name": "a", "type": "string", "default": evil, "doc": evil, "antiphon": {"constraints": {"max_length": 99}}},
        doc=evil,
    )
    made = imported(source_from_schemas([schema])).R
    assert (made().a, made.__doc__) == (evil, evil)
