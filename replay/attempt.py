"""One handling that is done again: its delivery, and what stands in for its worker.

Most handlers look at their event alone. What they may ask for besides is read
or made where it is looked at first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeVar

import orjson

from antiphon.bus.claims import Claims
from antiphon.bus.delivery import Delivery
from antiphon.bus.record import Record
from antiphon.bus.state import dump
from antiphon.replay.effects import Effects, Results
from antiphon.replay.errors import UnrecordedEffectError
from antiphon.replay.recording import Handling
from antiphon.schemas.codec import Codec
from antiphon.schemas.envelope import Envelope, from_headers
from antiphon.schemas.errors import UnknownSchemaError
from antiphon.schemas.event import Event, envelope_of

E = TypeVar("E", bound=Event)

_DEFAULTS: Mapping[str, Any] = {
    field.name: field.default for field in dataclasses.fields(Delivery) if field.default is not dataclasses.MISSING
}
_ENVELOPE = tuple(field.name for field in dataclasses.fields(Envelope))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Terms:
    """What all attempts of one replay have in common."""

    codec: Codec
    claims: Claims
    effects: Effects

    async def decode(self, event_class: type[E], value: bytes) -> E:
        """Read *value*; a writer's schema that is not known yet is fetched."""
        try:
            return self.codec.decode(event_class, value)
        except UnknownSchemaError as error:
            await self.codec.learn(error.reference)
            return self.codec.decode(event_class, value)


class Attempt(Delivery):
    """One handling that is done again; `delivery.State` and `delivery.Services` of itself.

    `event` is set when it is read, sealed in its envelope; the rest is filled in where it is looked at.
    """

    __slots__ = ("handling", "mappings", "results", "terms", "value")

    terms: Terms
    handling: Handling
    value: bytes | None
    """The state that stood before, JSON."""
    mappings: dict[str, dict[str, Any]] | None
    results: dict[str, Any] | None

    def __init__(self, terms: Terms, handling: Handling, record: Record, value: bytes | None, version: str) -> None:
        # Not `super().__init__`: that would fill in everything.
        self.terms = terms
        self.handling = handling
        self.record = record
        self.value = value
        self.version = version
        self.usage = []
        self.confidence = None
        self.mappings = None
        self.results = None

    def __getattr__(self, name: str) -> Any:
        """Fill in what is looked at for the first time."""
        match name:
            case "state" | "services":
                return self  # never kept: what refers to itself is gone late
            case "envelope":
                value: Any = envelope_of(self.event)
            case "agent":
                value = self.handling.agent
            case "attempt":
                value = self.handling.entry.attempt
            case "started_us":
                value = self.handling.entry.started_us
            case "replaying":
                value = True
            case _ if name in _DEFAULTS:
                value = _DEFAULTS[name]
            case _:
                raise AttributeError(name)
        setattr(self, name, value)
        return value

    # State.

    def mapping(self, key: str) -> MutableMapping[str, Any]:
        if self.mappings is None:
            self.mappings = {}
        if key not in self.mappings:
            value = self.value if key == self.handling.state_key else None
            self.mappings[key] = {} if value is None else orjson.loads(value)
        return self.mappings[key]

    def changed(self) -> Mapping[str, bytes | None]:
        """Return what stands now under each key that was looked at. Raises `StateNotJsonError`, as it would have then."""
        return {key: dump(key, mapping) for key, mapping in (self.mappings or {}).items()}

    def after(self) -> bytes | None:
        """Return the state that stands now under the event's own key."""
        return self.value if self.mappings is None else self.changed().get(self.handling.state_key, self.value)

    # Services.

    @property
    def refused(self) -> UnrecordedEffectError | None:
        """The first side effect that would have run and has no record: the handler may have caught it."""
        return self.results.refused if isinstance(self.results, Results) else None

    async def decode(self, event_class: type[E], value: bytes) -> E:
        return await self.terms.decode(event_class, await self.terms.claims.resolve(value))

    async def remember(self, delivery: Delivery, name: str, result: Any) -> None:
        if self.terms.effects is Effects.LIVE:
            self.remembered(delivery)[name] = result

    def remembered(self, delivery: Delivery) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        if self.results is None:
            entry = self.handling.entry
            recorded = Results(self.handling.agent, entry.event_id, entry.effects)
            self.results = {} if self.terms.effects is Effects.LIVE else recorded
        return self.results

    @property
    def state_room(self) -> int:
        return self.terms.claims.limit

    def wake_at(self, time_us: int) -> None:
        """Nobody is woken: what was due then is recorded too."""


def unread(record: Record) -> Envelope:
    """Return the envelope of *record*, which is read from its headers where it is looked at first, if ever."""
    envelope = _Unread.__new__(_Unread)
    envelope.record = record
    return envelope


class _Unread(Envelope):
    """Fills itself in. Equal to any envelope that says the same; made by its fields it is one as any other."""

    __slots__ = ("record",)
    __hash__ = None  # type: ignore[assignment]  # as `Envelope`
    record: Record

    def __getattr__(self, name: str) -> Any:
        """Read all of it. Raises `NotAnEventError`."""
        if name not in _ENVELOPE:
            raise AttributeError(name)
        record = self.record
        read = from_headers(record.headers, key=record.key, timestamp_ms=record.timestamp_ms)
        for field in _ENVELOPE:
            setattr(self, field, getattr(read, field))
        return getattr(read, name)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Envelope):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in _ENVELOPE)
