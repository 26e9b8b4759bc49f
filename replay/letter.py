"""A dead letter as a person looks at it: which event, why it was set aside, and whether it may go back."""

from __future__ import annotations

import dataclasses
from typing import Any

from antiphon.bus.dead_letter import PREFIX
from antiphon.bus.names import Names, dead_topic
from antiphon.bus.record import Position, Record
from antiphon.bus.redrive import count_of, number_in
from antiphon.schemas.envelope import parse_time

PARKED_AFTER = 3
"""Redrives after which a letter is left alone: what fails again and again needs another remedy."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Letter:
    """One event that an agent set aside, and nobody has decided about since."""

    agent: str
    record: Record
    """The letter as it stands on the dead-letter topic."""
    origin: Position
    """Where the event stood that was set aside, as the cluster calls the topic."""
    event_id: str | None
    """None: the record is no event."""
    type: str | None
    correlation_id: str | None
    reason: str
    attempts: int
    error: str
    message: str
    traceback: str
    time_us: int
    deadline_us: int | None
    redriven: int
    """How often it was redriven before."""
    left_out: tuple[str, ...]
    """The parts that did not fit into the letter: they stand at the origin alone."""

    @property
    def place(self) -> str:
        return f"{self.record.topic}[{self.record.partition}]@{self.record.offset}"

    @property
    def is_whole(self) -> bool:
        """Whether the letter itself holds all of the event."""
        return not {"value", "headers", "key"}.intersection(self.left_out)

    def is_parked(self, after: int = PARKED_AFTER) -> bool:
        """Say whether it was redriven so often that it is left alone."""
        return self.redriven >= after

    def document(self) -> dict[str, Any]:
        """Return it as JSON says it, its keys in the promised order."""
        return {
            "agent": self.agent,
            "topic": self.record.topic,
            "partition": self.record.partition,
            "offset": self.record.offset,
            "event_id": self.event_id,
            "type": self.type,
            "correlation_id": self.correlation_id,
            "reason": self.reason,
            "attempts": self.attempts,
            "error": {"type": self.error, "message": self.message},
            "redriven": self.redriven,
            "parked": self.is_parked(),
        }


def letter_of(record: Record, names: Names) -> Letter:
    """Read *record* of a dead-letter topic. What it does not say is empty: whoever else writes there is not refused."""
    said = {name: (value or b"").decode(errors="replace") for name, value in record.headers}

    def ours(name: str) -> str:
        return said.get(PREFIX + name, "")

    id = said.get("ce_id")
    return Letter(
        agent=names.plain(record.topic).removesuffix(dead_topic("")),
        record=record,
        origin=Position(ours("topic"), _number(ours("partition")), _number(ours("offset"))),
        event_id=id,
        type=said.get("ce_type"),
        correlation_id=said.get("ce_correlationid", id),
        reason=ours("reason"),
        attempts=_number(ours("attempts")),
        error=ours("error"),
        message=ours("message"),
        traceback=ours("traceback"),
        time_us=_time_us(ours("time")) or record.timestamp_ms * 1_000,
        deadline_us=_time_us(said.get("ce_deadline", "")),
        redriven=count_of(record),
        left_out=tuple(part for part in ours("left_out").split(",") if part),
    )


def _number(text: str) -> int:
    return number_in(text) or 0


def _time_us(text: str) -> int | None:
    try:
        return parse_time(text)
    except ValueError:
        return None
