"""A condition on an event's data, as people type it: a field, a comparison, a value."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import orjson

from antiphon.schemas.errors import ConditionError

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


@dataclasses.dataclass(frozen=True)
class Condition:
    """Holds for data whose field at *path* compares so with *wanted*.

    Of a list, one item that does is enough, unless the path names its place. A
    field that is not there is unlike every value, and neither more nor less than any.
    """

    path: tuple[str, ...]
    comparison: str
    wanted: str
    """As it was typed. Beside text it is text; beside anything else it is JSON."""

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Read a condition as people type it. Raises `ConditionError`.

        >>> Condition.parse("customer.country = DE").holds({"customer": {"country": "DE"}})
        True
        >>> Condition.parse("lines.0.count>=2").holds({"lines": [{"count": 1}]})
        False
        >>> Condition.parse("ticket=7").holds({"ticket": "7"}), Condition.parse("ticket=7").holds({"ticket": 7})
        (True, True)
        """
        found = _CONDITION.fullmatch(text)
        if found is None:
            raise ConditionError(text)
        return cls(tuple(found[1].split(".")), found[2], found[3])

    def holds(self, data: object) -> bool:
        """Say whether it holds for *data*, JSON."""
        found = [*_at(data, self.path)]
        if self.comparison == "!=":
            return all(self._compares(value) for value in found)
        return any(self._compares(value) for value in found)

    def _compares(self, found: object) -> bool:
        value = _value(self.wanted)
        try:
            return _COMPARISONS[self.comparison](
                found, self.wanted if isinstance(found, str) and not isinstance(value, str) else value
            )
        except TypeError:  # text is neither more nor less than a number
            return False


def _value(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _at(data: object, path: Sequence[str]) -> Iterator[object]:
    """Yield what stands at *path* in *data*."""
    if isinstance(data, list):
        items = cast("list[object]", data)
        if path and path[0].isdecimal():
            yield from _at(items[int(path[0])], path[1:]) if int(path[0]) < len(items) else ()
        else:
            for item in items:
                yield from _at(item, path)
    elif not path:
        yield data
    elif isinstance(data, dict) and path[0] in data:
        yield from _at(cast("dict[str, object]", data)[path[0]], path[1:])
