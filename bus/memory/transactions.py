"""The transaction coordinator: who may write under a transactional id, and which transaction is open under it."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from antiphon.bus.errors import CommitError
from antiphon.bus.memory.log import PartitionLog
from antiphon.bus.record import Outgoing


@dataclasses.dataclass(eq=False)
class Open:
    """A transaction that has begun and not ended."""

    number: int
    timer: asyncio.TimerHandle
    logs: dict[PartitionLog, None] = dataclasses.field(default_factory=dict[PartitionLog, None])

    def write(self, log: PartitionLog, outgoing: Outgoing, timestamp_ms: int) -> None:
        log.append(outgoing, timestamp_ms, transaction=self.number)
        self.logs[log] = None


@dataclasses.dataclass(eq=False)
class _Producer:
    epoch: int = 0
    open: Open | None = None


class Coordinator:
    """Every transactional id of a bus. At most one transaction is open under each."""

    def __init__(self) -> None:
        self._producers: dict[str, _Producer] = {}
        self._numbers = 0

    def start(self, transactional_id: str) -> int:
        """Begin a new epoch and return it. Whoever holds an older one is fenced, its open transaction aborted."""
        producer = self._producers.setdefault(transactional_id, _Producer())
        self._end(producer, commit=False)
        producer.epoch += 1
        return producer.epoch

    def begin(self, transactional_id: str, epoch: int, timeout_s: float) -> Open:
        """Open a transaction, which is aborted after *timeout_s*; raises `CommitError` for one who is fenced."""
        producer = self._producers[transactional_id]
        if epoch != producer.epoch:
            raise CommitError("PRODUCER_FENCED")
        if producer.open is not None:
            raise CommitError("CONCURRENT_TRANSACTIONS")
        self._numbers += 1
        timer = asyncio.get_running_loop().call_later(timeout_s, self.abort, transactional_id, epoch)
        producer.open = Open(self._numbers, timer)
        return producer.open

    def commit(self, transactional_id: str, transaction: Open, besides: Callable[[], None]) -> None:
        """Make *transaction* visible and do *besides*, in one step.

        Raises `CommitError` where the transaction is over already. Where *besides* raises, it is aborted.
        """
        producer = self._producers[transactional_id]
        if producer.open is not transaction:
            raise CommitError("INVALID_PRODUCER_EPOCH")
        try:
            besides()
        except CommitError:
            self._end(producer, commit=False)
            raise
        self._end(producer, commit=True)

    def abort(self, transactional_id: str, epoch: int) -> None:
        """Make void what is open under the id; nothing happens where nothing is, or for one who is fenced."""
        producer = self._producers.get(transactional_id)
        if producer is not None and producer.epoch == epoch:
            self._end(producer, commit=False)

    def _end(self, producer: _Producer, *, commit: bool) -> None:
        transaction, producer.open = producer.open, None
        if transaction is not None:
            transaction.timer.cancel()
            for log in transaction.logs:
                log.end(transaction.number, commit=commit)
