"""What of an event's data is for its handlers alone: fields that nothing shows, prints or keeps elsewhere.

    class TicketOpened(Event):
        ticket_id: str
        email: Annotated[str, REDACT]

Handlers get such a field as it is, and the topic holds it: who may read that is
the broker's business. What is made for people to look at (`antiphon trace`,
`antiphon tail`, an index, exports) has `MASK` in its place. The mark stands in
the schema, beside the field, so whoever reads a record knows it from the record.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, cast

from antiphon.schemas.nodes import RECORDS, attribute, kind_of, parts_of

MASK: Final = "***"
"""What is shown instead."""

Mask: TypeAlias = Callable[[Any], Any]


class Redact:
    """The mark. There is no need for more than one."""

    def __repr__(self) -> str:
        return "REDACT"


REDACT: Final = Redact()
"""Marks a field, in its `Annotated`."""


def is_marked(annotation: Any, metadata: Iterable[Any] = (), *, by: type = Redact) -> bool:
    """Say whether a field is marked *by* such a mark, at any depth of its annotation: `Annotated[str, REDACT] | None` is too.

    >>> is_marked(typing.Optional[typing.Annotated[str, REDACT]]), is_marked(str)
    (True, False)
    """
    if any(isinstance(entry, by) for entry in metadata):
        return True
    marks = annotation.__metadata__ if typing.get_origin(annotation) is typing.Annotated else ()
    parts = typing.get_args(annotation)
    return any(isinstance(entry, by) for entry in marks) or any(is_marked(part, by=by) for part in parts)


def is_redacted(field: Any) -> bool:
    """Say whether a field of a schema has the mark."""
    return attribute(attribute(field, "antiphon"), "redact") is True


def mask_of(schema: Any, names: Mapping[str, Any]) -> Mask | None:
    """Return what takes the marked fields out of data of *schema*; None where nothing is marked.

    *names* are the schema's named types. The data is as `Codec.read` gives it.
    """
    return _Masks(names).of(schema)


class _Masks:
    """Masks by type. A type that holds itself is known while its mask is made."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._records: dict[str, Mask] = {}

    def of(self, node: Any) -> Mask | None:
        if not self._reaches(node, set()):
            return None
        match kind_of(node):
            case "union":
                return self._union(node)
            case "array":
                item = self._part(attribute(node, "items"))
                return lambda data: [item(one) for one in cast("list[Any]", data)]
            case "map":
                value = self._part(attribute(node, "values"))
                return lambda data: {key: value(one) for key, one in cast("dict[str, Any]", data).items()}
            case _:
                return self._record(node)

    def _part(self, node: Any) -> Mask:
        return self.of(node) or _as_it_is

    def _record(self, node: Any) -> Mask:
        name: str = node if isinstance(node, str) else node["name"]
        if name not in self._records:
            fields: dict[str, Mask] = {}

            def masked(data: Any) -> Any:
                found = cast("dict[str, Any]", data)
                return {key: fields[key](value) if key in fields else value for key, value in found.items()}

            self._records[name] = masked
            for field in self._names.get(name, node)["fields"]:
                mask = _hidden if is_redacted(field) else self.of(field["type"])
                if mask is not None:
                    fields[field["name"]] = mask
        return self._records[name]

    def _union(self, branches: Any) -> Mask:
        masks = [(self._holds(branch), mask) for branch in branches if (mask := self.of(branch)) is not None]

        def masked(data: Any) -> Any:
            # Values of a union do not say which branch they are of: every one that it may be hides what is its.
            for may_be, mask in masks:
                if may_be(data):
                    data = mask(data)
            return data

        return masked

    def _holds(self, branch: Any) -> Callable[[Any], bool]:
        """Return what says whether a value may be of *branch*."""
        node = self._names.get(branch, branch) if isinstance(branch, str) else branch
        if kind_of(node) == "array":
            return lambda data: isinstance(data, list)
        if kind_of(node) == "map":
            return lambda data: isinstance(data, dict)
        fields = {field["name"] for field in node["fields"]}
        return lambda data: isinstance(data, dict) and fields == set(cast("dict[str, Any]", data))

    def _reaches(self, node: Any, passed: set[str]) -> bool:
        """Say whether something marked stands in *node*, or in what it is made of."""
        if isinstance(node, str):
            if node in passed or node not in self._names:
                return False
            return self._reaches(self._names[node], passed | {node})
        inside = passed | {node["name"]} if kind_of(node) in RECORDS else passed
        return _has_mark(node) or any(self._reaches(part, inside) for part in parts_of(node))


def _as_it_is(data: Any) -> Any:
    return data


def _has_mark(node: Any) -> bool:
    return any(is_redacted(field) for field in attribute(node, "fields") or ())


def _hidden(data: Any) -> Any:
    return None if data is None else MASK
