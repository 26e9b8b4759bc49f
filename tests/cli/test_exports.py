"""What `antiphon tracer run` exports, and where to: by what was typed, and by what OpenTelemetry's variables say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from antiphon.cli.commands.tracer import until_cancelled
from antiphon.cli.errors import UsageError
from antiphon.cli.exports import Target, exports, target
from antiphon.tracing.otlp.deciding import Exports
from antiphon.tracing.spans.making import Relation
from antiphon.tracing.spans.sampling import Sampling

URL = "http://127.0.0.1:4318"


@pytest.mark.parametrize(
    ("endpoint", "protocol", "environ", "where"),
    [
        (None, None, {}, None),
        (URL, None, {}, Target(URL, "http/protobuf")),
        (URL, "grpc", {}, Target(URL, "grpc")),
        (None, None, {"OTEL_EXPORTER_OTLP_ENDPOINT": URL}, Target(None, "http/protobuf")),
        (
            None,
            None,
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": URL, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            Target(None, "grpc"),
        ),
        (URL, "http/protobuf", {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, Target(URL, "http/protobuf")),
        (URL, None, {"OTEL_SDK_DISABLED": "true"}, None),
        (URL, None, {"OTEL_METRIC_EXPORT_INTERVAL": "1500"}, Target(URL, "http/protobuf", 1.5)),
        (
            URL,
            None,
            {"OTEL_METRICS_EXPORTER": "none", "OTEL_METRIC_EXPORT_INTERVAL": "1m"},
            Target(URL, "http/protobuf", None),
        ),
    ],
)
def test_where_to(endpoint: str | None, protocol: str | None, environ: dict[str, str], where: Target | None) -> None:
    """What was typed comes first; nothing is exported where nobody asked for it."""
    assert target(endpoint, protocol, environ) == where


@pytest.mark.parametrize(
    ("endpoint", "protocol", "environ", "problem"),
    [
        ("collector:4318", None, {}, "expected --otlp to be the address of a collector, got 'collector:4318'"),
        (URL, "http/json", {}, "expected --otlp-protocol to be http/protobuf or grpc, got 'http/json'"),
        (
            URL,
            None,
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            "expected OTEL_EXPORTER_OTLP_PROTOCOL to be http/protobuf or grpc, got 'http/json'",
        ),
        (
            URL,
            None,
            {"OTEL_METRIC_EXPORT_INTERVAL": "1m"},
            "expected OTEL_METRIC_EXPORT_INTERVAL to be milliseconds, got '1m'",
        ),
        (
            URL,
            None,
            {"OTEL_METRIC_EXPORT_INTERVAL": "0"},
            "expected OTEL_METRIC_EXPORT_INTERVAL to be milliseconds, got '0'",
        ),
    ],
)
def test_what_nobody_can_export_to(endpoint: str, protocol: str | None, environ: dict[str, str], problem: str) -> None:
    """It says what was expected, what came, and from where."""
    with pytest.raises(UsageError) as found:
        target(endpoint, protocol, environ)
    assert found.value.problem == problem


def typed(**told: str) -> Exports:
    """What comes of the defaults, and of what is typed otherwise."""
    words = {"slow": "60s", "costly": "1", "unsure": "0.5", "patience": "10m", **told}
    return exports(share=0.1, relation=Relation.BOTH, content=False, since=None, **words)


def test_what_is_exported() -> None:
    """Thresholds are read as people type them; `off` is none."""
    assert typed() == Exports(sampling=Sampling(share=0.1))
    assert typed(slow="off", costly="off", unsure="off", patience="90s") == Exports(
        sampling=Sampling(share=0.1, slow_s=None, costly=None, unsure=None), patience_s=90.0
    )
    with pytest.raises(UsageError, match="expected --keep-costly to be a number or 'off', got 'dear'"):
        typed(costly="dear")


class _Part:
    """Of a tracer: goes on until it is cancelled, or cannot."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.running = False

    async def run(self) -> None:
        self.running = True
        try:
            if self.error is not None:
                raise self.error
            await asyncio.Event().wait()
        finally:
            self.running = False


@pytest.mark.parametrize("which", [0, 1])
async def test_where_reading_or_exporting_cannot_go_on_both_end(which: int) -> None:
    """What ended it is raised, for a supervisor to see; half a tracer would go unheard."""
    parts: list[Any] = [_Part(), _Part()]
    parts[which] = _Part(OSError("no space left"))
    async with asyncio.timeout(10):
        with pytest.raises(OSError, match="no space left"):
            await until_cancelled(*parts)
    assert not any(part.running for part in parts)
