"""A condition on an event's data: a field, a comparison, a value."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import orjson

from antiphon.replay.errors import ConditionError

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "~": lambda found, wanted: str(wanted) in str(found),
}
_CONDITION = re.compile(r"\s*([^\s=!<>~]+)\s*(!=|<=|>=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_MISSING = object()


@dataclasses.dataclass(frozen=True)
class Condition:
    """Holds for data whose field at *path* compares so with *wanted*.

    A field that is not there is unlike every value, and neither more nor less than any.
    """

    path: tuple[str, ...]
    comparison: str
    wanted: Any

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition as people type it. The value is JSON, or the text it looks like.

        Raises `ConditionError`.

        >>> Condition.parse("customer.country = DE").holds({"customer": {"country": "DE"}})
        True
        >>> Condition.parse("lines.0.count>=2").holds({"lines": [{"count": 1}]})
        False
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConditionError(text)
        return cls(tuple(found[1].split(".")), found[2], _value(found[3]))

    def holds(self, data: object) -> bool:
        """Say whether it holds for *data*, JSON."""
        found = _at(data, self.path)
        if found is _MISSING:
            return self.comparison == "!="
        try:
            return _COMPARISONS[self.comparison](found, self.wanted)
        except TypeError:  # text is neither more nor less than a number
            return False


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _at(data: object, path: Sequence[str]) -> object:
    for part in path:
        if isinstance(data, dict):
            data = cast("dict[str, object]", data).get(part, _MISSING)
        elif isinstance(data, list) and part.isdecimal() and int(part) < len(cast("list[object]", data)):
            data = cast("list[object]", data)[int(part)]
        else:
            return _MISSING
    return data
