"""Durable state of an agent: a mapping per key, kept on the compacted topic `<agent>.state`.

A key's mapping is one record, JSON, on the partition of the events that share
the key. It is written in the transaction of the delivery that changed it, so
state and offsets never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from antiphon.bus.errors import PermanentError
from antiphon.bus.port import Bus
from antiphon.bus.record import Outgoing

REMEMBERED = "antiphon.once"
"""Reserved part of a mapping: results of side effects, by event id and name."""


class StateNotJsonError(PermanentError):
    """A handler put something into its state that JSON cannot say."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(
            f"expected state of JSON's types (str keys; str, int, float, bool, None, list, dict) under {key!r}: {problem}. "
            "Store text or numbers instead, for example model.model_dump(mode='json')."
        )


class PartitionState:
    """The state of one partition's keys, as of the last finished delivery."""

    def __init__(self, topic: str, partition: int, values: dict[str, bytes] | None = None) -> None:
        self._topic = topic
        self._partition = partition
        self._values = values if values is not None else {}

    def view(self) -> StateView:
        """Return one delivery's own view; nothing is shared until it is `stored`."""
        return StateView(self._values)

    def load(self, key: str) -> dict[str, Any]:
        """Return a copy of what stands under *key*."""
        value = self._values.get(key)
        return {} if value is None else orjson.loads(value)

    def without_remembered(
        self, changed: Mapping[str, bytes | None], key: str, event_id: str
    ) -> Mapping[str, bytes | None]:
        """Return *changed* without what side effects of *event_id* left under *key*: its delivery is over."""
        value = changed[key] if key in changed else self._values.get(key)
        if value is None or REMEMBERED.encode() not in value:
            return changed
        mapping = orjson.loads(value)
        by_event = mapping.get(REMEMBERED, {})
        by_event.pop(event_id, None)
        if not by_event:
            mapping.pop(REMEMBERED, None)
        return {**changed, key: dump(key, mapping)}

    def store(self, changed: Mapping[str, bytes | None]) -> list[Outgoing]:
        """Take over *changed* (None: forget the key) and return the records that make it durable."""
        for key, value in changed.items():
            if value is None:
                self._values.pop(key, None)
            else:
                self._values[key] = value
        return [
            Outgoing(self._topic, key.encode(), value, [], partition=self._partition) for key, value in changed.items()
        ]


class StateView:
    """What one delivery sees and changes. Implements `delivery.State`."""

    __slots__ = ("_mappings", "_values")

    def __init__(self, values: Mapping[str, bytes]) -> None:
        self._values = values
        self._mappings: dict[str, dict[str, Any]] | None = None

    def mapping(self, key: str) -> dict[str, Any]:
        if self._mappings is None:
            self._mappings = {}
        mapping = self._mappings.get(key)
        if mapping is None:
            value = self._values.get(key)
            mapping = self._mappings[key] = {} if value is None else orjson.loads(value)
        return mapping

    def changed(self) -> dict[str, bytes | None]:
        """Return the keys whose mappings differ now, nested changes included; None for emptied ones.

        Raises `StateNotJsonError`.
        """
        if not self._mappings:
            return {}
        found: dict[str, bytes | None] = {}
        for key, mapping in self._mappings.items():
            value = _dump(key, mapping) if mapping else None
            if value != self._values.get(key):
                found[key] = value
        return found


def _dump(key: str, mapping: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(mapping)
    except TypeError as error:
        raise StateNotJsonError(key, str(error)) from None


def dump(key: str, mapping: Mapping[str, Any]) -> bytes | None:
    """Return *mapping* as it stands in a record; None for an empty one. Raises `StateNotJsonError`."""
    return _dump(key, mapping) if mapping else None


async def restore(bus: Bus, topic: str, partitions: Iterable[int]) -> dict[int, dict[str, bytes]]:
    """Read the state of *partitions* from its topic: the newest value of each key."""
    wanted = set(partitions)
    # All that was written, not what is committed: the previous owner's last
    # transaction may still be getting its markers although its offsets have
    # theirs, and its state must not be missed.
    bounds = {tp: ends for tp, ends in (await bus.bounds([topic], committed=False)).items() if tp.partition in wanted}
    start = {tp: first for tp, (first, end) in bounds.items() if first < end}
    stop = {tp: bounds[tp][1] for tp in start}
    values: dict[int, dict[str, bytes]] = {partition: {} for partition in wanted}
    if start:
        async for record in bus.read(start, stop):
            if record.key is None:
                continue
            key = record.key.decode()
            if record.value is None:
                values[record.partition].pop(key, None)
            else:
                values[record.partition][key] = record.value
    return values
