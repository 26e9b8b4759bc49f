"""One delivery's entry in the activity record, in Avro, as it goes on the wire.

Written by hand, in the order of `activity.Handled`'s fields: there is one for
every delivery, and what most of them have in common is kept ready. A property
test holds it to what fastavro reads under `Activity`'s own schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from antiphon.bus.delivery import Usage
from antiphon.schemas.primitives import NULL, SOME, array, blob, double, long, text

_NO_VALUES = NULL + NULL


def emitted(id: str, type: str, fails: bool, undo: bytes | None = None, told: bytes | None = None) -> bytes:  # noqa: FBT001 - the record's fields
    """Write `activity.Emitted`."""
    values = _NO_VALUES if undo is None and told is None else _value(undo) + _value(told)
    return text(id) + _emitted(type, fails) + values


def _value(value: bytes | None) -> bytes:
    return NULL if value is None else SOME + blob(value)


def failure(type: str, message: str, traceback: str) -> bytes:
    """Write `activity.Failure`."""
    return text(type) + text(message) + text(traceback)


def logged(time_us: int, level: str, message: str, fields: str) -> bytes:
    """Write `activity.Logged`."""
    return long(time_us) + text(level) + text(message) + text(fields)


def handled(  # noqa: PLR0913, PLR0917 - the record's fields, in its order; by place, which takes half the time
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
    rest: bytes,
) -> bytes:
    """Write `activity.Handled`; *emitted* and the *rest* (`rest`, or one of `NO_MORE`) are written already."""
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
            rest,
        )
    )


def rest(
    *,
    causes: Sequence[str] = (),
    error: bytes | None = None,
    usage: Sequence[Usage] = (),
    confidence: float | None = None,
    deadline_us: int | None = None,
    effects: Mapping[str, bytes] | None = None,
    changed: bool = False,
    logs: Sequence[bytes] = (),
) -> bytes:
    """Write the fields of `activity.Handled` from *causes* on; *error* and *logs* are written already."""
    return b"".join(
        (
            array([text(cause) for cause in causes]),
            NULL if error is None else SOME + error,
            array([_spent(call) for call in usage]),
            NULL if confidence is None else SOME + double(confidence),
            _or_null(deadline_us),
            array([text(name) + blob(result) for name, result in (effects or {}).items()]),
            bytes((changed,)),
            array([*logs]),
        )
    )


def _spent(call: Usage) -> bytes:
    return b"".join(
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


def _or_null(number: int | None) -> bytes:
    return NULL if number is None else SOME + long(number)


NO_MORE = (rest(), rest(changed=True))
"""The rest of a delivery of which there is no more to say than whether it changed the agent's state: of most of them."""


def activity(agent: str, version: str, instance: str, failing: Sequence[str], entries: list[bytes]) -> bytes:
    """Write `activity.Activity`."""
    return b"".join(
        (text(agent), text(version), text(instance), array([text(type) for type in failing]), array(entries))
    )


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
