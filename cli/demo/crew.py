"""The demo's agents, each a process of its own, watched over until all have ended.

CrewError
├── MemberDiedError     an agent's process ended though nobody asked it to
├── NotReadyError       an agent did not start in time
└── StalledError        nothing has happened for long, and packages are on their way still
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from antiphon.bus.kafka.tether import Tethered
from antiphon.cli.errors import AnswerIsNoError, listed

T = TypeVar("T")

_LOOK_S = 0.1
_LOOK_SOON_S = 0.01
_LAST_LINES = 15


class CrewError(AnswerIsNoError):
    """Base of what can go wrong with the processes; the text ends with what the process said last."""


class MemberDiedError(CrewError):
    """An agent's process ended though nobody asked it to."""

    def __init__(self, name: str, exit_code: int, log: Path) -> None:
        self.name = name
        how = (
            f"was killed by {signal.Signals(-exit_code).name}" if exit_code < 0 else f"ended with exit code {exit_code}"
        )
        super().__init__(f"expected agent {name!r} to run, but it {how}", *last_lines(log))


class NotReadyError(CrewError):
    """An agent did not start in time."""

    def __init__(self, names: Collection[str], after_s: float, log: Path) -> None:
        self.names = names
        super().__init__(
            f"expected every agent to be ready within {after_s:.0f} s; still waiting for {', '.join(sorted(names))}",
            *last_lines(log),
        )


class StalledError(CrewError):
    """Nothing has happened for long, and packages are on their way still."""

    def __init__(self, waiting: Mapping[str, Collection[str]], after_s: float, log: Path) -> None:
        self.waiting = waiting
        where = "; ".join(f"{len(names)} {stage}: {listed(names, at_most=5)}" for stage, names in waiting.items())
        super().__init__(
            f"expected every package to come to an end, but nothing moved for {after_s:.0f} s", where, *last_lines(log)
        )


class Crew:
    """Processes that start together and end together, at the latest with this process, however it ends."""

    def __init__(self, folder: Path, *, cwd: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._cwd = cwd
        self._environment = environment
        self._members: dict[str, Tethered] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start `antiphon run *arguments*` as the process called *name*."""
        # By `env`, so that this process's own environment stays as it is.
        settings = [f"{key}={value}" for key, value in self._environment.items()]
        command = ["/usr/bin/env", *settings, sys.executable, "-m", "antiphon.cli", "run", *arguments]
        self._members[name] = Tethered(command, log=self.log(name), cwd=self._cwd)

    def log(self, name: str) -> Path:
        """Return where the process called *name* writes what it has to say."""
        return self._folder / f"{name}.log"

    @property
    def names(self) -> list[str]:
        return [*self._members]

    async def during(self, work: Coroutine[Any, Any, T]) -> T:
        """Await *work*; raises `MemberDiedError`, and cancels it, when a process ends meanwhile."""
        working, watching = asyncio.ensure_future(work), asyncio.ensure_future(self.watch())
        try:
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                watching.result()
            return await working
        finally:
            working.cancel()
            watching.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def watch(self) -> None:
        """Return never; raise `MemberDiedError` when a process ends."""
        while True:
            for name, member in self._members.items():
                if (exit_code := member.exit_code) is not None:
                    raise MemberDiedError(name, exit_code, self.log(name))
            await asyncio.sleep(_LOOK_S)

    def stop(self, grace_s: float) -> None:
        """End every process, all at once: asked to, and where that is not enough within *grace_s*, by force. Blocks.

        May be called again, also while an earlier call is still patient.
        """
        deadline = time.monotonic() + grace_s
        for member in self._members.values():
            with contextlib.suppress(ProcessLookupError):
                if member.exit_code is None:
                    os.kill(member.pid, signal.SIGTERM)
        # Without `Tethered.stop`, until it must be: a second SIGTERM tells an agent to drop what it is finishing.
        while time.monotonic() < deadline and any(member.exit_code is None for member in self._members.values()):
            time.sleep(_LOOK_SOON_S)
        for member in self._members.values():
            member.stop(0)


def last_lines(log: Path) -> list[str]:
    """Return the end of a log, under a line that says whose it is."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    said = [f"  {line}" for line in lines[-_LAST_LINES:]]
    return [f"the last lines of its log ({log.name}):", *said] if said else ["it wrote nothing to its log"]
