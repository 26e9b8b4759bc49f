"""A dead letter: the record as it was, and why it was set aside, in headers of its own."""

from __future__ import annotations

from antiphon.bus.error_text import message_of, traceback_of
from antiphon.bus.record import Outgoing, Record, TopicPartition
from antiphon.schemas.envelope import format_time, now_us

PREFIX = "antiphon_dead_"
_PER_HEADER = 10


def dead_letter(
    topic: str, record: Record, error: BaseException, *, agent: str, reason: str, attempts: int, limit: int
) -> Outgoing:
    """Make the record for the dead-letter topic *topic*.

    Key, value and headers are *record*'s, untouched; `antiphon_dead_*` headers
    are added. It goes to the partition number it came from, so a key's dead
    letters stay in order. *reason* is one word: undecodable, permanent, exhausted, or the limit that was passed.

    A letter of more than *limit* bytes could never be written, and would be tried for ever. Of one that is, the
    traceback is left out, then the record's value, its headers, its key, until it fits; `antiphon_dead_left_out`
    says which. The record itself is where the letter says.
    """
    added = {
        "reason": reason,
        "agent": agent,
        "topic": record.topic,
        "partition": str(record.partition),
        "offset": str(record.offset),
        "attempts": str(attempts),
        "error": type(error).__name__,
        "message": message_of(error),
        "traceback": traceback_of(error),
        "time": format_time(now_us()),
    }
    ours = {PREFIX + name: text.encode(errors="replace") for name, text in added.items()}
    letter = Outgoing(topic, record.key, record.value, [*record.headers, *ours.items()], partition=record.partition)
    return letter if _size(letter) <= limit else _shortened(letter, record, ours, limit)


def origin_of(letter: Outgoing) -> TopicPartition:
    """Return where the record stood that *letter* is of."""
    said = dict(letter.headers)
    topic, partition = said[PREFIX + "topic"] or b"", said[PREFIX + "partition"] or b""
    return TopicPartition(topic.decode(), int(partition))


def _shortened(letter: Outgoing, record: Record, ours: dict[str, bytes], limit: int) -> Outgoing:
    key, value, theirs = letter.key, letter.value, record.headers
    left_out: list[str] = []
    for part in ("traceback", "value", "headers", "key"):
        match part:
            case "traceback":
                del ours[PREFIX + part]
            case "value":
                value = b""  # none at all would read as a deletion
            case "headers":
                theirs = []
            case _:
                key = None
        left_out.append(part)
        ours[PREFIX + "left_out"] = ",".join(left_out).encode()
        letter = Outgoing(letter.topic, key, value, [*theirs, *ours.items()], partition=letter.partition)
        if _size(letter) <= limit:
            break
    return letter


def _size(letter: Outgoing) -> int:
    headers = sum(len(name) + len(value or b"") + _PER_HEADER for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers
