"""Whether what one schema writes another can read: the checker against real values, really written and really read."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime
from enum import Enum
from pathlib import Path
from random import Random
from typing import Any, Literal

import avro.compatibility
import avro.schema
import orjson
import pytest
from pydantic import BaseModel, Field, ValidationError

from antiphon.schemas import binary
from antiphon.schemas.avro import schema_of
from antiphon.schemas.codec import Codec, reference_of
from antiphon.schemas.compatibility import Mismatch, mismatches
from antiphon.schemas.constraints import tighter
from antiphon.schemas.errors import Incompatible, SchemaError
from antiphon.schemas.event import Event
from antiphon.schemas.generate import class_from_schema
from antiphon.schemas.store import MemoryStore
from tests.schemas.mutations import ENRICHING, MUTATIONS, changed
from tests.schemas.samples import samples

WANTED = 100
EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def example_schemas() -> list[Any]:
    """Return the schemas of all events of the examples, read from their own modules."""
    import events  # noqa: PLC0415 - after the path is known to hold it, as pytest's settings say
    import helpdesk  # noqa: PLC0415
    import shop  # noqa: PLC0415
    import support  # noqa: PLC0415

    values = [value for module in (support, events, shop, helpdesk) for value in vars(module).values()]
    return [schema_of(one) for one in values if isinstance(one, type) and issubclass(one, Event) and one is not Event]


class Change:
    """One change of an event's schema between two releases."""

    def __init__(self, seed: int, schemas: list[Any]) -> None:
        dice = Random(seed)
        schema = dice.choice(schemas)
        for _ in range(dice.randint(0, 3)):
            schema, _name = changed(dice, schema, ENRICHING)
        self.seed = seed
        self.old = schema
        self.new, self.name = changed(dice, schema, MUTATIONS)

    def pairs(self) -> Iterator[tuple[str, Any, Any]]:
        """Yield both readers, each with what is written to it meanwhile."""
        yield "reader at N-1", self.new, self.old
        yield "reader at N", self.old, self.new


async def breaks(writer: Any, reader: Any) -> str | None:
    """Write every sample of *writer* and read it as the class of *reader*; return what went wrong first, None for nothing."""
    writing, reading = class_from_schema(writer), class_from_schema(reader)
    store = MemoryStore()
    codec, other = Codec(store), Codec(store)
    await codec.announce([writing])
    parsed, names = binary.parse(writer)
    written = 0
    for sample in samples(parsed, names):
        try:
            value = codec.encode(writing.model_validate(sample, by_name=True, by_alias=False))
        except (ValidationError, SchemaError):
            continue  # its own writer would not write it
        written += 1
        await other.learn(reference_of(value))
        try:
            other.decode(reading, value)
        except SchemaError as error:
            return str(error)
    assert written, f"no sample of {writer} can be written"
    return None


def buildable(change: Change) -> bool:
    try:
        class_from_schema(change.old)
        class_from_schema(change.new)
    except SchemaError:
        return False
    return True


async def test_a_hundred_changes_that_break_are_found_and_a_hundred_that_do_not_are_passed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Made of the examples' schemas by a seeded dice; what breaks is what a real reader cannot read of real bytes."""
    schemas = example_schemas()
    wrong: list[str] = []
    tally: Counter[bool] = Counter()
    found: Counter[bool] = Counter()
    kinds: Counter[str] = Counter()
    seed = 0
    while min(tally[True], tally[False]) < WANTED:
        change = Change(seed, schemas)
        seed += 1
        if not buildable(change):
            continue
        truths, answers = list[bool](), list[bool]()
        for who, writer, reader in change.pairs():
            reason, told = await breaks(writer, reader), mismatches(writer, reader)
            truths.append(reason is not None)
            answers.append(bool(told))
            if truths[-1] != answers[-1]:
                wrong.append(f"seed {change.seed}, {change.name}, {who}: {reason} / {told}\n {writer}\n {reader}")
            kinds.update(one.kind.value for one in told)
        broken = any(truths)
        if tally[broken] < WANTED:
            tally[broken] += 1
            found[broken] += any(answers) == broken and truths == answers
    with capsys.disabled():
        sys.stdout.write(
            f"\n  of {tally[True]} changes that break a reader {found[True]} found, of {tally[False]} that break none "
            f"{found[False]} passed ({seed} seeds; {dict(sorted(kinds.items()))})\n"
        )
    assert wrong == []
    assert (found[True], found[False]) == (WANTED, WANTED)


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class OldLine(BaseModel):
    article: str
    count: int


class Line(BaseModel):
    article: str
    count: str
    shelf: str


class OrderTaken(Event):
    order: str
    colour: Literal["red", "green", "blue"]
    lines: list[OldLine]
    note: str | None = None
    raw: bytes
    amount: int = Field(ge=0)
    reference: int | str


def renamed(event_class: type[Event], **more: Any) -> Any:
    """Return the schema of a class as one of `order.taken`."""
    schema = schema_of(event_class)
    said = {"type": "order.taken", "topic": "order.taken", "key": None, "fails": False}
    return {**schema, "name": "OrderTaken", "antiphon": {**said, **more}}


def test_every_place_is_told_with_its_path_and_its_remedy() -> None:
    """Where a reader stops at the first, here all are named, nested ones too, and each says what to do."""

    class Newer(Event, type="order.taken"):
        order: str
        colour: Literal["red", "green"]
        lines: list[Line]
        note: str
        raw: str
        amount: int = Field(ge=1, le=10)
        reference: int
        city: str

    told = mismatches(schema_of(OrderTaken), Newer)

    assert [(one.path, one.kind.value) for one in told] == [
        ("amount", "tighter_constraint"),
        ("amount", "tighter_constraint"),
        ("city", "missing_default"),
        ("colour", "unknown_symbol"),
        ("lines[].count", "type_changed"),
        ("lines[].shelf", "missing_default"),
        ("note", "unreadable_branch"),
        ("raw", "type_changed"),
        ("reference", "unreadable_branch"),
    ]
    assert told[2] == Mismatch(
        "city",
        Incompatible.MISSING_DEFAULT,
        "Newer requires it, and the writer's schema has no such field",
        "Give it a default, or list its former name in Field(validation_alias=AliasChoices(...))",
    )
    assert all(one.remedy for one in told)


def test_what_is_read_as_something_else_is_told_though_nothing_fails() -> None:
    """A number of days is a number of microseconds to Avro: each value is read, and none as what was written."""

    class Older(Event, type="order.due"):
        due: date

    class Newer(Event, type="order.due"):
        due: datetime

    [told] = mismatches(schema_of(Older), Newer)
    assert told.message == "it is written as date and read as timestamp-micros, which means something else"


def test_topic_and_key_are_part_of_what_is_promised() -> None:
    """A reader on another topic never hears the event; another key moves order, joins and state."""
    assert [one.kind for one in mismatches(renamed(OrderTaken, topic="orders", key="order"), OrderTaken)] == [
        Incompatible.KEY_CHANGED,
        Incompatible.TOPIC_MOVED,
    ]
    foreign = {word: part for word, part in schema_of(OrderTaken).items() if word != "antiphon"}
    assert mismatches(foreign, OrderTaken) == []


def test_a_default_that_only_the_class_has_serves_those_who_ask_elsewhere() -> None:
    """`default_factory` has no word in Avro; the schema says that there is something."""

    class Older(Event, type="order.numbered"):
        order: str

    class Newer(Event, type="order.numbered"):
        order: str
        number: int = Field(default_factory=lambda: 7)

    assert schema_of(Newer)["fields"][1] == {"name": "number", "type": "long", "antiphon": {"optional": True}}
    assert mismatches(schema_of(Older), Newer) == mismatches(schema_of(Older), schema_of(Newer)) == []


def test_a_schema_that_is_none_is_told() -> None:
    """Whoever asks has typed it, or a registry has it."""
    with pytest.raises(SchemaError, match="expected an Avro schema, got "):
        mismatches({"type": "record", "name": "OrderTaken", "fields": [{"name": "a", "type": "nothing"}]}, OrderTaken)
    [told] = mismatches({"type": "enum", "name": "A", "symbols": ["B"]}, OrderTaken)
    assert told.message == "it is written as enum, no record"


def test_what_holds_itself_is_asked_once() -> None:
    """A tree of parts is no endless question."""

    class Part(BaseModel):
        name: str
        parts: list[Part] = []

    class NewPart(BaseModel):
        name: int
        parts: list[NewPart] = []

    class Older(Event, type="order.built"):
        whole: Part

    class Newer(Event, type="order.built"):
        whole: NewPart

    assert [one.path for one in mismatches(schema_of(Older), Newer)] == ["whole.name"]
    assert mismatches(schema_of(Older), Older) == []


@pytest.mark.parametrize(
    ("written", "read", "whole", "promised"),
    [
        ({"ge": 1}, {"gt": 0}, False, True),
        ({"gt": 0}, {"ge": 1}, False, False),
        ({"gt": 0}, {"ge": 1}, True, True),
        ({"gt": 0}, {"gt": 0}, False, True),
        ({"ge": 0}, {"gt": 0}, False, False),
        ({"lt": 10}, {"le": 9}, True, True),
        ({"lt": 10}, {"le": 9}, False, False),
        ({"le": 9}, {"lt": 9}, False, False),
        ({}, {"le": 9}, False, False),
        ({"multiple_of": 6}, {"multiple_of": 3}, True, True),
        ({"multiple_of": 3}, {"multiple_of": 6}, True, False),
        ({"min_length": 2}, {"min_length": 1}, False, True),
        ({}, {"min_length": 1}, False, False),
        ({"max_length": 4}, {"max_length": 3}, False, False),
        ({"pattern": "^a"}, {"pattern": "^a"}, False, True),
        ({"pattern": "^a"}, {"pattern": "^b"}, False, False),
    ],
)
def test_constraints_of_a_writer_promise_those_of_a_reader(
    written: dict[str, Any], read: dict[str, Any], whole: bool, promised: bool
) -> None:
    """What a writer may write lies within what the reader takes, or not."""
    assert [*tighter(written, read, whole=whole)] == [] or not promised
    assert bool([*tighter(written, read, whole=whole)]) != promised


BEYOND = {Incompatible.TIGHTER_CONSTRAINT, Incompatible.TOPIC_MOVED, Incompatible.KEY_CHANGED}


def test_where_avros_own_rules_say_no_so_does_the_check() -> None:
    """`avro.compatibility` knows nothing of classes; what it refuses is refused, but for names, which readers need not share."""
    schemas = example_schemas()
    checker = avro.compatibility.ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call] # the library's
    compared = 0
    missed: list[str] = []
    for seed in range(300):
        change = Change(seed, schemas)
        if not buildable(change):
            continue
        for _, writer, reader in change.pairs():
            answer = checker.get_compatibility(parsed(reader), parsed(writer))
            refused = answer.compatibility is avro.compatibility.SchemaCompatibilityType.incompatible
            by_name = {str(one) for one in answer.incompatibilities} == {"SchemaIncompatibilityType.name_mismatch"}
            compared += 1
            told = [one for one in mismatches(writer, reader) if one.kind not in BEYOND]
            if refused and not by_name and not told:
                missed.append(f"seed {seed} {change.name}: {answer.messages}\n {writer}\n {reader}")
    assert (missed, compared > 400) == ([], True)


def parsed(schema: Any) -> Any:
    """Parse *schema* without its logical types: that library leaves them out of the question, and warns of ours."""
    plain = orjson.loads(orjson.dumps(schema).replace(b'"logicalType"', b'"logical"'))
    return avro.schema.parse(orjson.dumps(plain).decode(), validate_enum_symbols=False)
