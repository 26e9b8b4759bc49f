"""Comparing what came out again with what was recorded: outcome by outcome, event by event, field by field.

Only the data of events is compared. Ids and times stand in envelopes, which two
runs never share. One cause gives one difference: where the outcome is another
one, what was or was not said because of that is not told again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias, cast

MISSING = "(nothing)"
"""Stands for a field that one side does not have."""


class Said(NamedTuple):
    """One event that was emitted: its type, and its data as JSON."""

    type: str
    data: Any


class Raised(NamedTuple):
    """The error that an attempt ended with."""

    type: str
    message: str


class Result(NamedTuple):
    """What one handling of one event came to."""

    said: Sequence[Said] = ()
    raised: Raised | None = None


class Kind(StrEnum):
    """What a difference is. Closed; reports and documents use these words."""

    MISSING = "missing"
    """An event was recorded, and did not come again."""
    ADDED = "added"
    """An event came that was not recorded."""
    CHANGED = "changed"
    """An event of the type came with other data."""
    ORDER = "order"
    """The same events came in another order."""
    OUTCOME = "outcome"
    """It raised and did not before, or the other way round."""
    ERROR = "error"
    """It raised something else."""


class Field(NamedTuple):
    """One place where data differs: names and numbers joined by dots; empty for the whole."""

    path: str
    recorded: Any
    got: Any


class Difference(NamedTuple):
    """One thing that is not as it was."""

    kind: Kind
    type: str
    """The event type meant; empty where none is."""
    fields: tuple[Field, ...] = ()


Judge: TypeAlias = Callable[[Said, Said], bool]
"""Says whether the second event says the same as the first, in other words: recorded, got."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rules:
    """What counts as the same."""

    ignore: tuple[str, ...] = ()
    """Paths whose values do not matter, with `*` for any part; `type:path` for events of one type."""
    tolerance: float = 1e-9
    """How far two numbers may be apart, relative to the larger; by as much absolutely near 0."""
    judge: Judge | None = None

    def ignores(self, type: str, path: str) -> bool:
        """Say whether what stands at *path* of an event of *type* does not matter."""
        return any(fnmatchcase(path, pattern) or fnmatchcase(f"{type}:{path}", pattern) for pattern in self.ignore)


EXACTLY = Rules(tolerance=0.0)


def compare(recorded: Result, got: Result, rules: Rules = Rules()) -> list[Difference]:
    """Return what is not as it was, in the order of what was recorded.

    >>> compare(Result([Said("ticket.triaged", {"queue": "a"})]), Result([Said("ticket.triaged", {"queue": "b"})]))
    [Difference(kind=<Kind.CHANGED: 'changed'>, type='ticket.triaged', fields=(Field(path='queue', recorded='a', got='b'),))]
    """
    match recorded.raised, got.raised:
        case None, None:
            return _events(recorded.said, got.said, rules)
        case Raised() as before, Raised() as after:
            return [] if before == after else [Difference(Kind.ERROR, "", (Field("", _told(before), _told(after)),))]
        case before, after:
            return [Difference(Kind.OUTCOME, "", (Field("", _told(before), _told(after)),))]


def _told(raised: Raised | None) -> str:
    return "completed" if raised is None else f"{raised.type}: {raised.message}"


def _events(recorded: Sequence[Said], got: Sequence[Said], rules: Rules) -> list[Difference]:
    if len(recorded) == len(got) and all(_same(*pair, rules) for pair in zip(recorded, got, strict=True)):
        return []
    pairs, left, over = _matched(recorded, got, rules)
    found: list[tuple[int, Difference]] = []
    for index in left:
        said = recorded[index]
        other = next((number for number in over if got[number].type == said.type), None)
        if other is None:
            found.append((index, Difference(Kind.MISSING, said.type, (Field("", said.data, MISSING),))))
            continue
        over.remove(other)
        if rules.judge is None or not rules.judge(said, got[other]):
            found.append((index, Difference(Kind.CHANGED, said.type, tuple(_fields(said, got[other], rules)))))
    found += [(len(recorded), Difference(Kind.ADDED, got[n].type, (Field("", MISSING, got[n].data),))) for n in over]
    if any(before > after for before, after in pairwise(pairs.values())):
        first = next(iter(pairs))
        types = [recorded[index].type for index in pairs], [got[number].type for number in sorted(pairs.values())]
        found.append((first, Difference(Kind.ORDER, "", (Field("", *types),))))
    return [difference for _, difference in sorted(found, key=lambda placed: placed[0])]


def _matched(
    recorded: Sequence[Said], got: Sequence[Said], rules: Rules
) -> tuple[Mapping[int, int], list[int], list[int]]:
    """Pair what is the same, its own place first; return the pairs, what was recorded alone, and what came alone."""
    over = [*range(len(got))]
    pairs: dict[int, int] = {}
    left: list[int] = []
    for index, said in enumerate(recorded):
        places = [index, *over] if index in over else over
        found = next((number for number in places if _same(said, got[number], rules)), None)
        if found is None:
            left.append(index)
        else:
            pairs[index] = found
            over.remove(found)
    return pairs, left, over


def _same(recorded: Said, got: Said, rules: Rules) -> bool:
    return recorded.type == got.type and next(_fields(recorded, got, rules), None) is None


def _fields(recorded: Said, got: Said, rules: Rules) -> Iterator[Field]:
    for found in _differing(recorded.data, got.data, "", rules):
        if not rules.ignores(recorded.type, found.path):
            yield found


def _differing(recorded: Any, got: Any, path: str, rules: Rules) -> Iterator[Field]:
    match recorded, got:
        case dict(), dict():
            before, after = cast("dict[str, Any]", recorded), cast("dict[str, Any]", got)
            for name in dict.fromkeys([*before, *after]):
                where = f"{path}.{name}" if path else name
                yield from _differing(before.get(name, MISSING), after.get(name, MISSING), where, rules)
        case list(), list():
            lists: tuple[Any, Any] = (recorded, got)  # pyright: ignore[reportUnknownVariableType] - of what, is compared next
            yield from _of_lists(lists[0], lists[1], path, rules)
        case _ if not _equal(recorded, got, rules):
            yield Field(path, recorded, got)
        case _:
            pass


def _of_lists(recorded: list[Any], got: list[Any], path: str, rules: Rules) -> Iterator[Field]:
    if len(recorded) != len(got):
        yield Field(path, recorded, got)
        return
    for index, (one, other) in enumerate(zip(recorded, got, strict=True)):
        yield from _differing(one, other, f"{path}.{index}" if path else str(index), rules)


def _equal(recorded: object, got: object, rules: Rules) -> bool:
    if isinstance(recorded, bool) or isinstance(got, bool):
        return recorded is got
    if isinstance(recorded, int | float) and isinstance(got, int | float):
        return recorded == got or math.isclose(recorded, got, rel_tol=rules.tolerance, abs_tol=rules.tolerance)
    return type(recorded) is type(got) and recorded == got
