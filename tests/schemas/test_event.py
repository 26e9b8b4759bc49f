import dataclasses
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from enum import Enum, Flag
from typing import Annotated, Any

import pydantic
import pytest
from pydantic import BaseModel, Field, NaiveDatetime, RootModel, SecretStr

from antiphon.schemas.avro import schema_of
from antiphon.schemas.envelope import Envelope
from antiphon.schemas.errors import EventDefinitionError, UnsupportedTypeError
from antiphon.schemas.event import Declaration, Event, envelope_of, envelope_or_none, key_of
from antiphon.schemas.shape import As


def event_class(name: str, **fields: Any) -> Any:
    """Make an event class of fields that are known only when the test runs."""
    return pydantic.create_model(name, __base__=Event, **fields)


class OrderPlaced(Event, key="order_id"):
    order_id: str


def test_a_class_line_says_what_differs_from_the_usual() -> None:
    """Type from the name, topic from the type, key from the workflow."""

    class HTTPRequestSent(Event):
        pass

    class Refused(Event, type="order.refused", topic="orders", key="order_id", fails=True):
        order_id: str

    assert HTTPRequestSent.__event__ == Declaration("http.request.sent", "http.request.sent")
    assert Refused.__event__ == Declaration("order.refused", "orders", "order_id", fails=True)


def test_a_subclass_is_a_type_of_its_own() -> None:
    """Fields are inherited; what the class line said is not."""

    class OrderPlacedAbroad(OrderPlaced):
        country: str

    assert OrderPlacedAbroad.__event__ == Declaration("order.placed.abroad", "order.placed.abroad")
    assert [field["name"] for field in schema_of(OrderPlacedAbroad)["fields"]] == ["order_id", "country"]


def test_an_envelope_is_put_on_once() -> None:
    """A sealed event is copied, so nobody's event changes under him; data alone decides equality."""
    placed = OrderPlaced(order_id="7")
    with pytest.raises(ValueError, match="expected an event that was published or received, got a OrderPlaced"):
        envelope_of(placed)

    first = Envelope.root("order.placed", source="/tests")
    second = Envelope.root("order.placed", source="/tests")
    sealed = placed.sealed(first)
    again = sealed.sealed(second)
    assert (sealed is placed, again is placed) == (True, False)
    assert (envelope_of(placed), envelope_of(again)) == (first, second)
    assert placed == again
    assert envelope_or_none(placed.model_copy()) in (None, first)


def test_a_key_field_is_the_record_s_key() -> None:
    """As text, whatever its type."""

    class Counted(Event, key="number"):
        number: int

    class Loose(Event):
        pass

    assert (key_of(OrderPlaced(order_id="7")), key_of(Counted(number=7)), key_of(Loose())) == ("7", "7", None)


class Stranger:
    pass


class Permission(Flag):
    READ = 1


class Empty(BaseModel):
    pass


class Loose(BaseModel, extra="allow"):
    x: int


class Wrapped(RootModel[list[int]]):
    pass


class BadSymbols(Enum):
    É = 1  # noqa: PLC2401 - the point


ALL = (
    "Use str, int, float, bool, bytes, Decimal, datetime, date, time, timedelta, UUID, an Enum, a Literal, list, set, "
)


@pytest.mark.parametrize(
    ("annotation", "found", "remedy"),
    [
        (complex, "complex", "Use two float fields, or a model with both."),
        (Any, "Any", "Name the type; or send JSON text in a str."),
        (object, "object", "Name the type; or send JSON text in a str."),
        (Stranger, "Stranger", ALL),
        (
            dict[int, str],
            "dict[int, str]",
            "Avro's maps have str keys: use dict[str, X], or a list of a model with both.",
        ),
        (list, "list", "Say what is in it, for example list[str]."),
        (tuple[int, str], "tuple[int, str]", "Use tuple[X, ...], or a model with a field for each place."),
        (Callable[[int], str], "Callable[[int], str]", "An event is data: send what the function needs."),
        (
            list[int] | list[str],
            "list[int] | list[str]",
            "Avro tells the branches of a union apart by their Avro type, and here two are array: "
            "put list[str] in a model of its own.",
        ),
        (
            list[None],
            "list[None]",
            "Its items take no bytes, so a few bytes could claim any number of them: give them a field.",
        ),
        (list[Empty], "list[Empty]", "Its items take no bytes, "),
        (NaiveDatetime, "NaiveDatetime", "Use datetime, which carries its zone; or for a local time "),
        (SecretStr, "SecretStr", "Everybody on the topic can read an event: leave secrets out, or send a reference."),
        (Permission, "Permission", "Use a set of an Enum."),
        (Wrapped, "Wrapped", "Use the type it wraps, or a model with one field."),
        (Loose, "Loose", 'Its extra fields would be lost: take extra="allow" away, or add a dict field.'),
        (BadSymbols, "BadSymbols", "Avro symbols are made of A-Z, a-z, 0-9 and _: rename the member 'É'."),
        (Annotated[int, As("string")], "int as As('string')", "As() can ask for int, long here."),
        (Annotated[bytes, As("fixed")], "bytes as fixed", "Give it a name and a size, 1 or more."),
    ],
)
def test_what_avro_cannot_say_is_refused_where_it_is_written(annotation: Any, found: str, remedy: str) -> None:
    """Class, field, what was found and what to write instead, before anything runs."""
    with pytest.raises(UnsupportedTypeError) as refused:
        event_class("Bad", total=(annotation, ...))

    assert str(refused.value).startswith(f"Bad.total: expected a type that Avro can say, got {found}. {remedy}")


def test_the_field_inside_a_nested_model_is_named() -> None:
    """That is where it must be mended."""

    class Line(BaseModel):
        size: complex

    with pytest.raises(UnsupportedTypeError, match=r"Line\.size: expected a type that Avro can say, got complex"):
        event_class("Bad", lines=(list[Line], ...))


def test_two_types_of_one_name_are_refused() -> None:
    """Avro would take the second for the first."""

    first, second = pydantic.create_model("Item", value=int), pydantic.create_model("Item", value=str)
    with pytest.raises(UnsupportedTypeError, match=r"Bad already holds another type named 'Item'.*: rename one\."):
        event_class("Bad", a=(first, ...), b=(second, ...))


def test_a_record_that_has_no_end_is_refused() -> None:
    """No such event could be made, and reading one would never stop."""
    with pytest.raises(UnsupportedTypeError) as endless:

        class Node(Event):
            next: "Node"

    assert str(endless.value) == (
        "Node.next: expected a type that Avro can say, got Node. "
        "It always holds another one of itself: make the field optional, or a list."
    )


def test_forward_references_are_looked_at_when_they_are_known() -> None:
    """A class that is complete only later is refused only then."""

    class Early(Event):
        later: "Later"

    class Later(BaseModel):
        size: complex

    with pytest.raises(UnsupportedTypeError, match=r"Later\.size"):
        Early.model_rebuild(_types_namespace={"Later": Later})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            {"key": "ordr_id"},
            "class Bad: expected key to name one of its fields (order_id), got 'ordr_id'. Did you mean 'order_id'?",
        ),
        (
            {"key": "zone"},
            "class Bad: expected key to name one of its fields (order_id), got 'zone'. "
            "Name a field, or leave key out to use the correlation id.",
        ),
        (
            {"type": "order placed"},
            "class Bad: expected type to be a legal Kafka topic name (A-Z, a-z, 0-9, '.', '_', '-', up to 200), "
            "got 'order placed'. Say type=\"...\" in the class line.",
        ),
        (
            {"topic": "é"},
            "class Bad: expected topic to be a legal Kafka topic name (A-Z, a-z, 0-9, '.', '_', '-', up to 200), "
            "got 'é'. Say topic=\"...\" in the class line.",
        ),
    ],
)
def test_a_class_line_that_cannot_be_is_refused(words: dict[str, Any], said: str) -> None:
    """Kafka would refuse it much later, and say less."""
    with pytest.raises(EventDefinitionError) as refused:
        event_class("Bad", __cls_kwargs__=words, order_id=(str, ...))

    assert str(refused.value) == said


@pytest.mark.parametrize(
    ("annotation", "default", "said"),
    [
        (int, "7", "expected the default of 'value' to be int, got '7'"),
        (Decimal, Decimal("0.0000000001"), "to be at most 38 digits, 9 of them after the point, got Decimal('1E-10')"),
        (datetime, datetime(2026, 1, 1), "to be a datetime that says its zone"),  # noqa: DTZ001 - the point
        (list[int], 7, "expected the default of 'value' to be of the field's type, got 7"),
        (int | str, 1.5, "expected the default of 'value' to be long or string, got 1.5"),
    ],
)
def test_a_default_that_does_not_fit_is_refused(annotation: Any, default: Any, said: str) -> None:
    """It would be in the schema, where every reader takes it on trust."""
    with pytest.raises(EventDefinitionError) as refused:
        event_class("Bad", value=(annotation, default))

    assert said in str(refused.value)


def test_what_a_schema_says_of_a_class() -> None:
    """Docs, aliases, constraints and what kind of collection travel with it; defaults come first in their unions."""

    class Kind(Enum):
        __avro_aliases__ = ("Sort",)
        __avro_default__ = "SMALL"
        SMALL = 1
        LARGE = 2

    class OrderTaken(Event, key="number", fails=True):
        """Somebody took an order."""

        number: int = Field(ge=1, description="From the counter.", alias="No")
        kind: Kind = Kind.LARGE
        tags: frozenset[Annotated[str, Field(max_length=3)]] = frozenset()
        note: int | str | None = "none"

    assert schema_of(OrderTaken) == {
        "type": "record",
        "name": "OrderTaken",
        "doc": "Somebody took an order.",
        "fields": [
            {
                "name": "number",
                "type": "long",
                "doc": "From the counter.",
                "aliases": ["No"],
                "antiphon": {"constraints": {"ge": 1}},
            },
            {
                "name": "kind",
                "type": {
                    "type": "enum",
                    "name": "Kind",
                    "symbols": ["SMALL", "LARGE"],
                    "default": "SMALL",
                    "aliases": ["Sort"],
                },
                "default": "LARGE",
            },
            {
                "name": "tags",
                "type": {
                    "type": "array",
                    "items": {"type": "string", "antiphon": {"constraints": {"max_length": 3}}},
                    "antiphon": {"collection": "frozenset"},
                },
                "default": [],
            },
            {"name": "note", "type": ["string", "long", "null"], "default": "none"},
        ],
        "antiphon": {"type": "order.taken", "topic": "order.taken", "key": "number", "fails": True},
    }


def test_declarations_are_values() -> None:
    """Nobody changes what a class says of itself."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        OrderPlaced.__event__.type = "x"  # type: ignore[misc]  # the point


def test_declaring_events_loads_no_heavy_library() -> None:
    """A user's module of events is imported by everything; only what encodes needs fastavro."""
    code = "import sys, antiphon.schemas.event as e; print([m for m in ('fastavro', 'avro', 'confluent_kafka') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
