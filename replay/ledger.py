"""Who still owes which event a delivery. Cheap, and kept as activity comes; what a workflow is, stitching says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from antiphon.bus.activity import Handled
from antiphon.bus.consumer import Consumer
from antiphon.replay.recording import ONGOING


class Ledger:
    """What *consumers* owe, by workflow."""

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self._hearers: Mapping[str, list[str]] = _hearers(consumers)
        self._owed: dict[str, set[tuple[str, str]]] = {}

    def published(self, id: str, type: str, correlation_id: str) -> None:
        for agent in self._hearers.get(type, ()):
            self.owes(id, agent, correlation_id)

    def owes(self, id: str, agent: str, correlation_id: str) -> None:
        """Take note that *agent*, and perhaps nobody else, is to handle an event."""
        self._owed.setdefault(correlation_id, set()).add((id, agent))

    def handled(self, agent: str, delivery: Handled) -> None:
        if delivery.outcome in ONGOING:
            return
        owed = self._owed.setdefault(delivery.correlation_id, set())
        owed.discard((delivery.event_id, agent))
        for emitted in delivery.emitted:
            self.published(emitted.id, emitted.type, delivery.correlation_id)
        if not owed:
            del self._owed[delivery.correlation_id]

    def settled(self, correlation_id: str) -> bool:
        return correlation_id not in self._owed

    @property
    def owed(self) -> int:
        """How much is owed in all."""
        return sum(map(len, self._owed.values()))


def _hearers(consumers: Sequence[Consumer]) -> dict[str, list[str]]:
    hearers: dict[str, list[str]] = {}
    for consumer in consumers:
        for type in consumer.hears:
            hearers.setdefault(type, []).append(consumer.name)
    return hearers
