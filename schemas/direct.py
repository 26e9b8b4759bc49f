"""A flat record's bytes put together at once, where nothing of it needs a look: most events are such records.

fastavro goes through a schema for every datum, a call and more a field, and
through a stream for every byte. Fields without parts are written faster by
what Avro says of their types. Whatever is not exactly of its type is left to
fastavro, and to the checks that say which field does not fit.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from antiphon.schemas.primitives import NULL, SOME, blob, double, long, text

Write: TypeAlias = Callable[[Any], bytes]

_LEAST, _MOST = -(1 << 63), (1 << 63) - 1


def direct_writer(schema: Any) -> Callable[[Mapping[str, Any]], bytes] | None:
    """Return what writes a record of *schema* (parsed by fastavro) from its fields by name; None where one has parts.

    What it returns raises, whatever it may be, on a value of which its field's type can say nothing.
    """
    if not isinstance(schema, dict):
        return None
    fields = cast("list[dict[str, Any]]", cast("dict[str, Any]", schema).get("fields", ()))
    writers = [_writer(field["type"]) for field in fields]
    if not writers or None in writers:
        return None
    puts = cast("list[Write]", writers)
    names = [field["name"] for field in fields]
    # One more than there are: of a single name there would be no tuple.
    pick: Callable[[Mapping[str, Any]], tuple[Any, ...]] = operator.itemgetter(*names, names[0])

    def write(datum: Mapping[str, Any]) -> bytes:
        return b"".join([put(value) for put, value in zip(puts, pick(datum), strict=False)])

    return write


def _writer(schema: Any) -> Write | None:
    match schema:
        case str():
            return _WRITERS.get(schema)
        case ["null", other]:
            return _or_null(other, NULL, SOME)
        case [other, "null"]:
            return _or_null(other, SOME, NULL)
        case _:
            return None


def _or_null(other: Any, null: bytes, some: bytes) -> Write | None:
    write = _WRITERS.get(other) if isinstance(other, str) else None
    return None if write is None else lambda value: null if value is None else some + write(value)


def _long(value: int) -> bytes:
    if _LEAST <= value <= _MOST:
        return long(value)
    raise OverflowError


_WRITERS: Mapping[str, Write] = {
    "string": text,
    "long": _long,
    "double": double,
    "boolean": {False: b"\0", True: b"\1"}.__getitem__,
    "bytes": blob,
}
