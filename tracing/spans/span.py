"""A span as a plain value, before any library makes its own of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from antiphon.tracing.spans.ids import Context

Value: TypeAlias = str | int | float | bool | tuple[str, ...]
Attributes: TypeAlias = Mapping[str, Value]


class Kind(StrEnum):
    """What a span is to its neighbours."""

    INTERNAL = "internal"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """Who did it: what the resource of a span says."""

    name: str
    version: str | None = None
    instance: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened in a span: what OpenTelemetry calls its event."""

    name: str
    time_us: int
    attributes: Attributes


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """One span. Ids are lower-case hex, times microseconds since 1970."""

    context: Context
    parent: str | None
    """The span above it, in the same trace."""
    name: str
    kind: Kind
    service: Service
    start_us: int
    end_us: int
    attributes: Attributes
    links: tuple[Context, ...] = ()
    moments: tuple[Moment, ...] = ()
    error: str | None = None
    """Why it failed, for a person; None: it did not."""

    @property
    def id(self) -> str:
        return self.context.span_id
