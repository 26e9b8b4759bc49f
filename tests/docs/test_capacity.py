"""The page of capacity: what it counts is counted again, and what it reckons follows from that and from what was measured."""

from __future__ import annotations

import re

import pytest

from tests.docs.capacity import PAGE, Bytes, Example, counted, example_rows, measured, on_page, records, tables

_SAVE = "python tests/docs/capacity.py --save writes what it is now"


def bytes_on_page() -> Bytes:
    """Return what the page says that an event costs."""
    said = [
        int(number.replace(",", "")) for number in re.findall(r"\| ([\d,]+) B \|", on_page(PAGE.read_text(), "bytes"))
    ]
    return Bytes(*said)


async def test_what_an_event_costs_is_what_it_weighs() -> None:
    """Within a tenth: a duration may take a byte more or less."""
    weighed, said = await counted(), bytes_on_page()
    assert vars(said) == pytest.approx(vars(weighed), rel=0.1), _SAVE


async def test_how_many_records_an_event_leaves() -> None:
    """One that is heard and answered by an agent which keeps state."""
    assert await records() == {
        "page.answered": 1,
        "antiphon.activity": 1,
        "keeping.state": 1,
        "keeping.dead": 0,
        "keeping.redrive": 0,
    }


@pytest.mark.parametrize("name", ["topics", "bytes", "measured", "example"])
def test_the_tables_follow_from_the_code_and_from_what_was_measured(name: str) -> None:
    """Word by word, with the bytes that the page says."""
    assert on_page(PAGE.read_text(), name) == tables(bytes_on_page(), measured())[name], _SAVE


def test_an_example_is_multiplied_out() -> None:
    """By hand, once, for figures that are easy: a day of 864,000 events is ten a second."""
    figures = {
        "hop": 100.0,
        "latency": 10.0,
        "keys": 1.0,
        "restore": 10.0,
        "kept": 100.0,
        "tracer": 5.0,
        "index": 1_000.0,
    }
    mesh = Example(
        events_a_day=864_000, peak=1, agents=1, undo=0, concurrency=26, partitions=1, replicas=2, days=10, state=100
    )
    of = Bytes(event=300, alone=1_000, among=100, undoable=0, state=0)
    assert [much for _, much, _ in example_rows(of, figures, mesh)] == [
        "10, at peak 10",
        "20",
        "1: 1 an agent",
        "10%",
        "1 MB",
        "100",
        "1.0, 1.0",
        "0 MB",
        "1 GB",
        "0.0 TB",
        "12, 12, 24",
        "0.0 TB",
        "0 GB",
        "8,640 s",
        "2 at peak, 2 where they may fall behind",
        "1 GB",
    ]
