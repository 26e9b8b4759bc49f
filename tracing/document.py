"""The parts of the workflow document: one JSON shape for one workflow, wherever it appears.

Beyond the shape that the command line promises:

- an event has `fails`: whether its type says that the workflow has failed;
- `cost` has `amounts` (a list of `{"amount", "currency"}`) where calls were paid
  in several currencies; `amount` and `currency` are then null, for they cannot be added up;
- `clocks` has the clocks that are off, by `producer` (`agent/instance`, or an event's source) and `ahead_ms`. Times are as those clocks told
  them; `started`, `ended`, `duration_ms` and `critical_path` are as right clocks would have it. `at_right_times` puts all of it right;
- `model_ms` of a delivery is for how long it waited for models, calls side by side counted once; null where no agent told when its calls were;
- `replay_of` is the event that a live replay began it with again, or null;
- `ended` is null while something is outstanding. `duration_ms` then counts to the last thing seen.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from antiphon.bus.activity import Failure, Logged, Spent
from antiphon.schemas.envelope import format_time, parse_time
from antiphon.tracing.clocks import producer_of
from antiphon.tracing.delivered import Delivered
from antiphon.tracing.seen import SeenEvent

_NO_COST = {"amount": 0.0, "currency": "USD"}


def event_item(event: SeenEvent, *, fails: bool) -> dict[str, Any]:
    """Return one item of `events`."""
    envelope = event.envelope
    return {
        "id": envelope.id,
        "type": envelope.type,
        "parent_id": envelope.parent_id,
        "causes": [*envelope.causes],
        "source": envelope.source,
        "time": format_time(envelope.time_us),
        "topic": event.topic,
        "partition": event.partition,
        "offset": event.offset,
        "key": envelope.key or envelope.correlation_id,
        "data": event.data,
        "fails": fails,
    }


def delivery_item(delivery: Delivered) -> dict[str, Any]:
    """Return one item of `deliveries`."""
    return {
        "event_id": delivery.event_id,
        "agent": delivery.agent,
        "version": delivery.version,
        "instance": delivery.instance,
        "attempt": delivery.attempt,
        "outcome": delivery.outcome,
        "started": format_time(delivery.started_us),
        "duration_ms": milliseconds(delivery.duration_us),
        "queue_ms": milliseconds(delivery.queue_us),
        "model_ms": None if delivery.model_us is None else milliseconds(delivery.model_us),
        "emitted": [emitted.id for emitted in delivery.emitted],
        "error": _error(delivery.error),
        "usage": [_usage(spent) for spent in delivery.usage],
        "confidence": delivery.confidence,
        "logs": [_logged(line) for line in delivery.logs],
    }


def _error(error: Failure | None) -> dict[str, str] | None:
    return None if error is None else {"type": error.type, "message": error.message, "traceback": error.traceback}


def _logged(line: Logged) -> dict[str, Any]:
    try:
        fields: Any = orjson.loads(line.fields or "{}")
    except orjson.JSONDecodeError:
        fields = {"fields": line.fields}
    return {"time": format_time(line.time_us), "level": line.level, "message": line.message, "fields": fields}


def _usage(spent: Spent) -> dict[str, Any]:
    return {
        "model": spent.model,
        "input_tokens": spent.input_tokens,
        "output_tokens": spent.output_tokens,
        "cost": spent.cost,
        "currency": spent.currency,
        "started": None if spent.started_us is None else format_time(spent.started_us),
        "duration_ms": None if spent.duration_us is None else milliseconds(spent.duration_us),
    }


def total(calls: Iterable[Spent]) -> dict[str, Any]:
    """Return `cost`: what *calls* cost together."""
    paid: defaultdict[str, list[float]] = defaultdict(list)
    for spent in calls:
        paid[spent.currency].append(spent.cost)
    # fsum, so that the order of the calls cannot show; rounded, so that binary fractions do not.
    amounts = [{"amount": round(math.fsum(costs), 9), "currency": currency} for currency, costs in sorted(paid.items())]
    if len(amounts) > 1:
        return {"amount": None, "currency": None, "amounts": amounts}
    return amounts[0] if amounts else dict(_NO_COST)


def milliseconds(us: int) -> float:
    """Return microseconds as the document writes durations."""
    return round(us / 1_000, 3)


def at_right_times(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a workflow document with the times that right clocks would have told, for whoever draws it."""
    ahead = {clock["producer"]: round(clock["ahead_ms"] * 1_000) for clock in document.get("clocks", ())}
    if not ahead:
        return document
    told_by: dict[str, str] = {}
    for delivery in document["deliveries"]:
        worker = producer_of(delivery["agent"], delivery["instance"])
        told_by.update((id, worker) for id in delivery["emitted"] if id not in told_by)
    events = [
        {**event, "time": _righted(event["time"], ahead.get(told_by.get(event["id"], event["source"]), 0))}
        for event in document["events"]
    ]
    deliveries = [
        _delivery_righted(one, ahead.get(producer_of(one["agent"], one["instance"]), 0))
        for one in document["deliveries"]
    ]
    return {**document, "events": events, "deliveries": deliveries}


def _delivery_righted(one: Mapping[str, Any], ahead_us: int) -> Mapping[str, Any]:
    calls = [
        call if call["started"] is None else {**call, "started": _righted(call["started"], ahead_us)}
        for call in one["usage"]
    ]
    return {**one, "started": _righted(one["started"], ahead_us), "usage": calls}


def _righted(time: str, ahead_us: int) -> str:
    return format_time(parse_time(time) - ahead_us)
