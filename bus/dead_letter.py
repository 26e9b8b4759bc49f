"""A dead letter: the record as it was, and why it was set aside, in headers of its own."""

from __future__ import annotations

import traceback

from antiphon.bus.record import Outgoing, Record
from antiphon.schemas.envelope import format_time, now_us

PREFIX = "antiphon_dead_"
_LONGEST_TRACEBACK = 16_384


def dead_letter(
    topic: str, record: Record, error: BaseException, *, agent: str, reason: str, attempts: int
) -> Outgoing:
    """Make the record for the dead-letter topic *topic*.

    Key, value and headers are *record*'s, untouched; `antiphon_dead_*` headers
    are added. It goes to the partition number it came from, so a key's dead
    letters stay in order. *reason* is one word: undecodable, permanent or exhausted.
    """
    added = {
        "reason": reason,
        "agent": agent,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "attempts": str(attempts),
        "error": type(error).__name__,
        "message": str(error),
        "traceback": formatted(error),
        "time": format_time(now_us()),
    }
    headers = [*record.headers, *((PREFIX + name, text.encode(errors="replace")) for name, text in added.items())]
    return Outgoing(topic, record.key, record.value, headers, partition=record.partition)


def formatted(error: BaseException) -> str:
    """Return the traceback of *error* as text, its end kept where it is very long."""
    return "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
