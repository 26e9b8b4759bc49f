"""One delivery's entry in the activity record, in Avro, as it goes on the wire.

Written by hand, in the order of `activity.Handled`'s fields: there is one for
every delivery, and what most of them have in common is kept ready. A property
test holds it to what fastavro reads under `Activity`'s own schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from antiphon.bus.delivery import Usage
from antiphon.schemas.primitives import END, NULL, SOME, array, blob, double, long, text

_NO_VALUES = NULL + NULL
_NO_USAGE_NO_CONFIDENCE_NO_DEADLINE = END + NULL + NULL
_NO_EFFECTS_NO_LOGS = (END + b"\0" + END, END + b"\1" + END)


def emitted(id: str, type: str, *, fails: bool, undo: bytes | None, told: bytes | None = None) -> bytes:
    """Write `activity.Emitted`."""
    if undo is None and told is None:
        return text(id) + _emitted(type, fails) + _NO_VALUES
    return text(id) + _emitted(type, fails) + _value(undo) + _value(told)


def _value(value: bytes | None) -> bytes:
    return NULL if value is None else SOME + blob(value)


def failure(type: str, message: str, traceback: str) -> bytes:
    """Write `activity.Failure`."""
    return text(type) + text(message) + text(traceback)


def logged(time_us: int, level: str, message: str, fields: str) -> bytes:
    """Write `activity.Logged`."""
    return long(time_us) + text(level) + text(message) + text(fields)


def handled(  # noqa: PLR0913 - the record's fields, in its order
    *,
    event_id: str,
    event_type: str,
    correlation_id: str,
    key: str | None,
    topic: str,
    partition: int,
    offset: int,
    attempt: int,
    outcome: str,
    started_us: int,
    duration_us: int,
    queue_us: int,
    emitted: list[bytes],
    causes: Sequence[str] = (),
    error: bytes | None = None,
    usage: Sequence[Usage] = (),
    confidence: float | None = None,
    deadline_us: int | None = None,
    effects: Mapping[str, bytes] | None = None,
    changed: bool = False,
    logs: Sequence[bytes] = (),
) -> bytes:
    """Write `activity.Handled`; *emitted*, *error* and *logs* are written already."""
    return b"".join(
        (
            text(event_id),
            _name(event_type),
            text(correlation_id),
            NULL if key is None else SOME + text(key),
            _place(topic, partition),
            long(offset),
            _ending(attempt, outcome),
            long(started_us),
            long(duration_us),
            long(queue_us),
            array(emitted),
            array([text(cause) for cause in causes]) if causes else END,
            NULL if error is None else SOME + error,
            _NO_USAGE_NO_CONFIDENCE_NO_DEADLINE
            if not usage and confidence is None and deadline_us is None
            else _spent(usage, confidence) + _or_null(deadline_us),
            _NO_EFFECTS_NO_LOGS[changed]
            if not effects and not logs
            else array([text(name) + blob(result) for name, result in (effects or {}).items()])
            + bytes((changed,))
            + array([*logs]),
        )
    )


def activity(agent: str, version: str, instance: str, failing: Sequence[str], entries: list[bytes]) -> bytes:
    """Write `activity.Activity`."""
    return b"".join(
        (text(agent), text(version), text(instance), array([text(type) for type in failing]), array(entries))
    )


def _spent(usage: Sequence[Usage], confidence: float | None) -> bytes:
    calls = [
        b"".join(
            (
                text(call.model),
                long(call.input_tokens),
                long(call.output_tokens),
                double(call.cost),
                text(call.currency),
                _or_null(call.started_us),
                _or_null(call.duration_us),
            )
        )
        for call in usage
    ]
    return array(calls) + (NULL if confidence is None else SOME + double(confidence))


def _or_null(number: int | None) -> bytes:
    return NULL if number is None else SOME + long(number)


# Of these there are few, and each is written for every delivery.


@lru_cache(maxsize=1_024)
def _name(type: str) -> bytes:
    return text(type)


@lru_cache(maxsize=1_024)
def _emitted(type: str, fails: bool) -> bytes:  # noqa: FBT001 - as it stands in the record
    return text(type) + bytes((fails,))


@lru_cache(maxsize=1_024)
def _place(topic: str, partition: int) -> bytes:
    return text(topic) + long(partition)


@lru_cache(maxsize=64)
def _ending(attempt: int, outcome: str) -> bytes:
    return long(attempt) + text(outcome)
