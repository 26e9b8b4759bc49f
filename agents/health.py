"""The endpoint that says from outside how a worker is: `/livez`, `/readyz`, `/metrics`.

It answers in threads of its own, so that it answers also while a handler blocks
the event loop; that is when somebody asks.
"""

from __future__ import annotations

import abc
import asyncio
import json
import logging
import socket
import socketserver
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple, Self

from antiphon.agents.metrics import CONTENT_TYPE, Metrics
from antiphon.agents.worker import Worker
from antiphon.bus.errors import SettingsError
from antiphon.bus.telemetry import Status

log = logging.getLogger(__name__)

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
# How soon a stop is noticed.
_POLL_S = 0.1


class Listening(abc.ABC):
    """A port that answers while the context lasts, in threads of its own."""

    def __init__(self, *, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens; with port 0 the system has picked one."""
        return self._port if self._server is None else int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self.port}"

    @abc.abstractmethod
    def answer(self, path: str) -> Answer:
        """Return what is said to whoever asks for *path*; called in the threads that answer."""

    async def __aenter__(self) -> Self:
        """Listen. Raises `SettingsError` where the address is taken, or none of this machine's."""
        try:
            self._server = _Server((self._host, self._port), self)
        except OSError as error:
            got = f"{self._port} on {self._host}"
            raise SettingsError("metrics_port", "a free port of this machine", got, error.strerror or "-") from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="antiphon-endpoint", daemon=True
        )
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None and self._thread is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
            self._thread.join()


class Endpoint(Listening):
    """Answers for *worker* while the context lasts; drain inside of it, so that whoever asks is told.

    `/livez`: 200 where the event loop answers within *live_s*, else 503.
    `/readyz`: 200 where every agent has its partitions and none is draining, else 503; JSON either way.
    `/metrics`: Prometheus' text format.
    """

    def __init__(self, worker: Worker, metrics: Metrics, *, host: str, port: int, live_s: float = 5.0) -> None:
        super().__init__(host=host, port=port)
        self._worker = worker
        self._metrics = metrics
        self._live_s = live_s

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        return await super().__aenter__()

    def answer(self, path: str) -> Answer:
        match path.partition("?")[0]:
            case "/livez":
                return self._live()
            case "/readyz":
                return self._ready()
            case "/metrics":
                return Answer(HTTPStatus.OK, CONTENT_TYPE, self._metrics.text(self._worker.statuses()))
            case _:
                return UNKNOWN

    def _live(self) -> Answer:
        answered = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answered.set)
        except RuntimeError:  # the loop is closed
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"the event loop has ended\n")
        if answered.wait(self._live_s):
            return Answer(HTTPStatus.OK, TEXT, b"ok\n")
        said = f"the event loop has not answered for {self._live_s:g} s\n"
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, said.encode())

    def _ready(self) -> Answer:
        statuses = self._worker.statuses()
        ready = bool(statuses) and all(status.ready and not status.draining for status in statuses)
        agents = {
            status.agent: {
                "state": _state(status),
                "partitions": status.partitions,
                "paused": status.paused,
                "in_flight": status.in_flight,
            }
            for status in statuses
        }
        body = json.dumps({"ready": ready, "instance": self._worker.instance, "agents": agents})
        return Answer(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, JSON, body.encode() + b"\n")


class Answer(NamedTuple):
    """What is said to one who asks."""

    status: HTTPStatus
    content_type: str
    body: bytes


UNKNOWN = Answer(HTTPStatus.NOT_FOUND, TEXT, b"expected /livez, /readyz or /metrics\n")


def _state(status: Status) -> str:
    if status.draining:
        return "draining"
    return "ready" if status.ready else "waiting for partitions"


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], endpoint: Listening) -> None:
        self.endpoint = endpoint
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Request)


class _Request(BaseHTTPRequestHandler):
    # One who connects and says nothing must not keep a thread.
    timeout = 10.0

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            # A probe that did not wait for its answer knows what it asked for: there is none in time.
            return
        except Exception as error:
            log.error("a question to the endpoint was not answered", exc_info=error)

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)  # noqa: S101 - it makes these, for the type checker
        answer = self.server.endpoint.answer(self.path)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def version_string(self) -> str:
        """Name no version: that is for whoever may read more than this port."""
        return "antiphon"

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a probe every second is no news."""
