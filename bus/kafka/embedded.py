"""A broker for a laptop: noida-db speaks Kafka's protocol in one small process, without Java or Docker.

It keeps its data in memory and snapshots it, so it is for trying things out:
a `kill -9` of it loses what came since the last snapshot, and every record
takes memory for good. Promises are Kafka's; of members that are gone it is
told by whoever runs it (`sessions`).
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from antiphon.bus.errors import BusError
from antiphon.bus.kafka.sessions import Sessions
from antiphon.bus.kafka.tether import Tethered, free_port, is_free, speaks_kafka

_START_S = 10.0
_TRIES = 3


class EmbeddedBrokerError(BusError):
    """The embedded broker could not be started."""

    def __init__(self, got: str, remedy: str) -> None:
        super().__init__(f"expected to start the embedded broker, but {got}. {remedy}")


class EmbeddedBroker:
    """One broker on this machine's loopback, as an async context manager or by `start` and `stop`.

    It ends when this process does, however it does, and its data is removed
    unless *data_dir* names where to keep it. Without *port* any free one.
    """

    def __init__(self, *, port: int | None = None, data_dir: Path | None = None, host: str = "127.0.0.1") -> None:
        self._host = host
        self._wanted_port = port
        self._kept = data_dir
        self._directory: Path | None = None
        self._process: Tethered | None = None
        self._sessions: Sessions | None = None
        self._port = 0

    @property
    def bootstrap_servers(self) -> str:
        """The address, once started."""
        return f"{self._host}:{self._port}"

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        return None if self._process is None else self._process.pid

    async def start(self) -> str:
        """Start it and return its address when it answers; raises `EmbeddedBrokerError`."""
        await asyncio.to_thread(self._start)
        return self.bootstrap_servers

    async def stop(self) -> None:
        """End it, its snapshot written. Twice does no harm."""
        await asyncio.to_thread(self._stop)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _start(self) -> None:
        program = _program()
        if self._wanted_port is not None and not is_free(self._wanted_port, self._host):
            raise EmbeddedBrokerError(
                f"port {self._wanted_port} is taken", "Name another with --port, or end what listens there."
            )
        self._directory = Path(tempfile.mkdtemp(prefix="antiphon-broker-"))
        try:
            for attempt in range(1, _TRIES + 1):
                self._port = self._wanted_port or free_port(self._host)
                if self._launch(program, self._directory):
                    self._sessions = Sessions(self._host, self._port)
                    self._sessions.start()
                    return
                if self._wanted_port is not None or attempt == _TRIES:
                    raise EmbeddedBrokerError(f"it said: {_last_words(self._directory)}", "Is it another's data?")
        except BaseException:
            self._stop()
            raise

    def _launch(self, program: Path, directory: Path) -> bool:
        """Say whether it came up; another process may have taken the port meanwhile."""
        data = self._kept or directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        command = [str(program), "start", "--only", "kafka", "--host", self._host]
        command += ["--kafka-port", str(self._port), "--data-dir", str(data.absolute())]
        # Its output goes to a file: on some systems the loader warns on stderr, about nothing that matters.
        self._process = Tethered(command, log=directory / "log", cwd=directory, leftover=directory)
        deadline = time.monotonic() + _START_S
        while self._process.exit_code is None and time.monotonic() < deadline:
            if speaks_kafka(self._host, self._port):
                # Whoever answers is ours only if ours still runs.
                return self._process.exit_code is None
            time.sleep(0.005)
        self._process.stop()
        return False

    def _stop(self) -> None:
        if self._sessions is not None:
            self._sessions.close()
            self._sessions = None
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def _program() -> Path:
    found = find_spec("noida_db")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    for folder in folders:
        for name in ("noida-db", "noida-db.exe"):
            program = Path(folder) / name
            if program.is_file():
                # Installers have been seen to drop the permission.
                program.chmod(program.stat().st_mode | 0o555)
                return program
    raise EmbeddedBrokerError("the package noida-db is not installed", "Install it with: pip install 'antiphon[dev]'")


def _last_words(directory: Path) -> str:
    lines = (directory / "log").read_text(errors="replace").splitlines()
    told = [line for line in lines if line.startswith("error:")]
    return (told or lines or ["nothing"])[-1].removeprefix("error: ")
