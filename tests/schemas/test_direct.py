"""Flat records written at once: the bytes that fastavro writes, or none."""

import struct
from io import BytesIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon.schemas import binary
from antiphon.schemas.direct import direct_writer

VALUES = {
    "string": st.text(),
    "long": st.integers(-(1 << 63), (1 << 63) - 1),
    "double": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "bytes": st.binary(),
}
PLAIN = st.sampled_from([*VALUES])
TYPES = st.one_of(PLAIN, PLAIN.map(lambda name: ["null", name]), PLAIN.map(lambda name: [name, "null"]))


def parsed(types: list[Any]) -> Any:
    fields = [{"name": f"f{place}", "type": type} for place, type in enumerate(types)]
    return binary.parse({"type": "record", "name": "Flat", "fields": fields})[0]


def value_of(type: Any) -> st.SearchStrategy[Any]:
    if isinstance(type, str):
        return VALUES[type]
    return st.one_of(*(st.none() if branch == "null" else VALUES[branch] for branch in type))


@st.composite
def flat(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any]]:
    types = draw(st.lists(TYPES, min_size=1, max_size=6))
    return types, {f"f{place}": draw(value_of(type)) for place, type in enumerate(types)}


@given(made=flat())
@example(made=(["long"], {"f0": -1}))
@example(made=(["long", "long"], {"f0": 63, "f1": 64}))
@example(made=(["string"], {"f0": "\u00e9" * 64}))
def test_the_bytes_are_fastavros(made: tuple[list[Any], dict[str, Any]]) -> None:
    """Every flat record, whatever order its fields come in, and what else stands beside them."""
    types, datum = made
    schema = parsed(types)
    expected = BytesIO()
    binary.write(expected, schema, datum)
    write = direct_writer(schema)

    assert write is not None
    assert write({"beside": 1, **dict(reversed(datum.items()))}) == expected.getvalue()


@pytest.mark.parametrize(
    ("type", "value"),
    [
        ("string", b"bytes"),
        ("string", "\ud800"),
        ("long", 1 << 63),
        ("long", -(1 << 63) - 1),
        ("long", 1.0),
        ("long", 1e6),
        ("long", "1"),
        ("double", "1"),
        ("boolean", None),
        ("bytes", "text"),
        (["null", "string"], 1),
        ("long", None),
    ],
)
def test_what_is_not_of_its_type_is_not_written(type: Any, value: object) -> None:
    """Checks that know the field have the word then."""
    write = direct_writer(parsed([type]))
    assert write is not None

    with pytest.raises((TypeError, KeyError, ArithmeticError, AttributeError, struct.error, UnicodeEncodeError)):
        write({"f0": value})


@pytest.mark.parametrize(
    "type",
    [
        "int",
        "float",
        {"type": "array", "items": "string"},
        {"type": "long", "logicalType": "timestamp-micros"},
        {"type": "enum", "name": "Colour", "symbols": ["RED"]},
        ["null", "string", "long"],
        ["null", {"type": "array", "items": "string"}],
    ],
)
def test_a_record_with_parts_is_left_to_fastavro(type: Any) -> None:
    """One field that has parts, or a range of its own, is enough."""
    assert direct_writer(parsed(["string", type])) is None
