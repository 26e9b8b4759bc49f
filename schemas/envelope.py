"""The envelope: what an event carries besides its data, and how that stands in a record's headers.

The headers are CloudEvents 1.0 in the Kafka binding's binary mode. Anything
that can write them can start a workflow; anything that can read them can follow
one. Names in the headers are CloudEvents'; names in Python are the mesh's:

    id              ce_id
    type            ce_type
    source          ce_source
    time_us         ce_time             RFC 3339, UTC
    correlation_id  ce_correlationid    default: the id
    parent_id       ce_causationid
    causes          ce_causes           comma-separated, the other parents of a join
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from antiphon.schemas.errors import NotAnEventError
from antiphon.schemas.ids import root_id

CONTENT_TYPE = b"application/avro"
_SPECVERSION: tuple[str, bytes | None] = ("ce_specversion", b"1.0")
_CONTENT: tuple[str, bytes | None] = ("content-type", CONTENT_TYPE)
# Most events have none of these, and one look for all of them costs less than seven.
_SELDOM = frozenset(
    ("ce_causes", "traceparent", "ce_deadline", "ce_budget", "ce_tenant", "ce_replayof", "ce_undoes"),
)
_OURS = len("2025-11-22T10:00:00.000123Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# What a time can be: RFC 3339 has four digits for the year.
_FIRST_US = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_US = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_MOST_HOPS = 1 << 31


@dataclasses.dataclass(slots=True)
class Envelope:
    """Where one event belongs. A value: nobody changes one after it is made.

    It is not `frozen` because that triples the price of making one, and one is
    made for every event that passes. Times are microseconds since 1970, UTC.
    Fields are given by name, but where speed counts: by name they take as long again.
    """

    id: str
    type: str
    source: str
    time_us: int
    correlation_id: str
    parent_id: str | None = None
    causes: tuple[str, ...] = ()
    """The other parents, where several events led to this one (a join)."""
    traceparent: str | None = None
    deadline_us: int | None = None
    hops: int = 0
    """How many agents the workflow went through to come here; 0 at its root."""
    budget: str | None = None
    tenant: str | None = None
    replay_of: str | None = None
    undoes: str | None = None
    """The event that asked for what this one undoes, where that may still come, or come again: it is passed over then."""
    key: str | None = None
    """The record's key where it is not the correlation id. Travels as the key, not as a header."""

    @classmethod
    def root(cls, type: str, *, source: str, id: str | None = None, correlation_id: str | None = None) -> Envelope:
        """Make the envelope of an event that starts a workflow, or with *correlation_id* joins one from outside."""
        id = id or root_id()
        return cls(id=id, type=type, source=source, time_us=now_us(), correlation_id=correlation_id or id)


def now_us() -> int:
    """Microseconds since 1970, UTC, by this machine's clock."""
    return time.time_ns() // 1_000


def to_headers(envelope: Envelope) -> list[tuple[str, bytes | None]]:
    """Write *envelope* as CloudEvents headers; what is not set is left out."""
    headers: list[tuple[str, bytes | None]] = [
        _SPECVERSION,
        ("ce_id", envelope.id.encode()),
        _recurring("ce_type", envelope.type),
        _recurring("ce_source", envelope.source),
        ("ce_time", format_time(envelope.time_us).encode()),
        ("ce_correlationid", envelope.correlation_id.encode()),
        _CONTENT,
    ]
    if envelope.parent_id is not None:
        headers.append(("ce_causationid", envelope.parent_id.encode()))
        headers.append(("ce_hops", b"%d" % envelope.hops))
    if envelope.causes:
        headers.append(("ce_causes", ",".join(envelope.causes).encode()))
    if envelope.traceparent is not None:
        headers.append(("traceparent", envelope.traceparent.encode()))
    if envelope.deadline_us is not None:
        headers.append(("ce_deadline", format_time(envelope.deadline_us).encode()))
    if envelope.budget is not None:
        headers.append(("ce_budget", envelope.budget.encode()))
    if envelope.tenant is not None:
        headers.append(("ce_tenant", envelope.tenant.encode()))
    if envelope.replay_of is not None:
        headers.append(("ce_replayof", envelope.replay_of.encode()))
    if envelope.undoes is not None:
        headers.append(("ce_undoes", envelope.undoes.encode()))
    return headers


def from_headers(headers: Iterable[tuple[str, bytes | None]], *, key: bytes | None, timestamp_ms: int) -> Envelope:
    """Read the envelope of a record.

    Only what CloudEvents requires is required: `ce_id`, `ce_source` and
    `ce_type`. A record without `ce_correlationid` starts a workflow of its own;
    one without `ce_time` happened when the broker says so. Of a header that
    stands twice the last one counts, as in Kafka's own `lastHeader`.

    Anybody can write any number: hops below 0 count as none, and a timestamp
    beyond what a time can be as the last, or the first, that there is.

    Raises `NotAnEventError`, which names the header and what stood there.
    """
    found = dict(headers)
    get = found.get
    try:
        id, type, source = found["ce_id"].decode(), found["ce_type"].decode(), found["ce_source"].decode()  # type: ignore[union-attr]  # caught below
        correlation, time, parent, hops = get("ce_correlationid"), get("ce_time"), get("ce_causationid"), get("ce_hops")
        correlation_id = id if correlation is None else correlation.decode()
        envelope = Envelope(
            id,
            type,
            source,
            time_within(timestamp_ms * 1_000) if time is None else parse_time(time.decode()),
            correlation_id,
            None if parent is None else parent.decode(),
        )
        if hops is not None:
            envelope.hops = min(max(int(hops), 0), _MOST_HOPS)
        if key is not None and key != correlation:
            text = key.decode()
            envelope.key = None if text == correlation_id else text
        if not _SELDOM.isdisjoint(found):
            causes, deadline = get("ce_causes"), get("ce_deadline")
            envelope.causes = tuple(causes.decode().split(",")) if causes else ()
            envelope.traceparent = _text(get("traceparent"))
            envelope.deadline_us = None if deadline is None else parse_time(deadline.decode())
            envelope.budget = _text(get("ce_budget"))
            envelope.tenant = _text(get("ce_tenant"))
            envelope.replay_of = _text(get("ce_replayof"))
            envelope.undoes = _text(get("ce_undoes"))
    except KeyError as error:
        raise NotAnEventError(f"header {error.args[0]} is missing", sorted(found)) from None
    except AttributeError:
        raise NotAnEventError("one of them has no value", sorted(found)) from None
    except ValueError as error:
        raise NotAnEventError(str(error), sorted(found)) from None
    if not (id and type and source):
        raise NotAnEventError("ce_id, ce_type and ce_source must not be empty", sorted(found))
    return envelope


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def format_time(us: int) -> str:
    """Write microseconds since 1970 as RFC 3339 in UTC; what is beyond the years 1 to 9999 as their first or last moment.

    >>> format_time(1_763_805_600_000_123), format_time(1 << 63)
    ('2025-11-22T10:00:00.000123Z', '9999-12-31T23:59:59.999999Z')
    """
    seconds, rest = divmod(time_within(us), 1_000_000)
    return f"{_second(seconds)}.{rest:06d}Z"


@lru_cache(maxsize=1_024)
def _recurring(name: str, text: str) -> tuple[str, bytes | None]:
    return name, text.encode()


@lru_cache(maxsize=1_024)
def _at(second: str) -> int:
    return _parse(second + "Z")


@lru_cache(maxsize=1_024)
def _second(seconds: int) -> str:
    # Events come many a second, and formatting a date is dear.
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


def parse_time(text: str) -> int:
    """Read RFC 3339 as microseconds since 1970; raises `ValueError` where there is no offset from UTC, or no such time in UTC.

    >>> parse_time("2025-11-22T11:00:00.000123+01:00")
    1763805600000123
    """
    if len(text) == _OURS and text[19] == "." and text[26] == "Z" and text[20:26].isdecimal():
        return _at(text[:19]) + int(text[20:26])
    return _parse(text)


def _parse(text: str) -> int:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        message = f"expected a time with an offset from UTC, got {text!r}"
        raise ValueError(message)
    us = (moment - _EPOCH) // _MICROSECOND
    if us != time_within(us):
        message = f"expected a time of the years 1 to 9999 in UTC, got {text!r}"
        raise ValueError(message)
    return us


def time_within(us: int) -> int:
    """Return *us*, or the first or last moment that a time can be where it is beyond them."""
    if _FIRST_US <= us <= _LAST_US:
        return us
    return min(max(us, _FIRST_US), _LAST_US)
