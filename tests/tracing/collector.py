"""A collector that is not ours: it listens for OTLP over HTTP or gRPC, and reads what comes by OTLP's own definitions."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from concurrent import futures
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1 import trace_pb2

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


class Collector:
    """Keeps the bytes of what is sent to it, and counts what it refuses: by HTTP it says *status*."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.got: list[tuple[str, bytes, dict[str, str]]] = []
        self.status = 200
        self.refused = 0
        self.answers = threading.Event()
        self.answers.set()

    def spans(self, first: int = 0) -> Iterator[tuple[dict[str, Any], trace_pb2.Span]]:
        """Yield each span with its resource's attributes, from the request numbered *first* on."""
        for path, body, _ in self.got[first:]:
            if path.endswith(("/v1/traces", "TraceService/Export")):
                for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    assert [scope.scope.name for scope in of_resource.scope_spans] == ["antiphon"]
                    for scope in of_resource.scope_spans:
                        for span in scope.spans:
                            yield plain(of_resource.resource.attributes), span


def plain(attributes: Any) -> dict[str, Any]:
    """The attributes of a span or a resource, as Python has them."""
    return {one.key: value(one.value) for one in attributes}


def value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    found = getattr(any_value, kind)
    return tuple(value(one) for one in found.values) if kind == "array_value" else found


@contextmanager
def by_http() -> Generator[Collector]:
    """A collector that listens for OTLP over HTTP."""

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.answers.wait(30)
            if collector.status == HTTPStatus.OK:
                collector.got.append((self.path, body, {name.lower(): text for name, text in self.headers.items()}))
            else:
                collector.refused += 1
            self.send_response(collector.status)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def by_grpc() -> Generator[Collector]:
    """A collector that listens for OTLP over gRPC: bytes in, whatever a service answers that has nothing to say."""
    server = grpc.server(futures.ThreadPoolExecutor(2))

    def taking(path: str) -> Any:
        def take(body: bytes, context: Any) -> bytes:
            told = {str(name): str(text) for name, text in context.invocation_metadata()}
            collector.got.append((path, body, told))
            return bytes(ExportTraceServiceResponse().SerializeToString())

        handler: Any = grpc.unary_unary_rpc_method_handler(take)  # pyright: ignore[reportUnknownVariableType] - its own
        return handler

    for path in (TRACES, _METRICS):
        service, _, method = path[1:].partition("/")
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: taking(path)})])
    port = server.add_insecure_port("127.0.0.1:0")
    collector = Collector(f"http://127.0.0.1:{port}")
    server.start()
    try:
        yield collector
    finally:
        server.stop(None).wait()
