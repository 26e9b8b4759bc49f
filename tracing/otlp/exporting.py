"""Exporting workflows as they end: what is due, what of it is kept, and what becomes of an endpoint that takes nothing.

A workflow is sent when nothing of it is outstanding any more, or, of one that
goes on for long, as far as it has come; the span that is the whole of it comes
last, when it has ended, as a span that was sent cannot be changed. What comes
after that adds spans, and the whole stays as it was told.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from antiphon.bus.names import Names
from antiphon.schemas.envelope import now_us
from antiphon.tracing.index.address import Place
from antiphon.tracing.index.errors import IndexFileError
from antiphon.tracing.index.index import Index
from antiphon.tracing.index.keys import id_of, key_of
from antiphon.tracing.index.rows import Rows
from antiphon.tracing.otlp.deciding import Act, Decision, Exports, decide
from antiphon.tracing.otlp.ledger import Ledger, Waiting
from antiphon.tracing.otlp.parcels import Parcel, requests
from antiphon.tracing.spans.making import root_id, spans_of
from antiphon.tracing.spans.sampling import Reason
from antiphon.tracing.spans.span import Span

log = logging.getLogger(__name__)

SETTLING_US = 5_000_000
"""A worker that has just started tells within that of itself, and so of what it will have to do."""
BACK_US = 3_600_000_000
"""What ended longer before the first export is not sent, unless asked for."""
_WORKFLOWS = 64
_IDLE_S = 0.5
_HOLD_S, _LONGEST_S = 1.0, 60.0
_TRIES = 5
_FORGOTTEN_AT_ONCE = 500
_TEND_S = 60.0
_COUNT_S = 5.0


class Taken(NamedTuple):
    """What came of a request."""

    ok: bool
    reason: str = ""
    """Why not, for a person."""


class Sender(Protocol):
    """Where spans go. `send` blocks, and is called in a thread, by one at a time; `close` ends one that waits."""

    def send(self, spans: Sequence[Span]) -> Taken: ...

    def close(self) -> None: ...


@dataclasses.dataclass
class Exported:
    """What an exporter has done since it began."""

    spans: int = 0
    requests: int = 0
    failures: int = 0
    """Requests that were not taken."""
    workflows: Counter[Reason] = dataclasses.field(default_factory=Counter[Reason])
    """Sent to their end, by why they were kept."""
    left_out: int = 0
    """Not kept, by the share that is."""
    dropped: int = 0
    """Given up: refused again and again while others were taken, or forgotten by the index before they could be sent."""
    waiting: int = 0
    """Workflows of which something may still have to be sent, as of the last look."""
    up: bool = True
    """The last request was taken."""


class Noting:
    """Listens to one that reads, and notes in a ledger which workflows may have to be sent; sends nothing."""

    def __init__(self, ledger: Ledger, *, clock: Callable[[], int] = now_us) -> None:
        self._ledger = ledger
        self._clock = clock

    def writing(self, rows: Rows) -> None:
        """Note that something of some workflows is about to be in the index. Raises `IndexFileError`."""
        now = self._clock()
        self._ledger.touch(rows.touched(), now_us=now, look_us=now + SETTLING_US)

    def written(self, rows: Rows) -> None:
        """It is in the index."""


class Exporter(Noting):
    """Sends what a tracer has read. Listens to one that reads; `run` sends until cancelled."""

    def __init__(
        self,
        place: Place,
        ledger: Ledger,
        sender: Sender,
        *,
        names: Names,
        exports: Exports,
        clock: Callable[[], int] = now_us,
        heard: Callable[[], int] = now_us,
    ) -> None:
        """*place*: the index that *ledger* goes with. *heard*: by when the tracer knows who hears what; 0: it has not caught up."""
        super().__init__(ledger, clock=clock)
        self.counts = Exported()
        self._place = place
        self._sender = sender
        self._names = names
        first = int(ledger.note("since_us", str(clock() - BACK_US)))
        self._exports = dataclasses.replace(exports, since_us=first if exports.since_us is None else exports.since_us)
        self._heard = heard
        self._hold_s = _HOLD_S
        self._taken_us = 0
        self._swept = b""
        self._interrupted: str | None = None

    async def run(self) -> None:
        """Send what is due until cancelled. An endpoint that is away or refuses is asked again, less and less often."""
        tended_us = counted_us = 0
        while True:
            moved, error = False, None
            try:
                moved = await self.send_due()
                if self._heard() and self._ledger.alone() and self._clock() - tended_us > _TEND_S * 1_000_000:
                    self._sweep()
                    tended_us = self._clock()
                if self._clock() - counted_us > _COUNT_S * 1_000_000:
                    self.counts.waiting, counted_us = self._ledger.waiting(), self._clock()
            except Exception as exception:
                # Whatever it is: the tracer reads on, and what waits is in the ledger.
                error = exception
                await asyncio.sleep(_HOLD_S)
            # After the hold: where this is stopped meanwhile that was why, and is no news.
            self._tell_interruption(error)
            if not self.counts.up:
                await asyncio.sleep(self._hold_s)
                self._hold_s = min(self._hold_s * 2, _LONGEST_S)
            elif not moved:
                await asyncio.sleep(_IDLE_S)

    async def send_due(self) -> bool:
        """Send what is due, a few workflows; say whether there were any."""
        if not self._heard() or not self._ledger.alone():
            return False
        some = self._ledger.due(now_us=self._clock(), at_most=_WORKFLOWS, probing=not self.counts.up)
        if not some:
            return False
        with Index.opened(self._place) as index:
            # One request after the other, so that no more is in memory than one, and the workflow that comes next.
            for parcels in requests(self._parcels(index, some)):
                if not await _to_its_end(self._send(parcels)):
                    break
        return True

    # -- what is to be sent -------------------------------------------------

    def _parcels(self, index: Index, some: Sequence[Waiting]) -> Iterator[Parcel]:
        now = self._clock()
        outlooks = index.outlooks([one.workflow for one in some])
        looks: dict[bytes, int] = {}
        left_out: list[Waiting] = []
        sending: dict[bytes, tuple[Waiting, Decision]] = {}
        for one in some:
            if one.workflow not in outlooks:
                # It is not there yet, or not any more.
                if now - one.touched_us < round(self._exports.patience_s * 1_000_000):
                    looks[one.workflow] = now + SETTLING_US * 10
                else:
                    self.counts.dropped += 1
                    left_out.append(one)
                continue
            decision = decide(
                id_of(one.workflow), one, outlooks[one.workflow], self._exports, now_us=now, heard_us=self._heard()
            )
            match decision.act:
                case Act.LOOK_AGAIN:
                    looks[one.workflow] = decision.look_us
                case Act.LEAVE_OUT:
                    self.counts.left_out += 1
                    left_out.append(one)
                case Act.SEND:
                    sending[one.workflow] = one, decision
        self._ledger.put_off(looks)
        self._ledger.done(left_out)
        for workflow in index.stitched(sending, at_us=now):
            one, decision = sending[key_of(workflow.correlation_id)]
            sent = self._ledger.sent(one.workflow)
            # It may have come further since it was decided about.
            whole = decision.whole and workflow.ended
            held = frozenset[str]() if whole else {root_id(workflow.correlation_id)}
            found = spans_of(
                workflow, names=self._names, relation=self._exports.relation, content=self._exports.content
            )
            fresh = [span for span in found if span.id not in sent and span.id not in held]
            yield Parcel(one, decision._replace(whole=whole), fresh)

    # -- sending ------------------------------------------------------------

    async def _send(self, parcels: Sequence[Parcel]) -> bool:
        spans = [span for parcel in parcels for span in parcel.spans]
        taken = await asyncio.to_thread(self._sender.send, spans) if spans else Taken(ok=True)
        now = self._clock()
        if spans:
            self._tell(taken)
        if not taken.ok:
            refused = [parcel.waiting.workflow for parcel in parcels]
            self._ledger.refused(refused, now_us=now, look_us=now + round(_HOLD_S * 1_000_000))
            for parcel in parcels:
                self._give_up(parcel.waiting, taken)
            return False
        if spans:
            self._taken_us = now
            self.counts.spans += len(spans)
            taken_of: defaultdict[bytes, list[str]] = defaultdict(list)
            for parcel in parcels:
                if parcel.spans:
                    taken_of[parcel.waiting.workflow] += [span.id for span in parcel.spans]
            self._ledger.taken(taken_of)
        self._settle([parcel for parcel in parcels if parcel.decision.act is Act.SEND], now)
        return True

    def _settle(self, parcels: Sequence[Parcel], now: int) -> None:
        """Note of workflows of which all there is was sent what they wait for now."""
        whole = [parcel for parcel in parcels if parcel.decision.whole]
        self._ledger.done([parcel.waiting for parcel in whole])
        self.counts.workflows.update(p.decision.reason for p in whole if p.decision.reason is not None and p.spans)
        going_on = [parcel.waiting.workflow for parcel in parcels if not parcel.decision.whole]
        look_us = now + round(self._exports.patience_s * 1_000_000)
        self._ledger.goes_on(going_on, now_us=now, look_us=look_us)

    def _give_up(self, waiting: Waiting, taken: Taken) -> None:
        """Leave out what was refused again and again while others were taken: it would be refused for ever."""
        if waiting.tries + 1 < _TRIES or not waiting.failed_us < self._taken_us:
            return
        self.counts.dropped += 1
        self._ledger.done([waiting])
        told = {"correlation_id": id_of(waiting.workflow), "reason": taken.reason}
        log.error("a workflow is not exported: the endpoint refuses it, and takes others", extra=told)

    def _tell(self, taken: Taken) -> None:
        """Count, and say once that the endpoint takes nothing, and once that it does again."""
        was_up, self.counts.up = self.counts.up, taken.ok
        self.counts.requests += 1
        if taken.ok:
            self._hold_s = _HOLD_S
            if not was_up:
                log.info("exporting goes on")
            return
        self.counts.failures += 1
        if was_up:
            told = {"reason": taken.reason}
            log.warning("the endpoint takes nothing; what is due waits, and is sent later", extra=told)

    def _tell_interruption(self, error: Exception | None) -> None:
        """Say why exporting stands still, each reason once until it goes on; of what nobody expects, where it was raised."""
        reason = None if error is None else str(error) or repr(error)
        if reason is not None and reason != self._interrupted:
            unexpected = None if isinstance(error, IndexFileError) else error
            log.error(
                "exporting is interrupted, and goes on where it was", exc_info=unexpected, extra={"reason": reason}
            )
        self._interrupted = reason

    def _sweep(self) -> None:
        """Forget what was sent of workflows that the index has forgotten, some at a time."""
        some = self._ledger.remembered(self._swept, at_most=_FORGOTTEN_AT_ONCE)
        self._swept = some[-1] if some else b""
        with Index.opened(self._place) as index:
            known = index.outlooks(some)
        self._ledger.forget(one for one in some if one not in known)


async def _to_its_end(act: Coroutine[Any, Any, bool]) -> bool:
    """Do *act* to its end also where this is cancelled meanwhile: what was taken has to be written down."""
    doing = asyncio.create_task(act)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        if not doing.cancelled():
            doing.exception()  # What went wrong at the end is sent again when this begins again, and is no news.
        raise
