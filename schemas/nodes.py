"""The parts of an Avro schema as JSON says it: a name, a list of branches, or an object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

NAMED = frozenset({"record", "error", "enum", "fixed"})
RECORDS = frozenset({"record", "error"})


def kind_of(node: Any) -> str:
    """Return a node's Avro type; a reference to a named type gives the name.

    >>> kind_of("long"), kind_of(["null", "long"]), kind_of({"type": "array", "items": "long"})
    ('long', 'union', 'array')
    """
    if isinstance(node, str):
        return node
    if isinstance(node, Mapping):
        return kind_of(cast("Mapping[str, Any]", node)["type"])
    return "union"


def attribute(node: Any, name: str) -> Any:
    """Return what the node says under *name*; None where it is silent, or is no object."""
    return cast("Mapping[str, Any]", node).get(name) if isinstance(node, Mapping) else None


def parts_of(node: Any) -> Sequence[Any]:
    """Return the types a node is made of."""
    match kind_of(node):
        case "union":
            return cast("Sequence[Any]", node)
        case "array":
            return [node["items"]]
        case "map":
            return [node["values"]]
        case _:
            return [field["type"] for field in attribute(node, "fields") or ()]
