"""Avro's binary encoding, by fastavro: its few functions that are used here, with types."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, cast

import fastavro
import fastavro.read

from antiphon.schemas.shape import DURATION

write: Callable[..., None] = fastavro.schemaless_writer  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - half typed
"""Write to a stream: (stream, parsed schema, datum)."""
read: Callable[..., Any] = fastavro.schemaless_reader  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] - half typed
"""Read from a stream: (stream, writer's parsed schema, None, return_named_type=...)."""


def parse(schema: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the parsed schema, in which every name is a full one, and its named types by name."""
    names: dict[str, Any] = {}
    # Through JSON, because fastavro trusts its own mark on a schema it has parsed before.
    parsed: Any = fastavro.parse_schema(json.loads(json.dumps(schema)), names)
    for node in names.values():
        for field in node.get("fields", ()):
            if not isinstance(field["name"], str):
                message = f"expected the name of a field as text, got {field['name']!r}"
                raise TypeError(message)
    return parsed, names


def untexted(schema: Any) -> Any:
    """Return *schema* with bytes in the place of text, which Avro writes alike.

    >>> untexted({"type": "record", "name": "A", "fields": [{"name": "string", "type": ["null", "string"]}]})
    {'type': 'record', 'name': 'A', 'fields': [{'name': 'string', 'type': ['null', 'bytes']}]}
    """
    match schema:
        case "string":
            return "bytes"
        case list():
            return [untexted(branch) for branch in cast("list[object]", schema)]
        case dict():
            node = cast("dict[str, object]", schema)
            parts = {name: untexted(node[name]) for name in ("type", "items", "values", "fields") if name in node}
            # Defaults are for other readers, and may be text.
            return {**{name: part for name, part in node.items() if name != "default"}, **parts}
        case _:
            return schema


def _duration(micros: int, _writer: Any = None, _reader: Any = None) -> timedelta:
    return timedelta(microseconds=micros)


# fastavro's way to learn a logical type. The name is ours alone, so nobody else is affected.
_LOGICAL_READERS: dict[str, Callable[..., Any]] = cast("Any", fastavro.read).LOGICAL_READERS
_LOGICAL_READERS[f"long-{DURATION}"] = _duration
