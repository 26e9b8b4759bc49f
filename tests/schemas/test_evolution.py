"""Every change of a schema that Avro allows, and the ones it does not."""

from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import DecodeError, IncompatibleSchemaError
from antiphon.schemas.event import Event
from antiphon.schemas.shape import As
from antiphon.schemas.store import MemoryStore


def event_class(name: str, **fields: Any) -> Any:
    """Make an event class of fields that are known only when the test runs."""
    return pydantic.create_model(name, __base__=Event, **fields)


async def reread(event: Event, newer: type[Event]) -> Event:
    """Write *event* by its own class and read it as another."""
    store = MemoryStore()
    writer, reader = Codec(store), Codec(store)
    await writer.announce([type(event)])
    value = writer.encode(event)
    await reader.learn(value[2:10])
    return reader.decode(newer, value)


class Item(BaseModel):
    name: str
    count: int = 1


class Priced(Event):
    total: int
    items: list[Item] = Field(default=[])


async def test_a_field_is_added_with_a_default() -> None:
    """Also inside nested records; a default that is made anew each time serves as well."""

    class NewItem(BaseModel):
        name: str
        count: int = 1
        colour: str = "red"

    class Newer(Event):
        total: int
        items: list[NewItem]
        seen: list[str] = Field(default_factory=list)
        at: str | None = None

    read = await reread(Priced(total=1, items=[Item(name="a")]), Newer)
    assert read == Newer(total=1, items=[NewItem(name="a")])


async def test_a_field_is_removed() -> None:
    """A record with a field the class does not know is read without it."""

    class Newer(Event):
        items: list[Item]

    assert await reread(Priced(total=1, items=[Item(name="a")]), Newer) == Newer(items=[Item(name="a")])


async def test_fields_change_places() -> None:
    """They are matched by name."""

    class Newer(Event):
        items: list[Item]
        total: int

    assert await reread(Priced(total=1), Newer) == Newer(items=[], total=1)


async def test_a_field_is_renamed_by_alias() -> None:
    """The former names stand in validation_alias; the class's own name still makes one."""

    class Newer(Event):
        amount: int = Field(validation_alias=AliasChoices("sum", "total"))
        things: list[Item] = Field(validation_alias="items")

    assert await reread(Priced(total=1), Newer) == Newer(amount=1, things=[])
    assert [field.get("aliases") for field in schema_of(Newer)["fields"]] == [["sum", "total"], ["items"]]


@pytest.mark.parametrize(
    ("writer", "reader", "written", "read"),
    [
        (Annotated[int, As("int")], int, 7, 7),
        (int, float, 7, 7.0),
        (Annotated[int, As("int")], Annotated[float, As("float")], 7, 7.0),
        (Annotated[float, As("float")], float, 0.5, 0.5),
        (str, bytes, "é", "é".encode()),
        (bytes, str, "é".encode(), "é"),
        (list[int], list[float], [1], [1.0]),
        (dict[str, int], dict[str, float], {"a": 1}, {"a": 1.0}),
        (int | None, float | None, 1, 1.0),
    ],
)
async def test_a_type_is_promoted(writer: Any, reader: Any, written: Any, read: Any) -> None:
    """int to long to float to double, and text and bytes either way."""

    older = event_class("Older", value=(writer, ...))(value=written)
    read_event: Any = await reread(older, event_class("Newer", value=(reader, ...)))
    got = read_event.value
    assert (got, type(got)) == (read, type(read))


@pytest.mark.parametrize(
    ("writer", "reader", "written", "read"),
    [
        (
            Annotated[datetime, As("long", logicalType="timestamp-millis")],
            datetime,
            datetime(2026, 1, 1, tzinfo=UTC),
            datetime(2026, 1, 1, tzinfo=UTC),
        ),
        (int, datetime, 1_000_000, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (datetime, int, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), 1_000_000),
        (Annotated[Decimal, Field(max_digits=6, decimal_places=2)], Decimal, Decimal("1.50"), Decimal("1.5")),
    ],
)
async def test_logical_types_keep_their_meaning(writer: Any, reader: Any, written: Any, read: Any) -> None:
    """Milliseconds are not read as microseconds; a bare number is what the reader's type counts."""
    await test_a_type_is_promoted(writer, reader, written, read)


class Colour(Enum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Painted(Event):
    colour: Colour


async def test_an_enum_loses_a_symbol_for_its_default() -> None:
    """`__avro_default__` names the member that stands for what is not known."""

    class Known(Enum):
        __avro_default__ = "OTHER"
        RED = "red"
        OTHER = "other"

    class Newer(Event):
        colour: Known

    assert await reread(Painted(colour=Colour.RED), Newer) == Newer(colour=Known.RED)
    assert await reread(Painted(colour=Colour.BLUE), Newer) == Newer(colour=Known.OTHER)
    assert schema_of(Newer)["fields"][0]["type"]["default"] == "other"


async def test_an_enum_without_a_default_refuses_the_symbol_not_the_schema() -> None:
    """The other values are read; the one that is not names the field and the remedy."""

    class Newer(Event):
        colour: Literal["red", "green"]

    assert await reread(Painted(colour=Colour.RED), Newer) == Newer(colour="red")
    with pytest.raises(IncompatibleSchemaError) as unknown:
        await reread(Painted(colour=Colour.BLUE), Newer)
    assert str(unknown.value) == (
        "newer, field 'colour': NewerColour has no symbol 'blue'. "
        "Add it, or say in the Enum which member stands for others: __avro_default__ = ..."
    )


class Cat(BaseModel):
    name: str
    lives: int = 9


class Dog(BaseModel):
    name: str


class Adopted(Event):
    animal: Cat | Dog


async def test_a_union_is_widened() -> None:
    """One type becomes one of several, and null becomes possible."""

    class Older(Event):
        value: int
        animal: Cat

    class Newer(Event):
        value: str | int | None
        animal: Dog | Cat | None

    assert await reread(Older(value=1, animal=Cat(name="Tom")), Newer) == Newer(value=1, animal=Cat(name="Tom"))


async def test_a_union_is_narrowed_for_the_values_that_fit() -> None:
    """Avro resolves a union value by value."""

    class Older(Event):
        value: int | str | None

    class Newer(Event):
        value: int

    assert await reread(Older(value=1), Newer) == Newer(value=1)
    with pytest.raises(IncompatibleSchemaError) as text:
        await reread(Older(value="x"), Newer)
    assert str(text.value) == (
        "newer, field 'value': it was written as string and is read as long. "
        "Keep the type, or one Avro promotes to; or give the new field another name and a default."
    )


async def test_records_of_a_union_are_told_by_name() -> None:
    """Cat and Dog could be read as one another; they are not."""
    assert await reread(Adopted(animal=Dog(name="Rex")), Adopted) == Adopted(animal=Dog(name="Rex"))


async def test_a_renamed_record_of_a_union_is_found_by_its_alias() -> None:
    """Elsewhere names need not match: only a union has to choose."""

    class Feline(BaseModel):
        __avro_aliases__ = ("Cat",)
        name: str

    class Canine(BaseModel):
        __avro_aliases__ = ("Dog",)
        name: str

    class Newer(Event):
        animal: Feline | Canine

    assert await reread(Adopted(animal=Dog(name="Rex")), Newer) == Newer(animal=Canine(name="Rex"))

    class Hund(BaseModel):
        name: str

    class Katze(BaseModel):
        name: str

    class Nameless(Event):
        animal: Hund | Katze

    with pytest.raises(
        IncompatibleSchemaError, match="written as record Cat, which record Hund and record Katze could be"
    ):
        await reread(Adopted(animal=Cat(name="Tom")), Nameless)


async def test_recursive_records_are_renamed_and_resolved() -> None:
    """A record that holds itself, under another name, with a field more."""

    class Tree(BaseModel):
        name: str
        parent: "Tree | None" = None
        children: list["Tree"] = Field(default=[])

    class Baum(BaseModel):
        name: str
        parent: "Baum | None" = None
        children: list["Baum"] = Field(default=[])
        leaves: int = 3

    class Older(Event):
        tree: Tree

    class Newer(Event):
        tree: Baum

    tree = Tree(name="a", parent=Tree(name="b"), children=[Tree(name="c", children=[Tree(name="d")])])
    baum = Baum(name="a", parent=Baum(name="b"), children=[Baum(name="c", children=[Baum(name="d")])])
    assert await reread(Older(tree=tree), Newer) == Newer(tree=baum)


async def test_a_required_field_the_writer_has_not_is_incompatible() -> None:
    """Named with its path; known before any value is read."""

    class NewItem(BaseModel):
        name: str
        colour: str

    class Newer(Event):
        items: list[NewItem]

    with pytest.raises(IncompatibleSchemaError) as missing:
        await reread(Priced(total=1), Newer)
    assert str(missing.value) == (
        "newer, field 'items[].colour': NewItem requires it, and the writer's schema has no such field. "
        "Give it a default, or list its former name in Field(validation_alias=AliasChoices(...))."
    )


@pytest.mark.parametrize(
    ("writer", "reader", "said"),
    [
        (str, int, "it was written as string and is read as long"),
        (int, Annotated[int, As("int")], "it was written as long and is read as int"),
        (float, int, "it was written as double and is read as long"),
        (str, Decimal, "it was written as string and is read as decimal"),
        (list[int], dict[str, int], "it was written as array and is read as map"),
        (Cat, str, "it was written as record Cat and is read as string"),
        (Colour, str, "it was written as enum Colour and is read as string"),
        (int | str, bool, "it was written as long or string and is read as boolean"),
    ],
)
async def test_what_avro_does_not_promote_is_incompatible(writer: Any, reader: Any, said: str) -> None:
    """Reading it anyway would be a guess."""

    samples: dict[Any, Any] = {str: "1", int: 1, float: 1.0, list[int]: [1], Cat: Cat(name="x"), Colour: Colour.RED}
    older = event_class("Older", value=(writer, ...))(value=samples.get(writer, 1))
    with pytest.raises(IncompatibleSchemaError) as refused:
        await reread(older, event_class("Newer", value=(reader, ...)))
    assert said in str(refused.value)


async def test_constraints_hold_for_what_others_wrote() -> None:
    """Avro has no constraints; pydantic looks after resolution."""

    class Newer(Event):
        total: int = Field(ge=10)
        items: list[Item]

    with pytest.raises(DecodeError) as small:
        await reread(Priced(total=1), Newer)
    assert str(small.value) == (
        "newer: field 'total': expected input greater than or equal to 10, got 1. Whoever wrote this record must mend it."
    )


async def test_a_reader_of_aliased_and_strict_classes_takes_data_by_field_name() -> None:
    """How pydantic would have JSON does not matter to Avro."""

    class Aliased(Event):
        model_config = ConfigDict(strict=True)
        number: int = Field(alias="No")
        colour: Colour
        tags: set[str]

    aliased = Aliased(No=1, colour=Colour.RED, tags={"a"})  # type: ignore[call-arg]  # by its alias
    assert await reread(aliased, Aliased) == aliased
