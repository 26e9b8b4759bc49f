"""Ids of traces and spans: made from what they stand for, so that whoever exports again makes the same."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class Context(NamedTuple):
    """A span, as others name it: lower-case hex."""

    trace_id: str
    span_id: str


def context_in(traceparent: str | None) -> Context | None:
    """Read a W3C `traceparent`; None where there is none, or what stands there is none.

    >>> context_in("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    Context(trace_id='4bf92f3577b34da6a3ce929d0e0e4736', span_id='00f067aa0ba902b7')
    """
    found = _PARENT.fullmatch(traceparent or "")
    if found is None or found[1] == "ff" or (found[1] == "00" and found[4]):
        return None
    if found[2] == _NO_TRACE or found[3] == _NO_SPAN:
        return None
    return Context(found[2], found[3])


def trace_id(correlation_id: str) -> str:
    """Return the trace of a workflow that nobody had a trace for: a UUID's own digits, so that one finds the other.

    >>> trace_id("0199f2c1-0000-7000-8000-000000000000"), len(trace_id("order-7"))
    ('0199f2c1000070008000000000000000', 32)
    """
    if _UUID.fullmatch(correlation_id):
        digits = correlation_id.replace("-", "")
        if digits != _NO_TRACE:
            return digits
    return _digest(correlation_id, size=16)


def span_id(*of: object) -> str:
    """Return the id of the span that stands for *of*, parts of any type that has a `repr` of its own."""
    return _digest(repr(of), size=8)


def _digest(text: str, *, size: int) -> str:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).hexdigest()
    return digest if digest.strip("0") else digest[:-1] + "1"
