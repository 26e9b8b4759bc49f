"""Worker processes that a test starts, kills, freezes and stops: `antiphon run`, as anybody starts it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from antiphon.testing.waiting import eventually

# A worker may take its grace period, and a busy machine its time.
_PATIENCE_S = 60.0


class Process:
    """One running worker, and what it logs."""

    def __init__(self, command: Sequence[str], *, log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """What it ended with, minus a signal's number where one ended it; None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended gets none."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Kill -9: no handler, no farewell."""
        self._popen.kill()
        self._popen.wait()

    async def ready(self) -> Self:
        """Return when it has its partitions; raises where it ended instead."""
        await eventually(
            lambda: self.said("ready") or self.exit_code is not None, _PATIENCE_S, what="the worker to be ready"
        )
        assert self.said("ready"), f"it ended with {self.exit_code}: {self.text()[-2000:]}"
        return self

    async def ended(self) -> int:
        """Wait for its end and return what it ended with."""
        await eventually(lambda: self.exit_code is not None, _PATIENCE_S, what="the worker to end")
        assert self.exit_code is not None
        return self.exit_code

    def text(self) -> str:
        """Return all it has written."""
        return self._log.read_text(errors="replace")

    def lines(self) -> list[dict[str, Any]]:
        """Return the log lines it has written whole."""
        found: list[dict[str, Any]] = []
        for line in self.text().splitlines():
            with contextlib.suppress(ValueError):  # a traceback's line, or one half written
                found.append(json.loads(line))
        return found

    def said(self, sentence: str) -> list[dict[str, Any]]:
        """Return the log lines that begin with *sentence*."""
        return [line for line in self.lines() if str(line.get("message")).startswith(sentence)]


class Crew:
    """Starts workers with one configuration. Whoever still runs at the end is killed."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self._folder = folder
        self.environment = {
            **os.environ,
            **{f"ANTIPHON_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.processes: list[Process] = []
        """Everybody who was ever started."""

    def start(self, *words: str, under: Sequence[str] = (), **settings: object) -> Process:
        """Start `antiphon run` with *words*, as the last words of the command *under*; *settings* are its alone."""
        process = Process(
            [*under, sys.executable, "-m", "antiphon.cli", "run", *words],
            log=self._folder / f"worker-{len(self.processes)}.log",
            environment={
                **self.environment,
                **{f"ANTIPHON_{name.upper()}": str(value) for name, value in settings.items()},
            },
        )
        self.processes.append(process)
        return process

    async def stop(self) -> list[int]:
        """End all who run in an orderly way; returns what they ended with."""
        running = [process for process in self.processes if process.exit_code is None]
        for process in running:
            process.send(signal.SIGTERM)
        return [await process.ended() for process in running]

    def logs(self) -> str:
        """Return the end of what each has written, for a failing test to show."""
        return "\n".join(f"worker {n}: {process.text()[-3000:]}" for n, process in enumerate(self.processes))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            process.kill()
