"""Entries of activity, read by hand from the bytes that `bus.entry` writes: there is one for every delivery.

fastavro makes a dictionary of twenty fields of each, most of which no index
holds. In most of them one pattern finds what it does hold. All parts of an
entry say themselves where they end, so where the pattern fits it has found what
fastavro would read. Others, with an error or with what a model cost, fastavro
reads; and where a record is no record of ours, it reads all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

from antiphon.bus.activity import Activity
from antiphon.schemas import binary
from antiphon.schemas.avro import fingerprint, schema_of
from antiphon.schemas.codec import Codec
from antiphon.schemas.store import Reference

_LARGE = 256 * 1024
"""What is larger is read as any other value is, and within its limits."""
_FIRST = 4
_MOST = 50_000
_double = Struct("<d")
_event, _emitted = itemgetter(0), itemgetter(9)

_text = b"(?:%s)" % b"|".join(rb"\x%02x.{%d}" % (2 * length, length) for length in range(64))
_id = rb"H(.{36})"
_long = rb"[\x80-\xff]{0,8}[\x00-\x7f]"
# Seven bytes are beyond the year 3,000; longer ones are weighed by whoever reads all there is.
_time = rb"([\x80-\xff]{0,7}[\x00-\x7f])"
_shared = (
    b"(%s)" % _text * 3  # agent, version, instance
    + rb"(?:\x00|\x02%s\x00|\x04%s%s\x00)" % (_text, _text, _text)  # failing: up to two
    + rb"([\x80-\xff]{0,2}[\x00-\x7f])"  # how many deliveries
)
_plain = (
    _id  # event_id
    + b"(%s)" % _text  # event_type
    + _id  # correlation_id
    + rb"(?:\x00|\x02%s)" % _text  # key
    + b"(%s)" % _text  # topic
    + _long * 2  # partition, offset
    + b"(%s)(%s)" % (_long, _text)  # attempt, outcome
    + _time * 3  # started_us, duration_us, queue_us
    + rb"(?:\x00|\x02%s(%s[\x00\x01])\x00\x00\x00)" % (_id, _text)  # emitted: none, or one without its value
    + rb"\x00\x00\x00"  # causes, error, usage: none
    + rb"(?:\x00|\x02(.{8}))"  # confidence
    + rb"(?:\x00|\x02%s)" % _long  # deadline_us
    + rb"\x00[\x00\x01]\x00"  # effects: none; changed; logs: none
)


class Found(NamedTuple):
    """What one record of activity tells."""

    agent: bytes
    version: bytes
    instance: bytes
    entries: Sequence[Any]
    """Of a plain one a tuple: event's id and type, correlation id, topic, attempt, outcome, start, duration, wait, emitted event's
    id, its type and whether it fails, confidence; each as it stands in the bytes, text behind the byte that says how long it is.
    Of others what fastavro makes of them, text as bytes."""

    def ids(self) -> list[bytes | None]:
        """Return the ids of handled and emitted events that plain entries tell of."""
        plain = [entry for entry in self.entries if not isinstance(entry, dict)]
        return [*map(_event, plain), *map(_emitted, plain)]


class _OtherError(Exception):
    """It is not as `bus.entry` writes it, or seldom so."""


@cache
def _patterns() -> tuple[Callable[..., re.Match[bytes] | None], ...]:
    return tuple(re.compile(pattern, re.DOTALL).match for pattern in (_shared, _plain))


@cache
def _schemas() -> tuple[bytes, Any]:
    """Return the fingerprint of this release's activity, and the schema of an entry, its text as bytes."""
    schema = schema_of(Activity)
    parsed, _ = binary.parse(binary.untexted(schema))
    [deliveries] = [field["type"] for field in parsed["fields"] if field["name"] == "deliveries"]
    return fingerprint(schema), deliveries["items"]


def is_ours(codec: Codec, reference: Reference) -> bool:
    """Say whether what *reference* names is known, and the schema of this release's activity."""
    known = codec.known(reference)
    return known is not None and fingerprint(known) == _schemas()[0]


def found_in(value: bytes, at: int) -> Found | None:
    """Return what *value*, of our own schema, tells *at* its header's end; None where it has to be read as any other is."""
    begun = None if len(value) > _LARGE else _patterns()[0](value, at)
    if begun is None:
        return None
    agent, version, instance, count = begun.groups()
    try:
        entries = _entries(value, begun.end(), number_in(count))
    except _OtherError:
        return None
    return Found(agent[1:], version[1:], instance[1:], entries)


def _entries(value: bytes, at: int, count: int) -> list[Any]:
    plain, entries, stream = _patterns()[1], list[Any](), BytesIO(value)
    for _ in range(count):
        one = plain(value, at)
        if one is not None:
            at = one.end()
            entries.append(one.groups())
            continue
        if len(entries) == _FIRST and all(isinstance(entry, dict) for entry in entries):
            # Those of its agent are as good as never plain.
            raise _OtherError
        stream.seek(at)
        try:
            entries.append(binary.read(stream, _schemas()[1], None))
        except Exception as error:
            # Whatever it is, whoever reads the record next finds it again, and says it.
            raise _OtherError from error
        at = stream.tell()
    # The end of the deliveries, and of the record: had anything been shorter than it said, it would not be there.
    if count <= 0 or value[at:] != b"\0":
        raise _OtherError
    return entries


def number_in(written: bytes) -> int:
    """Return the number that is *written*, zigzag, seven bits a byte, the lowest first.

    >>> number_in(b"H"), number_in(b"\x01"), number_in(bytes.fromhex("f6a1ede3ff8aa206"))
    (36, -1, 1763805600000123)
    """
    found = 0
    for byte in reversed(written):
        found = found << 7 | byte & 0x7F
    return (found >> 1) ^ -(found & 1)


def real_in(written: bytes) -> float:
    """Return the double that is *written*."""
    number: float = _double.unpack(written)[0]
    return number


class Longs(dict[bytes, int]):
    """Numbers as Avro writes them, with what they are; those asked for lately are kept."""

    def __missing__(self, written: bytes) -> int:
        if len(self) >= _MOST:
            self.clear()
        number = self[written] = number_in(written)
        return number


class Moments(dict[bytes, int]):
    """Times as Avro writes them. Those of the same few milliseconds have all but their first two bytes in common."""

    def of(self, written: bytes) -> int:
        """Return what is *written*."""
        if len(written) <= 2:  # noqa: PLR2004 - as above
            return number_in(written)
        found = written[0] & 0x7F | (written[1] & 0x7F) << 7 | self[written[2:]]
        return (found >> 1) ^ -(found & 1)

    def __missing__(self, upper: bytes) -> int:
        if len(self) >= _MOST:
            self.clear()
        found = 0
        for byte in reversed(upper):
            found = found << 7 | byte & 0x7F
        found = self[upper] = found << 14
        return found


class Behind(dict[bytes, int]):
    """Numbers of text, as it stands behind the byte that says how long it is."""

    def __init__(self, numbered: Mapping[bytes, int]) -> None:
        super().__init__()
        self._numbered = numbered

    def __missing__(self, written: bytes) -> int:
        number = self[written] = self._numbered[written[1:]]
        return number
