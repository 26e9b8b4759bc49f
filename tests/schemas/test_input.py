from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from antiphon.schemas.errors import InvalidDataError
from antiphon.schemas.event import Event
from antiphon.schemas.input import event_from_json


class Level(Enum):
    LOW = 1
    HIGH = 2


class Line(BaseModel, extra="forbid"):
    article: str
    count: int = Field(ge=1)


class TicketOpened(Event):
    ticket_id: str
    lines: list[Line] = Field(default=[])
    level: Level = Level.LOW
    photo: bytes = b""
    cost: Decimal | None = None
    at: datetime | None = None
    wait: timedelta | None = None
    by: UUID | None = None


def said(text: str | bytes) -> str:
    with pytest.raises(InvalidDataError) as wrong:
        event_from_json(TicketOpened, text)
    return str(wrong.value)


def test_text_stands_for_what_json_has_not() -> None:
    """Times, decimals and ids as text, bytes as Base64, an enum by symbol or by value."""
    text = """{"ticket_id": "7", "lines": [{"article": "box", "count": 2}], "level": "HIGH", "photo": "AP8=",
               "cost": "1.50", "at": "2026-11-22T10:00:00Z", "wait": 1.5, "by": "0199f2c1-0000-7000-8000-000000000000"}"""
    expected = TicketOpened(
        ticket_id="7",
        lines=[Line(article="box", count=2)],
        level=Level.HIGH,
        photo=b"\x00\xff",
        cost=Decimal("1.50"),
        at=datetime(2026, 11, 22, 10, tzinfo=UTC),
        wait=timedelta(seconds=1.5),
        by=UUID("0199f2c1-0000-7000-8000-000000000000"),
    )
    assert event_from_json(TicketOpened, text) == expected
    assert event_from_json(TicketOpened, text.encode()) == expected
    assert event_from_json(TicketOpened, '{"ticket_id": "7", "level": 2}').level is Level.HIGH


def test_json_that_does_not_parse_is_shown_where_it_stops() -> None:
    """Line, column, and a mark under the place."""
    assert said('{"ticket_id": "7",\n "level": LOW}') == (
        "expected JSON that is a ticket.opened, got some that is not:\n"
        "  line 2, column 11: Expecting value\n"
        '     "level": LOW}\n'
        "              ^\n"
        'Write it as {"ticket_id": "text"}.'
    )
    assert "line 1, column 1: Expecting value" in said("")
    assert "byte 1 is not UTF-8" in said(b"{\xff")
    assert "it nests too deep" in said("[" * 100_000)


def test_every_problem_is_told_at_once() -> None:
    """Field, expected, got; a near name where one is not known."""
    assert said('{"ticketid": "7", "lines": [{"article": "box", "count": 0, "colour": 1}], "cost": "much"}') == (
        "expected JSON that is a ticket.opened, got some that is not:\n"
        "  field 'ticket_id': expected a value, got none\n"
        "  field 'lines[0].count': expected input greater than or equal to 1, got 0\n"
        "  field 'lines[0].colour': expected no such field, got 1; there are article, count\n"
        "  field 'cost': expected decimal, got 'much'\n"
        "  field 'ticketid': expected no such field, got '7'; did you mean 'ticket_id'?\n"
        'It looks like this: {"ticket_id": "text"}.'
    )


def test_bytes_are_base64_or_nothing() -> None:
    """Plain text that happens to be short would be taken for something else."""
    assert "field 'photo': expected bytes as Base64 text, got 'café'" in said('{"ticket_id": "7", "photo": "café"}')


def test_only_an_object_is_an_event() -> None:
    """A list is none, nor a number."""
    assert said("[1]") == (
        "expected JSON that is a ticket.opened, got some that is not:\n"
        "  expected an object, got [1]\n"
        'Write it as {"ticket_id": "text"}.'
    )
