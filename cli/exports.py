"""What `antiphon tracer run` exports to an OpenTelemetry collector, and how: its options, and what they come to."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Generator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import typer

from antiphon.bus.names import Names
from antiphon.cli.errors import UsageError
from antiphon.cli.when import moment_ms, seconds
from antiphon.tracing.index.address import Place
from antiphon.tracing.index.database import Database
from antiphon.tracing.index.errors import NoIndexError
from antiphon.tracing.index.legend import Legend
from antiphon.tracing.index.recurring import Numbers
from antiphon.tracing.index.rows import Rows
from antiphon.tracing.otlp.deciding import Exports
from antiphon.tracing.otlp.exporting import Exporter, Noting
from antiphon.tracing.otlp.ledger import FORMS, Ledger
from antiphon.tracing.otlp.ledger_file import LedgerFile
from antiphon.tracing.otlp.tally import Tally
from antiphon.tracing.spans.making import Relation
from antiphon.tracing.spans.sampling import Sampling

Endpoint: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--otlp", help="Export to this collector; unset: to OTEL_EXPORTER_OTLP_ENDPOINT, if that is set.", metavar="URL"
    ),
]
Wire: TypeAlias = Annotated[
    str | None, typer.Option("--otlp-protocol", help="http/protobuf or grpc.", metavar="PROTOCOL")
]
Share: TypeAlias = Annotated[
    float, typer.Option("--sample", min=0, max=1, help="Export this share of the workflows.", metavar="SHARE")
]
Slow: TypeAlias = Annotated[
    str, typer.Option("--keep-slow", help="... and all that took longer; off: not for that.", metavar="TIME")
]
Costly: TypeAlias = Annotated[
    str, typer.Option("--keep-costly", help="... and all that cost more; off: not for that.", metavar="AMOUNT")
]
Unsure: TypeAlias = Annotated[
    str,
    typer.Option("--keep-unsure", help="... and all with an answer less sure; off: not for that.", metavar="SHARE"),
]
Hanging: TypeAlias = Annotated[
    Relation, typer.Option("--otlp-relation", help="How handling hangs on its event.", metavar="parent|link|both")
]
Content: TypeAlias = Annotated[
    bool, typer.Option("--otlp-content", help="Export the data of events too; what is marked stays masked.")
]
Patience: TypeAlias = Annotated[
    str, typer.Option("--otlp-after", help="Export one that goes on for longer as far as it is.", metavar="TIME")
]
Since: TypeAlias = Annotated[
    str | None,
    typer.Option("--otlp-since", help="Export what ended since; an hour before the first export.", metavar="WHEN"),
]

if TYPE_CHECKING:
    from antiphon.tracing.otlp.measuring import Measuring

_BESIDE = "_exported"
"""What is behind the name of a shared index's schema in that of what says what was exported."""
_OFF = "off"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_KNOWN = ("http/protobuf", "grpc")
_PACKAGE = "opentelemetry.exporter"


class Target(NamedTuple):
    """Where to export to."""

    endpoint: str | None
    """None: as the environment says."""
    protocol: str
    metrics_s: float | None = 60.0
    """How often metrics go there; None: never."""


def target(endpoint: str | None, protocol: str | None, environ: Mapping[str, str] = os.environ) -> Target | None:
    """Say where to export to; None where nobody asked for it."""
    said = next((environ[name] for name in _ENDPOINTS if environ.get(name)), None)
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or (endpoint or said) is None:
        return None
    if endpoint is not None and (urlsplit(endpoint).scheme not in {"http", "https"} or not urlsplit(endpoint).netloc):
        raise UsageError(
            f"expected --otlp to be the address of a collector, got {endpoint!r}",
            "try: --otlp http://127.0.0.1:4318",
            "     --otlp http://127.0.0.1:4317 --otlp-protocol grpc",
        )
    name, wire = next(
        ((name, environ[name]) for name in _PROTOCOLS if environ.get(name)), ("--otlp-protocol", _KNOWN[0])
    )
    if protocol is not None:
        name, wire = "--otlp-protocol", protocol
    if wire not in _KNOWN:
        raise UsageError(f"expected {name} to be {' or '.join(_KNOWN)}, got {wire!r}")
    if find_spec("opentelemetry") is None or find_spec(_PACKAGE) is None:
        raise UsageError("the OpenTelemetry exporters are not installed", "pip install 'antiphon[otlp]'")
    return Target(endpoint, wire, _metrics_s(environ))


def _metrics_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("OTEL_METRICS_EXPORTER") == "none":
        return None
    every = environ.get(_INTERVAL) or "60000"
    if not every.isdecimal() or not int(every):
        raise UsageError(f"expected {_INTERVAL} to be milliseconds, got {every!r}", f"try: {_INTERVAL}=60000")
    return int(every) / 1_000


def exports(
    *,
    share: float,
    slow: str,
    costly: str,
    unsure: str,
    relation: Relation,
    content: bool,
    patience: str,
    since: str | None,
) -> Exports:
    """Read what is to be exported from what was typed."""
    return Exports(
        sampling=Sampling(
            share=share,
            slow_s=None if slow == _OFF else seconds(slow, option="--keep-slow"),
            costly=_amount(costly, option="--keep-costly"),
            unsure=_amount(unsure, option="--keep-unsure"),
        ),
        relation=relation,
        content=content,
        patience_s=seconds(patience, option="--otlp-after"),
        since_us=None if since is None else moment_ms(since, option="--otlp-since") * 1_000,
    )


def _amount(text: str, *, option: str) -> float | None:
    if text == _OFF:
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"expected {option} to be a number or {_OFF!r}, got {text!r}", f"try: {option} 0.5") from None


def ledger_of(index: Path) -> Path:
    """Return where it stands what of an *index* in a file was exported."""
    return index.with_name(index.name + ".exported")


def opened_ledger(index: Place) -> Ledger:
    """Open what says what of *index* was exported, and has still to be; it is made where it is not there."""
    if isinstance(index, Path):
        return Ledger(LedgerFile(ledger_of(index)))
    from antiphon.tracing.index.postgres import Postgres  # noqa: PLC0415 - an extra

    return Ledger(Postgres(index, writes=True, beside=_BESIDE, forms=FORMS))


def _is_exported(index: Place) -> bool:
    if isinstance(index, Path):
        return ledger_of(index).exists()
    from antiphon.tracing.index.postgres import Postgres  # noqa: PLC0415 - an extra

    try:
        Postgres(index, writes=False, beside=_BESIDE, forms=FORMS).close()
    except NoIndexError:
        return False
    return True


@contextlib.contextmanager
def noting(index: Place) -> Generator[Noting | None]:
    """Give what notes what is read into *index*, if somebody exports it: it may not have been sent."""
    if not _is_exported(index):
        yield None
        return
    with contextlib.closing(opened_ledger(index)) as ledger:
        yield Noting(ledger)


class Exporting:
    """What a tracer has beside it: hears what it reads, and sends it."""

    def __init__(self, exporter: Exporter, tally: Tally, measuring: Measuring | None) -> None:
        self.exporter = exporter
        self._tally = tally
        self._measuring = measuring

    def writing(self, rows: Rows) -> None:
        self.exporter.writing(rows)

    def written(self, rows: Rows) -> None:
        if self._measuring is not None:
            self._tally.take(rows)

    async def run(self) -> None:
        """Send until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.exporter.run())
            if self._measuring is not None:
                tasks.create_task(self._measuring.run())


@contextlib.contextmanager
def exporting(
    wanted: Target,
    what: Exports,
    *,
    index: Place,
    names: Names,
    numbers: Numbers,
    database: Database,
    heard: Callable[[], int],
) -> Generator[Exporting]:
    """Give what exports beside the tracer that writes *index*. *heard*: by when that knows who hears what."""
    # An extra, and half a second of start-up.
    from antiphon.tracing.otlp.measuring import Measuring  # noqa: PLC0415
    from antiphon.tracing.otlp.sending import OtlpMeter, OtlpSender, Protocol  # noqa: PLC0415

    endpoint, protocol = wanted.endpoint, Protocol(wanted.protocol)
    with contextlib.ExitStack() as opened:
        ledger = opened.enter_context(contextlib.closing(opened_ledger(index)))
        sender = opened.enter_context(contextlib.closing(OtlpSender(endpoint, protocol, namespace=names.namespace)))
        exporter = Exporter(index, ledger, sender, names=names, exports=what, heard=heard)
        tally = Tally(Legend(numbers, database), names)
        measuring = None
        if wanted.metrics_s is not None:
            meter = opened.enter_context(contextlib.closing(OtlpMeter(endpoint, protocol)))
            measuring = Measuring(tally, index, meter, namespace=names.namespace, every_s=wanted.metrics_s)
        yield Exporting(exporter, tally, measuring)
