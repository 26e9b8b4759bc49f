"""What holds for every class, not only for those somebody thought of."""

import enum
import json
import string
import sys
import types
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import avro.schema
import pydantic
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from antiphon.schemas.avro import canonical_form, fingerprint, schema_of
from antiphon.schemas.codec import Codec, to_json
from antiphon.schemas.event import Event
from antiphon.schemas.generate import class_from_schema, source_from_schemas
from antiphon.schemas.input import event_from_json
from antiphon.schemas.shape import As
from antiphon.schemas.store import MemoryStore

LONGS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(max_size=8)
MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
DURATIONS = st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000))


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


class Address(BaseModel):
    model_config = {"frozen": True}
    street: str
    number: int = 1


class Tree(BaseModel):
    name: str
    children: list["Tree"] = []
    parent: "Tree | None" = None


TREES = st.recursive(
    st.builds(Tree, name=TEXTS),
    lambda inner: st.builds(Tree, name=TEXTS, children=st.lists(inner, max_size=2), parent=st.none() | inner),
    max_leaves=4,
)
# Each scalar annotation with the values that fit it.
SCALARS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (str, TEXTS),
    (int, LONGS),
    (float, st.floats(allow_nan=False)),
    (bool, st.booleans()),
    (bytes, st.binary(max_size=8)),
    (Decimal, st.decimals(-(10**20), 10**20, places=9)),
    (datetime, MOMENTS),
    (date, st.dates()),
    (time, st.times()),
    (timedelta, DURATIONS),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Literal["left", "right"], st.sampled_from(["left", "right"])),
    (Literal["not a symbol", "nor this!"], st.sampled_from(["not a symbol", "nor this!"])),
    (Annotated[int, As("int")], st.integers(-(2**31), 2**31 - 1)),
    (Annotated[float, As("float")], st.floats(width=32, allow_nan=False)),
    (Annotated[bytes, As("fixed", name="Four", size=4)], st.binary(min_size=4, max_size=4)),
    (Annotated[Decimal, Field(max_digits=6, decimal_places=2)], st.decimals(-9999, 9999, places=2)),
    (Annotated[str, Field(min_length=1)], st.text(min_size=1, max_size=4)),
    (Address, st.builds(Address, street=TEXTS, number=LONGS)),
    (Tree, TREES),
]


def _containers(entry: tuple[Any, st.SearchStrategy[Any]]) -> list[tuple[Any, st.SearchStrategy[Any]]]:
    annotation, values = entry
    found: list[tuple[Any, Any]] = [
        (types.GenericAlias(list, annotation), st.lists(values, max_size=3)),
        (types.GenericAlias(tuple, (annotation, ...)), st.lists(values, max_size=3).map(tuple)),
        (types.GenericAlias(dict, (str, annotation)), st.dictionaries(TEXTS, values, max_size=3)),
        (annotation | None, st.none() | values),
    ]
    if annotation is not Tree:
        found.append((types.GenericAlias(set, annotation), st.sets(values, max_size=3)))
        found.append((types.GenericAlias(frozenset, annotation), st.frozensets(values, max_size=3)))
    return found


UNIONS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int | str | None, LONGS | TEXTS | st.none()),
    (bool | int | float | str, st.booleans() | LONGS | st.floats(allow_nan=False) | TEXTS),
    (Address | Tree | Colour | Size, st.builds(Address, street=TEXTS) | TREES | st.sampled_from([*Colour, *Size])),
    (datetime | date | str, MOMENTS | st.dates() | TEXTS),
    (Literal["auto"] | int, st.just("auto") | LONGS),
    (list[int] | dict[str, int] | bytes, st.lists(LONGS) | st.dictionaries(TEXTS, LONGS) | st.binary(max_size=4)),
    (list[Address | int | None], st.lists(st.builds(Address, street=TEXTS) | LONGS | st.none(), max_size=3)),
]
ANNOTATIONS = st.sampled_from(
    [*SCALARS, *UNIONS, *(container for entry in SCALARS for container in _containers(entry))]
)
NAMES = st.text(string.ascii_lowercase, min_size=3, max_size=8).map(lambda name: f"f_{name}")


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Make a class of a few fields, some with defaults, and an event of it."""
    fields: dict[str, Any] = {}
    given_values: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, min_size=1, max_size=5, unique=True)):
        annotation, values = draw(ANNOTATIONS)
        has_default = draw(st.booleans())
        description = draw(st.none() | st.text(string.printable, min_size=1, max_size=40))
        settings: dict[str, Any] = {"default": draw(values)} if has_default else {}
        fields[name] = annotation, Field(description=description, **settings)
        if not has_default or draw(st.booleans()):
            given_values[name] = draw(values)
    doc = draw(st.none() | st.text(string.printable, max_size=40))
    made: type[Event] = pydantic.create_model("Generated", __base__=Event, __doc__=doc, **fields)
    return made(**given_values)


generated = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def encoded(event: Event) -> bytes:
    codec = Codec(MemoryStore())
    await codec.announce([type(event)])
    return codec.encode(event)


@given(event=events())
@generated
async def test_what_is_written_is_read(event: Event) -> None:
    """Encode, then decode: the same event, to the type of each value."""
    value = await encoded(event)
    read = Codec(MemoryStore()).decode(type(event), value)

    assert (read, repr_of(read)) == (event, repr_of(event))


def repr_of(event: Event) -> dict[str, str]:
    """Tell True from 1 and date from datetime, which are equal; leave Decimals and sets, which print as they like."""
    return {name: type(value).__name__ for name, value in event.__dict__.items()}


@given(event=events())
@generated
async def test_a_generated_class_has_the_same_schema_and_reads_the_same_bytes(event: Event) -> None:
    """Class -> .avsc -> class, made at run time."""
    schema = schema_of(type(event))
    made = class_from_schema(json.loads(json.dumps(schema)))

    assert canonical_form(schema_of(made)) == canonical_form(schema)
    value = await encoded(event)
    codec = Codec(MemoryStore())
    await codec.announce([made])
    assert codec.encode(codec.decode(made, value)) == value


@given(event=events())
@generated
def test_generated_source_has_the_same_schema(event: Event) -> None:
    """Class -> .avsc -> source -> class: even defaults, docs and constraints are the same."""
    schema = schema_of(type(event))
    module = imported(source_from_schemas([schema]))

    assert schema_of(module.Generated) == schema_of(class_from_schema(schema))
    assert canonical_form(schema_of(module.Generated)) == canonical_form(schema)


def imported(source: str) -> Any:
    """Import source as a module of its own."""
    module = types.ModuleType("generated_by_a_test")
    sys.modules[module.__name__] = module
    exec(compile(source, "generated_by_a_test.py", "exec"), module.__dict__)
    return module


@given(event=events())
@generated
@pytest.mark.filterwarnings("ignore:Unknown duration-micros, using long")
def test_apache_avro_takes_every_schema(event: Event) -> None:
    """Our schemas are Avro's, defaults included, and their canonical forms have the fingerprint Avro gives them."""
    schema = schema_of(type(event))
    avro.schema.parse(json.dumps(schema))

    form = canonical_form(schema)
    # Where a fixed is named again, Apache's Python defines it again, against the specification.
    assume(form.count('"Four"') <= 1)
    # Of the form, because Apache's own leaves {"type": "long"} where the specification wants "long".
    theirs = avro.schema.parse(form)
    assert theirs.fingerprint("CRC-64-AVRO") == fingerprint(schema)


@given(event=events())
@generated
async def test_json_is_read_back(event: Event) -> None:
    """What `tail --json` prints, `publish` takes."""
    if all(tells_in_json(info.annotation) for info in type(event).model_fields.values()):
        assert event_from_json(type(event), json.dumps(to_json(event))) == event


def tells_in_json(annotation: Any) -> bool:
    """In JSON a date in a union with text is text, and infinity is none of its numbers."""
    return "|" not in str(annotation) and "Union" not in str(annotation) and "Optional" not in str(annotation)


@given(event=events(), dropped=st.booleans(), data=st.data())
@generated
async def test_versions_read_one_another(event: Event, *, dropped: bool, data: st.DataObject) -> None:
    """A field more, with a default, or a field fewer: the fields both know are the same."""
    fields: dict[str, Any] = {name: (info.annotation, info) for name, info in type(event).model_fields.items()}
    old_names = [*fields]
    if dropped:
        del fields[data.draw(st.sampled_from(old_names))]
    else:
        fields["f_added"] = (int, Field(default=7))
    newer: type[Event] = pydantic.create_model("Newer", __base__=Event, **fields)
    store = MemoryStore()
    writer = Codec(store)
    await writer.announce([type(event)])
    reader = Codec(store)
    value = writer.encode(event)
    await reader.learn(value[2:10])

    read: Any = reader.decode(newer, value)
    expected = {name: getattr(event, name) for name in old_names if name in fields}
    assert {name: getattr(read, name) for name in expected} == expected
    assert dropped or read.f_added == 7
