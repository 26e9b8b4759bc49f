"""A worker as it is run in earnest: `antiphon run` in a process of its own, measured from outside."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from antiphon.bus.kafka.tether import Tethered
from antiphon.bus.names import COORDINATOR, Names
from stage import Stage

HERE = Path(__file__).parent
_READY_S = 60.0
_LOOK_S = 0.002


class Program:
    """A Python program beside us that ends when we do, and what it costs."""

    def __init__(self, stage: Stage, name: str, command: list[str], environment: dict[str, str] | None = None) -> None:
        self.name = name
        self._log = stage.folder / f"{name}.log"
        # `env` becomes the program: the process is the same.
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        self._process = Tethered(["env", *settings, *command], log=self._log, cwd=stage.folder)
        self._measured = psutil.Process(self._process.pid)

    async def said(self, text: str, times: int = 1) -> None:
        """Return as soon as *text* is in its log so often; look often, since what it costs is counted from there."""
        deadline = time.monotonic() + _READY_S
        while self._log.read_text(errors="replace").count(text) < times:
            self.alive()
            if time.monotonic() > deadline:
                message = f"expected {text!r} in the log of {self.name} within {_READY_S:g} s; it ends:\n{self._tail()}"
                raise TimeoutError(message)
            await asyncio.sleep(_LOOK_S)

    def alive(self) -> None:
        """Raise where the program has ended: whoever waits for it waits in vain."""
        if self._process.exit_code is not None:
            message = f"{self.name} ended with {self._process.exit_code}; its log ends:\n{self._tail()}"
            raise RuntimeError(message)

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    @property
    def cpu_s(self) -> float:
        """Processor time used so far, by its threads and children."""
        return sum(sum(one.cpu_times()[:2]) for one in self._family())

    @property
    def memory_mb(self) -> float:
        """Resident memory now, children's included."""
        return sum(one.memory_info().rss for one in self._family()) / 1e6

    def _family(self) -> list[psutil.Process]:
        return [self._measured, *self._measured.children(recursive=True)]

    def end(self) -> None:
        """End it in an orderly way, and wait for that."""
        self._process.stop(_READY_S)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it and its children have no processor meanwhile; its group must not miss it."""
        family = self._family()
        for one in family:
            one.suspend()
        try:
            yield
        finally:
            for one in family:
                one.resume()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._process.stop(by=signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # What it was to do is done: nothing is gained by an orderly end.
        self.kill()


class WorkerProcess(Program):
    """`antiphon run` of one agent of `hops`, or of the coordinator."""

    def __init__(
        self,
        stage: Stage,
        names: Names,
        agent: str,
        *options: str,
        partitions: int | None = None,
        label: str = "",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        found = agent if agent == COORDINATOR else f"{HERE / 'hops.py'}:{agent}"
        command = [sys.executable, "-m", "antiphon.cli", "run", found, *options]
        environment = {
            "ANTIPHON_BOOTSTRAP_SERVERS": stage.bootstrap,
            "ANTIPHON_NAMESPACE": names.namespace,
            **({"ANTIPHON_PARTITIONS": str(partitions)} if partitions else {}),
            **(settings or {}),
        }
        super().__init__(stage, f"{names.namespace}-{agent}{label}", command, environment)

    async def ready(self, processes: int = 1) -> None:
        """Return when all its processes have partitions, or stand by."""
        await self.said('"message":"ready"', processes)
