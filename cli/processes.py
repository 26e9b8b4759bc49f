"""`--processes`: several workers of the same agents, each a process, and the supervisor that keeps them running.

Each is the command that was typed, run by the same interpreter from the start
(fork and exec): the client's threads and an event loop outlive no bare fork, and
what a worker is made of need not be picklable. Flags say what differs, behind
those that were typed, where they win; whatever came by the environment goes on
by it, so that no secret becomes part of a command line.

The first starts alone. What is wrong with all of them, a module that cannot be
imported or a broker that does not answer, is said once, by that one, and its
exit code is the supervisor's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import fcntl
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence

from antiphon.bus.kafka.tether import Tethered
from antiphon.bus.retry import RetryPolicy
from antiphon.bus.settings import Settings
from antiphon.cli.errors import DONE, INTERRUPTED, NO
from antiphon.cli.supervised import VARIABLE, Order, read_started

log = logging.getLogger("antiphon")

_LOOK_S = 0.1
# One that has run for so long had no trouble starting: what ends it now is another matter.
_SETTLED_S = 30.0
# Beyond the grace period: to cancel what is left, and to leave the group of a broker that answers slowly.
_MARGIN_S = 15.0
_ABOVE_THE_SHELLS_OWN = 10
AGAIN = RetryPolicy(attempts=5, base_s=0.5, cap_s=30.0, jitter=False)
"""How long to wait after each death soon after a start, and after how many in a row to give up."""


def command(argv: Sequence[str], instance: str) -> list[str]:
    """Return the command line of one process: what was typed, for one process under a name of its own.

    >>> command(["run", "support", "--processes", "4"], "w-0")[4:]
    ['run', 'support', '--processes', '4', '--processes', '1', '--instance', 'w-0']
    >>> command(["run", "--", "support"], "w-0")[4:]
    ['run', '--processes', '1', '--instance', 'w-0', '--', 'support']
    """
    end = argv.index("--") if "--" in argv else len(argv)
    own = ["--processes", "1", "--instance", instance]
    # Not from this folder: a file here may be called as a module that antiphon needs.
    return [sys.executable, "-P", "-m", "antiphon.cli", *argv[:end], *own, *argv[end:]]


def exit_code(codes: Sequence[int]) -> int:
    """Return the exit code of several processes that were asked to end.

    >>> exit_code([0, 0]), exit_code([0, 1]), exit_code([0, -9]), exit_code([0, -15])
    (0, 1, 1, 0)
    """
    # Ended by the very signal: it was still being loaded, and had nothing in hand.
    bad = [code for code in codes if code not in {DONE, -signal.SIGTERM}]
    return max(bad[0], NO) if bad else DONE


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"


@dataclasses.dataclass(eq=False)
class _Process:
    """One worker process, and those that had its name before."""

    instance: str
    running: Tethered | None = None
    pipe: int = -1
    began_s: float = 0.0
    up: bool = False
    """It has said that its start went well."""
    port: int | None = None
    deaths: int = 0
    """In a row, each soon after a start."""
    due_s: float = 0.0
    """When to start it; moot while it runs."""
    code: int = DONE
    """What the last one ended with."""


class Supervisor:
    """Keeps a process of each of *instances* running until told to stop; *command* is how one is started.

    A stop may take *grace_s*, and a margin. With *metrics* each process opens a port of its own, see `ports`.
    """

    def __init__(
        self,
        command: Callable[[str], Sequence[str]],
        instances: Sequence[str],
        *,
        grace_s: float,
        metrics: bool = False,
        again: RetryPolicy = AGAIN,
    ) -> None:
        self._command = command
        self._processes = [_Process(instance) for instance in instances]
        self._grace_s = grace_s
        self._metrics = metrics
        self._again = again
        self._begun = False
        """Whether one has ever started: the others may, too."""
        self._stopping_s: float | None = None
        self._gave_up = DONE
        """With what."""
        self._signals: list[signal.Signals] = []
        self._random = random.Random()  # noqa: S311 - jitter, not a secret

    def ports(self) -> dict[str, int | None]:
        """Say where each process is asked for its figures. Any thread may ask."""
        return {process.instance: process.port for process in self._processes}

    @property
    def started(self) -> int:
        """How many are up."""
        return sum(process.up for process in self._processes)

    @property
    def stopping(self) -> bool:
        return self._stopping_s is not None

    async def run(self) -> int:
        """Return the exit code, once all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signals.append, number)
        log.info("starting processes", extra={"processes": len(self._processes), "instances": self._names()})
        try:
            while True:
                ended = self._look()
                if ended is not None:
                    return ended
                await asyncio.sleep(_LOOK_S)
        finally:
            for process in self._processes:
                if process.running is not None:
                    process.running.stop(0, by=signal.SIGKILL)

    def _names(self) -> str:
        first, last = self._processes[0].instance, self._processes[-1].instance
        return first if first == last else f"{first} ... {last}"

    def _look(self) -> int | None:
        """Do what is to be done now; return the exit code when nothing is left to do."""
        for process in self._processes:
            self._hear(process)
        if self._signals:
            number = self._signals.pop()
            if self._stopping_s is not None:
                # At once means at once: the broker fences what they leave open.
                return INTERRUPTED if number is signal.SIGINT else 128 + number
            self._stop(number)
        for process in self._processes:
            if process.running is not None and (code := process.running.exit_code) is not None:
                self._end(process, code)
                if self._stopping_s is None and not self._may_go_on(process):
                    self._give_up(process)
        if self._stopping_s is not None:
            return self._wind_up()
        self._start_those_due()
        return None

    def _hear(self, process: _Process) -> None:
        if process.running is None or process.pipe < 0:
            return
        with contextlib.suppress(BlockingIOError):
            said = read_started(os.read(process.pipe, 4_096))
            os.close(process.pipe)
            process.pipe = -1
            if said is not None:
                process.up, process.port = True, said["port"]
                self._begun = True

    # Starting, and starting again.

    def _start_those_due(self) -> None:
        now = time.monotonic()
        for process in self._processes if self._begun else self._processes[:1]:
            if process.running is None and now >= process.due_s:
                self._start(process)

    def _start(self, process: _Process) -> None:
        pipe, theirs = os.pipe()
        os.set_blocking(pipe, False)
        end = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, _ABOVE_THE_SHELLS_OWN)
        os.close(theirs)
        order = Order(pipe=end, introduces=not self._begun, metrics=self._metrics)
        try:
            process.running = Tethered(
                self._command(process.instance), environment={VARIABLE: order.dump()}, inherits=[end]
            )
        finally:
            os.close(end)
        process.pipe, process.began_s = pipe, time.monotonic()

    def _end(self, process: _Process, code: int) -> None:
        """Note that *process* has ended by itself."""
        assert process.running is not None  # noqa: S101 - it has just ended
        process.running.stop()
        if process.pipe >= 0:
            os.close(process.pipe)
        process.running, process.pipe, process.code = None, -1, code
        process.up, process.port = False, None

    def _may_go_on(self, process: _Process) -> bool:
        """Decide whether *process*, which nobody has asked to end, is started again."""
        lived_s = time.monotonic() - process.began_s
        process.deaths = 1 if lived_s > _SETTLED_S else process.deaths + 1
        if not self._begun or process.deaths >= self._again.attempts:
            return False
        delay_s = self._again.delay_s(process.deaths, self._random)
        process.due_s = time.monotonic() + delay_s
        log.error(
            "a process has ended that nobody asked to; starting it again",
            extra={"instance": process.instance, "ended_with": _how(process.code), "in_s": delay_s},
        )
        return True

    def _give_up(self, process: _Process) -> None:
        self._gave_up = max(process.code, NO)
        if self._begun:
            log.error(
                "a process keeps ending soon after its start; giving up",
                extra={"instance": process.instance, "ended_with": _how(process.code), "starts": process.deaths},
            )
        elif process.code <= 0:  # else it has said itself what is wrong
            log.error("the first process did not start", extra={"ended_with": _how(process.code)})
        self._stop(signal.SIGTERM)

    # Stopping.

    def _stop(self, number: signal.Signals) -> None:
        """Ask all to finish what they have in hand."""
        self._stopping_s = time.monotonic()
        for process in self._processes:
            # What ended before is told already; it leaves nothing to drain.
            process.code = DONE
        running = [process.running for process in self._processes if process.running is not None]
        if running:
            log.info("stopping all processes; once more stops at once", extra={"signal": number.name})
        for tethered in running:
            tethered.tell(signal.SIGTERM)

    def _wind_up(self) -> int | None:
        assert self._stopping_s is not None  # noqa: S101 - it is stopping
        left = [process for process in self._processes if process.running is not None]
        if left and time.monotonic() - self._stopping_s > self._grace_s + _MARGIN_S:
            names = [process.instance for process in left]
            log.error("processes did not end within the grace period and were killed", extra={"instances": names})
            return NO
        if left:
            return None
        if self._gave_up:
            return self._gave_up
        code = exit_code([process.code for process in self._processes])
        log.info("all processes have stopped", extra={"exit_code": code})
        return code


async def supervise(argv: Sequence[str], settings: Settings, base: str) -> int:
    """Run `settings.processes` workers called *base*-0 and so on; returns the exit code when all have ended.

    0: all drained. 1: one did not within its grace period, or keeps dying.
    Before the first has started: whatever that one ended with.
    """
    instances = [f"{base}-{number}" for number in range(settings.processes)]
    supervisor = Supervisor(
        lambda instance: command(argv, instance),
        instances,
        grace_s=settings.grace,
        metrics=settings.metrics_port > 0,
    )
    async with contextlib.AsyncExitStack() as stack:
        if settings.metrics_port:
            from antiphon.cli.front import Front  # noqa: PLC0415 - for those only who ask for the endpoint

            await stack.enter_async_context(
                Front(supervisor.ports, host=settings.metrics_host, port=settings.metrics_port)
            )
        return await supervisor.run()
