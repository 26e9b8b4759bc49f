"""`antiphon tracer`: keep an index of all workflows up to date, or make it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import signal
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated

import typer

from antiphon.agents import interpreter
from antiphon.bus.settings import Settings
from antiphon.cli import exports, logs, output
from antiphon.cli.asking import Place, place_of, progress, settings_with
from antiphon.cli.cluster import opened
from antiphon.cli.errors import UsageError
from antiphon.cli.group import Command, Group
from antiphon.cli.options import given
from antiphon.cli.when import clock, moment_ms, seconds
from antiphon.schemas.envelope import format_time
from antiphon.tracing.document import milliseconds
from antiphon.tracing.index.address import masked
from antiphon.tracing.index.address import opened as opened_index
from antiphon.tracing.index.index import Index
from antiphon.tracing.index.writing import Writer
from antiphon.tracing.otlp.deciding import Exports
from antiphon.tracing.rebuilding import rebuilding
from antiphon.tracing.sharing import Share
from antiphon.tracing.spans.making import Relation
from antiphon.tracing.tracer import Counts, Keeping, Listener, Tracer

app = typer.Typer(
    cls=Group,
    add_completion=False,
    rich_markup_mode=None,
    help="""Keep an index of all workflows up to date, so that lists, searches and sums are there at once.

    Example:
      antiphon tracer run
    """,
)

Keep = Annotated[
    str | None, typer.Option(help="Forget workflows that ended longer ago: 30d. Without, nothing.", metavar="TIME")
]
Most = Annotated[
    str | None, typer.Option("--max-size", help="Forget the oldest when it grows beyond: 10GiB.", metavar="SIZE")
]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

log = logging.getLogger("antiphon")


@app.command(cls=Command)
def run(  # noqa: PLR0913 - each is an option
    *,
    index: Place = None,
    keep: Keep = None,
    most: Most = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Answer /livez, /readyz and /metrics there; 0: nowhere.", metavar="N"),
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="Address to answer on: 127.0.0.1, unless said otherwise.", metavar="HOST")
    ] = None,
    otlp: exports.Endpoint = None,
    otlp_protocol: exports.Wire = None,
    sample: exports.Share = 1.0,
    keep_slow: exports.Slow = "60s",
    keep_costly: exports.Costly = "1",
    keep_unsure: exports.Unsure = "0.5",
    otlp_relation: exports.Hanging = Relation.BOTH,
    otlp_content: exports.Content = False,
    otlp_after: exports.Patience = "10m",
    otlp_since: exports.Since = None,
) -> None:
    """Read the topics into the index, and keep it up to date until SIGTERM or Ctrl-C. Belongs to no group, moves nobody's offsets.

    What can pass is waited for: no broker, no registry, a full disk. Nothing is passed over meanwhile.

    With --otlp each workflow is exported as one trace when it has ended; what an endpoint does not take waits.

    Example:
      antiphon tracer run --keep 30d --max-size 10GiB --metrics-port 9465
      antiphon tracer run --otlp http://127.0.0.1:4318 --sample 0.1
    """
    logs.configure(verbose=given().verbose)
    flags = {"metrics_port": metrics_port, "metrics_host": metrics_host}
    settings = settings_with(index, {name: value for name, value in flags.items() if value is not None})
    what = exports.exports(
        share=sample,
        slow=keep_slow,
        costly=keep_costly,
        unsure=keep_unsure,
        relation=otlp_relation,
        content=otlp_content,
        patience=otlp_after,
        since=otlp_since,
    )
    asyncio.run(_run(settings, _keeping(keep, most), exports.target(otlp, otlp_protocol), what))


@app.command(cls=Command)
def rebuild(
    *,
    index: Place = None,
    keep: Keep = None,
    most: Most = None,
    since: Annotated[
        str | None, typer.Option(help="Read only what is newer: 7d, or an ISO time.", metavar="WHEN")
    ] = None,
) -> None:
    """Make the index again from the topics. The old one answers until the new one is there; stopped half-way, it goes on from there.

    Example:
      antiphon tracer rebuild --since 7d
    """
    since_ms = None if since is None else moment_ms(since, option="--since")
    asyncio.run(_rebuild(settings_with(index), _keeping(keep, most), since_ms))


@app.command(cls=Command)
def status(*, index: Place = None) -> None:
    """Show what the index holds, and how far behind it is.

    Example:
      antiphon tracer status
    """
    place = place_of(settings_with(index))
    with Index.opened(place) as found:
        extent, states, clocks = found.extent(), found.states(replays=True), found.clocks()
    if given().json:
        output.document(
            {
                "index": masked(place),
                "as_of": None if extent.as_of_us is None else format_time(extent.as_of_us),
                "behind": extent.behind,
                "cluster": extent.cluster,
                "workflows": extent.workflows,
                "states": states,
                "events": extent.events,
                "deliveries": extent.deliveries,
                "left": extent.left,
                "bytes": extent.bytes,
                "clocks": [{"producer": clock.producer, "ahead_ms": milliseconds(clock.ahead_us)} for clock in clocks],
            }
        )
        return
    counted = ", ".join(f"{count:,} {state}" for state, count in sorted(states.items()))
    rows = [
        ("index", masked(place)),
        ("of", extent.cluster or "?"),
        ("as of", "never" if extent.as_of_us is None else clock(extent.as_of_us)),
        ("behind", "?" if extent.behind is None else f"{extent.behind:,} offsets"),
        ("workflows", f"{extent.workflows:,}" + (f": {counted}" if counted else "")),
        ("events", f"{extent.events:,}"),
        ("deliveries", f"{extent.deliveries:,}"),
        ("size", f"{extent.bytes / (1 << 20):,.1f} MiB"),
    ]
    off = ", ".join(f"{one.producer} {one.ahead_us / 1_000_000:+.3f} s" for one in clocks)
    rows.append(("clocks off", off or "none that shows"))
    for line in output.columns([[output.inert(cell) for cell in row] for row in rows]):
        output.result(line)
    if extent.left:
        output.remark(f"of {extent.left:,} workflows lists do not show yet how they stand")


def _keeping(keep: str | None, most: str | None) -> Keeping:
    return Keeping(
        age_s=None if keep is None else seconds(keep, option="--keep"),
        most_bytes=None if most is None else size(most, option="--max-size"),
    )


def size(text: str, *, option: str) -> int:
    """Read a number of bytes; units are powers of 1024, with or without the i.

    >>> size("1.5G", option="--max-size"), size("10 MiB", option="--max-size")
    (1610612736, 10485760)
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"expected {option} to be a size, got {text!r}", f"try: {option} 10GiB")
    return round(float(found[1]) * _UNITS[found[2].upper()])


@contextlib.asynccontextmanager
async def _tracer(
    settings: Settings,
    writer: Writer,
    keeping: Keeping,
    since_ms: int | None = None,
    *,
    shared: bool = False,
    listener: Listener | None = None,
) -> AsyncGenerator[Tracer]:
    async with opened() as cluster, contextlib.AsyncExitStack() as leaving:
        share = None
        if shared:
            share = Share(cluster.bus, cluster.names, index=writer.identity(), instance=settings.instance)
            leaving.push_async_callback(share.leave)
        yield Tracer(
            cluster.bus,
            cluster.names,
            cluster.codec(),
            writer,
            claims=cluster.claims,
            keeping=keeping,
            since_ms=since_ms,
            cluster=settings.bootstrap_servers,
            share=share,
            listener=listener,
        )


async def _run(settings: Settings, keeping: Keeping, target: exports.Target | None, what: Exports) -> None:
    place = place_of(settings)
    if keeping.most_bytes is not None and not isinstance(place, Path):
        raise UsageError(
            "expected --max-size with a file alone: what a database takes is its own business", "try: --keep 30d"
        )
    database = opened_index(place, writes=True)
    try:
        writer, counts = Writer(database), Counts()
        async with contextlib.AsyncExitStack() as beside:
            exporting: exports.Exporting | None = None
            listener: Listener | None = None
            if target is None and database.shared:
                # Another of those that share the index may export what this one reads.
                listener = beside.enter_context(exports.noting(place))
            elif target is not None:
                exporting = listener = beside.enter_context(
                    exports.exporting(
                        target,
                        what,
                        index=place,
                        names=settings.names,
                        numbers=writer.numbers,
                        database=database,
                        heard=lambda: counts.heard_us if counts.as_of_us else 0,
                    )
                )
            tracer = await beside.enter_async_context(
                _tracer(settings, writer, keeping, shared=database.shared, listener=listener)
            )
            counts = tracer.counts
            if settings.metrics_port:
                from antiphon.cli.watching import Watching  # noqa: PLC0415 - 0.1 s, for those only who ask for it

                host, port = settings.metrics_host, settings.metrics_port
                exported = None if exporting is None else exporting.exporter.counts
                await beside.enter_async_context(
                    Watching(tracer.counts, place, host=host, port=port, exported=exported)
                )
            log.info("reading", extra={"index": masked(place), "broker": settings.bootstrap_servers})
            await beside.enter_async_context(interpreter.settled())
            running = asyncio.create_task(until_cancelled(tracer, exporting))
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, running.cancel)
            with contextlib.suppress(asyncio.CancelledError):
                await running
            log.info("stopped", extra={"events": tracer.counts.events})
    finally:
        database.close()


async def until_cancelled(tracer: Tracer, exporting: exports.Exporting | None) -> None:
    """Read and export; where either cannot go on, both end, and it says why."""
    tasks = [asyncio.create_task(tracer.run())]
    if exporting is not None:
        tasks.append(asyncio.create_task(exporting.run()))
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _rebuild(settings: Settings, keeping: Keeping, since_ms: int | None) -> None:
    place = place_of(settings)
    interpreter.settle()
    with rebuilding(place) as database, exports.noting(place) as listener:
        async with _tracer(settings, Writer(database), keeping, since_ms, listener=listener) as tracer:
            with progress("reading") as show:
                await tracer.catch_up(show)
    counts = tracer.counts
    output.result(f"{masked(place)}: {counts.events:,} events, {counts.deliveries:,} deliveries read")
