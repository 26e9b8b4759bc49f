"""Joins: events that wait for one another.

What has come is kept in the agent's state under the workflow's key, as the
bytes it came in, so that it is read by Avro's rules however long it waited. Of
one type that comes twice before the join fires the newest counts. When the join
has fired, that alone is remembered: it fires once for a workflow, until the
workflow's state expires.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping
from typing import Any, TypeAlias

from antiphon.agents.errors import JoinKeyError
from antiphon.bus.besides import carry
from antiphon.bus.claim import standing
from antiphon.bus.delivery import Delivery
from antiphon.schemas.envelope import from_headers, to_headers
from antiphon.schemas.event import Event

JOINS = "antiphon.joins"
"""Reserved part of a mapping: what joins wait for, by join."""

Kept: TypeAlias = Mapping[str, Any]
"""One join of one workflow: `{"waiting": {type: {"headers", "value"}}}`, or `{"fired": true}`."""

_KNOWN = frozenset({"waiting", "fired"})


@dataclasses.dataclass(frozen=True)
class Join:
    """The event classes of one join, in the order its handler takes them."""

    classes: tuple[type[Event], ...]

    @property
    def name(self) -> str:
        """What it is kept under: the types alone, so that a handler may be renamed."""
        return "+".join(sorted(self.types))

    @property
    def types(self) -> list[str]:
        return [event_class.__event__.type for event_class in self.classes]


async def gather(join: Join, event: Event, delivery: Delivery) -> tuple[Event, ...] | None:
    """Return all events of *join* now that *event* has come, or None where it has to wait or has fired.

    Notes the others' ids in `delivery.causes`, and their budgets. That the join fired is noted
    with `fired`, once its handler was through.
    """
    envelope = delivery.envelope
    if envelope.key is not None:
        raise JoinKeyError(delivery.agent, envelope.type, envelope.key)
    kept = _kept(delivery).get(join.name, {})
    if "fired" in kept:
        return None
    waiting: Mapping[str, Any] = kept.get("waiting", {})
    if any(type not in waiting for type in join.types if type != envelope.type):
        _keep(delivery, join, {**kept, "waiting": {**waiting, envelope.type: _pack(delivery)}})
        return None
    events = [
        event if type == envelope.type else await _unpack(event_class, waiting[type], delivery)
        for type, event_class in zip(join.types, join.classes, strict=True)
    ]
    others = [waiting[type]["headers"] for type in join.types if type != envelope.type]
    delivery.causes = tuple(headers["ce_id"] for headers in others)
    delivery.budgets = tuple(headers["ce_budget"] for headers in others if "ce_budget" in headers)
    return tuple(events)


def fired(join: Join, delivery: Delivery) -> None:
    """Note that *join* has fired for this workflow."""
    kept: dict[str, Any] = {"fired": True}
    carry(_kept(delivery).get(join.name, {}), kept, _KNOWN)
    _keep(delivery, join, kept)


def _kept(delivery: Delivery) -> Mapping[str, Kept]:
    kept: Mapping[str, Kept] = delivery.state.mapping(delivery.state_key).get(JOINS, {})
    return kept


def _keep(delivery: Delivery, join: Join, kept: Kept) -> None:
    delivery.state.mapping(delivery.state_key)[JOINS] = {**_kept(delivery), join.name: kept}


def _pack(delivery: Delivery) -> dict[str, Any]:
    """Return the event as it stands on the wire: what is kept outlives releases as the wire does."""
    headers = {name: value.decode() for name, value in to_headers(delivery.envelope) if value is not None}
    return {"headers": headers, "value": base64.b64encode(standing(delivery.record)).decode()}


async def _unpack(event_class: type[Event], packed: Mapping[str, Any], delivery: Delivery) -> Event:
    headers: dict[str, str] = packed["headers"]
    event = await delivery.services.decode(event_class, base64.b64decode(packed["value"]))
    return event.sealed(
        from_headers([(name, value.encode()) for name, value in headers.items()], key=None, timestamp_ms=0)
    )
