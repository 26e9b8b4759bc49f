"""`antiphon publish`: events from the command line, a file, or stdin."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from antiphon.bus.mesh import Mesh
from antiphon.bus.publisher import Published
from antiphon.cli import output
from antiphon.cli.cluster import opened
from antiphon.cli.data import Item, fit, items
from antiphon.cli.errors import UsageError
from antiphon.cli.money import amount
from antiphon.cli.options import given
from antiphon.cli.types import class_of
from antiphon.schemas.codec import to_json
from antiphon.schemas.event import Event, envelope_of

_BATCH = 500
_PROGRESS_EVERY_S = 2.0


@dataclasses.dataclass(frozen=True)
class Order:
    """What was asked for."""

    type: str
    correlation_id: str | None
    key: str | None
    id: str | None
    wait: str | None
    timeout_s: float
    rate: float | None
    budget: str | None


def publish(  # noqa: PLR0913 - each is an option
    type: Annotated[str, typer.Argument(metavar="TYPE", help="Event type, for example ticket.opened.")],
    source: Annotated[str | None, typer.Argument(metavar="-", help="`-` reads JSON lines from stdin.")] = None,
    *,
    data: Annotated[str | None, typer.Option(help="The event's data.", metavar="JSON")] = None,
    file: Annotated[str | None, typer.Option(help="One JSON object a line; `-` is stdin.", metavar="F.jsonl")] = None,
    correlation_id: Annotated[
        str | None, typer.Option("--correlation-id", help="Join this workflow.", metavar="ID")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The record's key.", metavar="KEY")] = None,
    id: Annotated[
        str | None, typer.Option(help="The event's id; publishing again is then known as the same.", metavar="ID")
    ] = None,
    wait: Annotated[
        str | None, typer.Option(help="Wait until this type comes in the workflow, and print it.", metavar="TYPE")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to wait.", metavar="S")] = 30.0,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events a second, at most.", metavar="N")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="What agents may spend on the way to any event of it: '1.50 USD'.", metavar="AMOUNT"),
    ] = None,
) -> None:
    """Publish events; each starts a workflow unless --correlation-id says otherwise.

    The type's schema comes from the mesh, so no module is needed.

    Example:
      antiphon publish ticket.opened --data '{"ticket_id": "7", "body": "refund?"}'
      antiphon publish ticket.opened --file tickets.jsonl --rate 100
      antiphon publish ticket.opened --data '{"ticket_id": "8", "body": "hello"}' --wait ticket.triaged
    """
    if source is not None and (source != "-" or file is not None):
        raise UsageError(f"expected `-`, --data or --file, got {source!r}", "try: antiphon publish TYPE --data JSON")
    if id is not None and data is None:
        raise UsageError("expected --id with --data, got it with a file", "an id names one event: leave it out")
    found = items(data, "-" if source else file)
    order = Order(type, correlation_id, key, id, wait, timeout, rate, None if budget is None else amount(budget))
    if wait is not None and (correlation_id or key or id or budget):
        raise UsageError(
            "expected --wait alone, got it with --correlation-id, --key, --id or --budget",
            "--wait starts a workflow of its own; use antiphon tail --workflow ID for another",
        )
    asyncio.run(_publish(order, found))


async def _publish(order: Order, found: Iterator[Item]) -> None:
    async with opened() as cluster:
        event_class = await class_of(cluster, order.type)
        until = await class_of(cluster, order.wait) if order.wait else None
        async with Mesh(cluster.bus, settings=cluster.settings, store=cluster.store, source="/cli/publish") as mesh:
            if until is None:
                await _publish_all(mesh, order, event_class, found)
            else:
                for item in found:
                    await _ask(mesh, fit(event_class, item), until, order.timeout_s)


async def _publish_all(mesh: Mesh, order: Order, event_class: type[Event], found: Iterator[Item]) -> None:
    pace = _Pace(order.rate)
    batch: list[Event] = []
    done = 0
    try:
        for item in found:
            batch.append(fit(event_class, item))
            if len(batch) >= pace.batch:
                done += await _send(mesh, order, batch)
                pace.remark(done)
                await pace.wait(done)
                batch = []
    finally:
        # A line that does not fit ends the command; those before it are published all the same.
        if batch:
            await _send(mesh, order, batch)


async def _send(mesh: Mesh, order: Order, batch: list[Event]) -> int:
    for published in await mesh.publish_all(
        batch, correlation_id=order.correlation_id, key=order.key, id=order.id, budget=order.budget
    ):
        _show(published)
    return len(batch)


class _Pace:
    """How many events go at once, how fast, and when to say how far it has come."""

    def __init__(self, rate: float | None) -> None:
        self.batch = _BATCH if rate is None else max(1, min(_BATCH, int(rate / 10)))
        self._rate = rate
        self._started = self._remarked = time.monotonic()

    async def wait(self, done: int) -> None:
        if self._rate is not None:
            await asyncio.sleep(max(0.0, self._started + done / self._rate - time.monotonic()))

    def remark(self, done: int) -> None:
        now = time.monotonic()
        # Events that scroll by say enough of themselves.
        if now - self._remarked >= _PROGRESS_EVERY_S and not sys.stdout.isatty():
            self._remarked = now
            output.remark(f"{done} published, {done / (now - self._started):.0f}/s")


def _show(published: Published) -> None:
    if given().json:
        output.line(dataclasses.asdict(published))
        return
    where = f"{published.topic}[{published.partition}]@{published.offset}"
    workflow = "" if published.correlation_id == published.id else f"  in workflow {published.correlation_id}"
    output.result(f"{published.id}  {published.type}  {where}{workflow}")


async def _ask(mesh: Mesh, event: Event, until: type[Event], timeout_s: float) -> None:
    answer = await mesh.request(event, until, timeout=timeout_s)
    envelope = envelope_of(answer)
    data = to_json(answer)
    if given().json:
        output.line(
            {
                "id": envelope.id,
                "type": envelope.type,
                "correlation_id": envelope.correlation_id,
                "parent_id": envelope.parent_id,
                "data": data,
            }
        )
    else:
        output.result(f"{envelope.id}  {envelope.type}  {output.compact(data)}")
