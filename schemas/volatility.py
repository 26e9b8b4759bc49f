"""Fields that differ whenever an event is made again, and say nothing by it: a time, a random name, a model's wording.

    class TicketAnswered(Event):
        ticket_id: str
        answered_at: Annotated[datetime, VOLATILE]

A replay does not compare them. The mark stands in the schema, beside the field,
so whoever compares records knows it from the records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from antiphon.schemas.nodes import RECORDS, attribute, kind_of
from antiphon.schemas.store import AvroSchema


class Volatile:
    """The mark. There is no need for more than one."""

    def __repr__(self) -> str:
        return "VOLATILE"


VOLATILE: Final = Volatile()
"""Marks a field, in its `Annotated`."""

# A record that holds itself is gone into once more: a `*` stands for any depth.
_TIMES = 2


def volatile_paths(schema: AvroSchema) -> tuple[str, ...]:
    """Return where marked fields stand in data of *schema*: names joined by dots, `*` for any place in a list or map.

    >>> at = {"name": "at", "type": "long", "antiphon": {"volatile": True}}
    >>> line = {"type": "record", "name": "Line", "fields": [{"name": "n", "type": "long"}, at]}
    >>> volatile_paths({"type": "record", "name": "Order", "fields": [{"name": "lines", "type": {"type": "array", "items": line}}]})
    ('lines.*.at',)
    """
    return tuple(dict.fromkeys(_marked(schema, "", {}, ())))


def _marked(node: Any, path: str, names: dict[str, Any], inside: tuple[str, ...]) -> Iterator[str]:
    if isinstance(node, str):
        if node in names:
            yield from _marked(names[node], path, names, inside)
        return
    match kind_of(node):
        case "union":
            for branch in node:
                yield from _marked(branch, path, names, inside)
        case "array" | "map" as kind:
            part = attribute(node, "items" if kind == "array" else "values")
            yield from _marked(part, _below(path, "*"), names, inside)
        case kind if kind in RECORDS:
            yield from _in_record(node, path, names, inside)
        case _:
            # `{"type": {"type": "array", ...}}`
            inner = attribute(node, "type")
            if isinstance(inner, Mapping | list):
                yield from _marked(inner, path, names, inside)


def _in_record(node: Any, path: str, names: dict[str, Any], inside: tuple[str, ...]) -> Iterator[str]:
    name = str(node["name"])
    names[name] = node
    if inside.count(name) >= _TIMES:
        return
    for field in node["fields"]:
        where = _below(path, str(field["name"]))
        if attribute(attribute(field, "antiphon"), "volatile") is True:
            yield where
        else:
            yield from _marked(field["type"], where, names, (*inside, name))


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
