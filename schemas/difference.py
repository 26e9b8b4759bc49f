"""What changed between two schemas, field by field."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from typing import Any

from antiphon.schemas import binary
from antiphon.schemas.nodes import RECORDS, attribute, kind_of, parts_of
from antiphon.schemas.store import AvroSchema

_NOTHING = object()
_SAID = ("default", "aliases", "antiphon")
_HIDDEN = ("__fastavro_parsed__", "__named_schemas")


@dataclasses.dataclass(frozen=True, order=True)
class Difference:
    """One thing that is not as it was."""

    path: str
    change: str
    """added, removed, type, or what else a field or type says: default, aliases, antiphon, symbols."""
    old: str | None = None
    """As JSON; None: there was none."""
    new: str | None = None


def differences(old: AvroSchema, new: AvroSchema) -> list[Difference]:
    """Return what of *old* is another way in *new*, by path; words for people (`doc`) do not count."""
    return sorted({*_Comparing(binary.parse(old), binary.parse(new)).whole()})


class _Comparing:
    def __init__(self, old: tuple[Any, dict[str, Any]], new: tuple[Any, dict[str, Any]]) -> None:
        (self.old, self.old_names), (self.new, self.new_names) = old, new
        self.open: set[tuple[str, str]] = set()

    def whole(self) -> Iterator[Difference]:
        yield from self.said(self.old, self.new, "", ("antiphon", "aliases"))
        yield from self.types(self.old, self.new, "")

    def types(self, old: Any, new: Any, path: str) -> Iterator[Difference]:
        old, new = self.old_names.get(str(old), old), self.new_names.get(str(new), new)
        if kind_of(old) != kind_of(new):
            yield Difference(path, "type", _written(old), _written(new))
        elif kind_of(old) in RECORDS:
            pair = (old["name"], new["name"])
            if pair not in self.open:
                self.open.add(pair)
                yield from self.records(old, new, path)
        elif kind_of(old) in ("array", "map"):
            yield from self.said(old, new, path, ("antiphon",))
            yield from self.types(parts_of(old)[0], parts_of(new)[0], f"{path}[]")
        elif kind_of(old) == "union":
            yield from self.unions(old, new, path)
        elif _written(old) != _written(new):
            yield Difference(path, "symbols" if kind_of(old) == "enum" else "type", _written(old), _written(new))

    def unions(self, old: Any, new: Any, path: str) -> Iterator[Difference]:
        """Compare branch by branch where they are of the same kinds, as a whole where not."""
        before = {kind_of(self.old_names.get(str(one), one)): one for one in parts_of(old)}
        after = {kind_of(self.new_names.get(str(one), one)): one for one in parts_of(new)}
        if before.keys() != after.keys() or len(before) != len(parts_of(old)):
            if _written(old) != _written(new):
                yield Difference(path, "type", _written(old), _written(new))
            return
        for kind, branch in before.items():
            yield from self.types(branch, after[kind], path)

    def records(self, old: Any, new: Any, path: str) -> Iterator[Difference]:
        before = {field["name"]: field for field in old["fields"]}
        after = {field["name"]: field for field in new["fields"]}
        for name in before.keys() | after.keys():
            place = f"{path}.{name}" if path else name
            if name not in after:
                yield Difference(place, "removed", _written(before[name]["type"]))
            elif name not in before:
                yield Difference(place, "added", None, _written(after[name]["type"]))
            else:
                yield from self.said(before[name], after[name], place, _SAID)
                yield from self.types(before[name]["type"], after[name]["type"], place)

    def said(
        self, old: Mapping[str, Any], new: Mapping[str, Any], path: str, words: tuple[str, ...]
    ) -> Iterator[Difference]:
        for word in words:
            before, after = old.get(word, _NOTHING), new.get(word, _NOTHING)
            if before != after:
                yield Difference(path, word, _json(before), _json(after))


def _written(node: Any) -> str:
    """Write a type on one line: a named one by its name, an enum with its symbols."""
    if isinstance(node, str):
        return node
    kind = kind_of(node)
    if kind == "union":
        return " or ".join(_written(branch) for branch in parts_of(node))
    if kind in ("array", "map"):
        return f"{kind} of {_written(parts_of(node)[0])}"
    if kind == "enum":
        return f"{node['name']}: {', '.join(node['symbols'])}"
    more = {word: value for word, value in node.items() if word not in ("type", "name", "doc", "fields", *_HIDDEN)}
    name = attribute(node, "name") or kind
    return f"{name} {_json(more)}" if more else str(name)


def _json(value: Any) -> str | None:
    return None if value is _NOTHING else json.dumps(value, ensure_ascii=False)
