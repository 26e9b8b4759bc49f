"""Durable state of an agent: a mapping per key, kept on the compacted topic `<agent>.state`.

A key's mapping is one record, JSON, on the partition of the events that share
the key. It is written in the transaction of the delivery that changed it, so
state and offsets never disagree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, cast

import orjson

from antiphon.bus.errors import PermanentError
from antiphon.bus.record import Outgoing
from antiphon.schemas.envelope import now_us

REMEMBERED = "antiphon.once"
"""Reserved part of a mapping: results of side effects, by event id and name."""

WORKFLOW: Sequence[tuple[str, bytes | None]] = [("antiphon_keyed_by", b"workflow")]
"""Headers of a state record whose key is a workflow's id, as its event had no key of its own: such state may expire."""

CHANGED_BY = "antiphon_changed_by"
"""Header of a state record: the id of the event whose handling wrote it, so that a replay finds what stood there before."""

_NONE: Sequence[tuple[str, bytes | None]] = []
_EACH = 250
"""Bytes that a key costs beside itself and its value: objects, and places in dictionaries."""


def is_workflows(headers: Sequence[tuple[str, bytes | None]]) -> bool:
    """Say whether a state record's *headers* say that its key is a workflow's id."""
    return bool(headers) and headers[0] == WORKFLOW[0]


class StateNotJsonError(PermanentError):
    """A handler put something into its state that JSON cannot say."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(
            f"expected state of JSON's types (str keys; str, int, float, bool, None, list, dict) under {key!r}: {problem}. "
            "Store text or numbers instead, for example model.model_dump(mode='json')."
        )


class StateDamagedError(PermanentError):
    """What stands under a key is not what this agent writes there: somebody else wrote to its topic, or a record was damaged."""

    def __init__(self, key: str, problem: str) -> None:
        self.key = key
        super().__init__(
            f"expected state as this agent writes it under {key[:200]!r}, got {problem}. Write the key's record again "
            "on the agent's state topic, or delete it with an empty one; then redrive what was set aside."
        )


@dataclasses.dataclass(eq=False)
class Memory:
    """How many bytes the state of one worker's partitions takes, and may take before some of it is left on disk alone."""

    most: int = 64 * 1024 * 1024
    used: int = 0


class Cold(Protocol):
    """Where the values are that memory has no room for."""

    async def fetch(self, keys: Collection[str]) -> Mapping[str, bytes | None]:
        """Return what is committed under *keys*. Does not return where it cannot be had: the partition is given up."""
        ...

    def read(self, key: str) -> bytes | None:
        """Return it at once, while the event loop waits; raises where it cannot be had."""
        ...


class PartitionState:
    """The state of one partition's keys, as of the last finished delivery.

    All of it is in memory as long as there is room. Then what has not changed
    for longest is left to `cold`, and asked for there; what is not committed
    and written there never is.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        values: dict[str, bytes | None] | None = None,
        *,
        memory: Memory | None = None,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        self._topic = topic
        self._partition = partition
        # In the order in which they changed. None: nothing stands there, though `cold` may have something older.
        self._values = values if values is not None else {}
        self._memory = memory or Memory()
        self._clock_us = clock_us
        self._since_ms: dict[str, int] = {}  # of workflows' keys, as long as all is in memory alone
        self._written: set[str] = set()  # those in memory that are on disk as they are here
        self.cold: Cold | None = None
        self.complete = True
        """Whether what is not in memory is nowhere."""
        self.size = 0
        """Bytes in memory."""

    @property
    def partition(self) -> int:
        return self._partition

    def __len__(self) -> int:
        """How many keys are in memory."""
        return len(self._values)

    def view(self) -> StateView:
        """Return one delivery's own view; nothing is shared until it is `stored`."""
        return StateView(self)

    def load(self, key: str) -> dict[str, Any]:
        """Return a copy of what stands under *key*. Raises `StateDamagedError`."""
        value = self.value(key)
        return {} if value is None else mapping_in(key, value)

    def value(self, key: str) -> bytes | None:
        """Return what stands under *key*; from disk at once, where `fetch` was not asked before."""
        value = self._values.get(key)
        if value is None and not self.complete and key not in self._values:
            assert self.cold is not None, "what is not complete has a rest"  # noqa: S101 - for the type checker
            return self.cold.read(key)
        return value

    async def fetch(self, keys: Collection[str]) -> None:
        """See to it that what stands under *keys* is in memory. Does not return where it cannot be had."""
        if self.complete or self.cold is None:
            return
        lacking = [key for key in keys if key not in self._values]
        if not lacking:
            return
        for key, value in (await self.cold.fetch(lacking)).items():
            if key not in self._values:
                self._put(key, value)
                self._written.add(key)

    def without_remembered(
        self, changed: Mapping[str, bytes | None], key: str, event_id: str
    ) -> Mapping[str, bytes | None]:
        """Return *changed* without what side effects of *event_id* left under *key*: its delivery is over."""
        value = changed[key] if key in changed else self.value(key)
        if value is None or REMEMBERED.encode() not in value:
            return changed
        try:
            mapping = mapping_in(key, value)
        except StateDamagedError:
            return changed  # as it was: a handler that asks for it is told
        by_event = mapping.get(REMEMBERED)
        if not isinstance(by_event, dict):
            return changed
        by_event = cast("dict[str, object]", by_event)
        by_event.pop(event_id, None)
        if not by_event:
            mapping.pop(REMEMBERED, None)
        return {**changed, key: dump(key, mapping)}

    def store(
        self, changed: Mapping[str, bytes | None], *, workflow: bool = False, by: str | None = None
    ) -> list[Outgoing]:
        """Take over *changed* (None: forget the key) and return the records that make it durable.

        With *workflow* the keys are workflows' ids: what stands there may expire. *by* is the id of the event whose
        handling changed it.
        """
        for key, value in changed.items():
            self._put(key, value)
            self._written.discard(key)
            self._since_ms.pop(key, None)
            if workflow and value is not None and self.cold is None:
                self._since_ms[key] = self._clock_us() // 1_000
        headers = WORKFLOW if workflow else _NONE
        if by is not None:
            headers = [*headers, (CHANGED_BY, by.encode())]
        return [
            Outgoing(self._topic, key.encode(), value, headers, partition=self._partition)
            for key, value in changed.items()
        ]

    def restored(self, key: str, value: bytes | None, since_ms: int | None, *, written: bool = False) -> None:
        """Take over what is committed under *key*; *written*: it is on disk as well."""
        self._put(key, value)
        if written:
            self._written.add(key)
            return
        if self._written:
            self._written.discard(key)
        if self._since_ms:
            self._since_ms.pop(key, None)
        if value is not None and since_ms is not None and self.cold is None:
            self._since_ms[key] = since_ms

    def expired(self, before_ms: int, most: int) -> list[str]:
        """Return at most *most* workflows' keys that have not changed since *before_ms*, of those in memory alone."""
        found: list[str] = []
        for key in islice(self._since_ms, most):
            if self._since_ms[key] >= before_ms:
                break
            found.append(key)
        return found

    # What is on disk too.

    def hand_over(self, cold: Cold) -> list[tuple[str, bytes, int | None]]:
        """Leave to *cold* what memory will have no room for; returns all there is, with when workflows' keys changed."""
        self.cold = cold
        since_ms, self._since_ms = self._since_ms, {}
        return [(key, value, since_ms.get(key)) for key, value in self._values.items() if value is not None]

    def keep_alone(self) -> None:
        """Go on without `cold`, all being in memory."""
        self.cold = None
        self._written.clear()

    def is_settled(self, key: str) -> bool:
        """Say whether what is on disk under *key* is all there is."""
        return key not in self._values or key in self._written

    def note_written(self, written: Mapping[str, bytes | None]) -> None:
        """Take note that *written* is on disk; what has changed since is not."""
        for key, value in written.items():
            if key in self._values and self._values[key] is value:
                if value is None:
                    self._drop(key)
                else:
                    self._written.add(key)

    def evict(self, size: int, but: Collection[str] = ()) -> None:
        """Drop from memory what is on disk too, what changed longest ago first, until *size* bytes are left; not *but*."""
        leaving: list[str] = []
        left = self.size
        for key, value in self._values.items():
            if left <= size:
                break
            if key in self._written and key not in but:
                leaving.append(key)
                left -= _cost(key, value)
        for key in leaving:
            self._drop(key)
            self._written.discard(key)
            self.complete = False

    def release(self) -> None:
        """Count no longer: the partition is somebody else's. Handlers that still run may go on reading."""
        self._memory.used -= self.size
        self.size = 0

    def _put(self, key: str, value: bytes | None) -> None:
        # Taken out first, so that it comes in last.
        known = key in self._values
        cost = -_cost(key, self._values.pop(key)) if known else 0
        if value is not None or self.cold is not None:
            self._values[key] = value
            cost += _cost(key, value)
        self.size += cost
        self._memory.used += cost

    def _drop(self, key: str) -> None:
        cost = _cost(key, self._values.pop(key))
        self.size -= cost
        self._memory.used -= cost


def _cost(key: str, value: bytes | None) -> int:
    return len(key) + _EACH + (0 if value is None else len(value))


class StateView:
    """What one delivery sees and changes. Implements `delivery.State`."""

    __slots__ = ("_mappings", "_state")

    def __init__(self, state: PartitionState) -> None:
        self._state = state
        self._mappings: dict[str, tuple[dict[str, Any], bytes | None]] | None = None

    def mapping(self, key: str) -> dict[str, Any]:
        """Return what stands under *key*, to be changed in place. Raises `StateDamagedError`."""
        if self._mappings is None:
            self._mappings = {}
        seen = self._mappings.get(key)
        if seen is None:
            value = self._state.value(key)
            seen = self._mappings[key] = ({} if value is None else mapping_in(key, value), value)
        return seen[0]

    def changed(self) -> dict[str, bytes | None]:
        """Return the keys whose mappings differ from what they were, nested changes included; None for emptied ones.

        Raises `StateNotJsonError`.
        """
        if not self._mappings:
            return {}
        found: dict[str, bytes | None] = {}
        for key, (mapping, before) in self._mappings.items():
            value = _dump(key, mapping) if mapping else None
            if value != before:
                found[key] = value
        return found


def mapping_in(key: str, value: bytes) -> dict[str, Any]:
    """Read what stands under *key*; raises `StateDamagedError` where it is no JSON object."""
    try:
        mapping: object = orjson.loads(value)
    except ValueError as error:
        raise StateDamagedError(key, f"bytes that are no JSON ({error})") from None
    if not isinstance(mapping, dict):
        raise StateDamagedError(key, f"JSON that is no object but a {type(mapping).__name__}")
    return cast("dict[str, Any]", mapping)


def _dump(key: str, mapping: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(mapping)
    except TypeError as error:
        raise StateNotJsonError(key, str(error)) from None


def dump(key: str, mapping: Mapping[str, Any]) -> bytes | None:
    """Return *mapping* as it stands in a record; None for an empty one. Raises `StateNotJsonError`."""
    return _dump(key, mapping) if mapping else None
