"""The supervisor of several processes, with processes small enough to do what a test wants at once."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from antiphon.bus.retry import RetryPolicy
from antiphon.cli.processes import Supervisor
from antiphon.testing.waiting import eventually

# Says that it has started, and waits for the signal; or does what a line of its own says.
_STARTS = "import time; from antiphon.cli.supervised import order; order().started(port=None)"
_WAITS = f"import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); {_STARTS}; time.sleep(60)"
_TOO_SLOW = f"import signal; signal.signal(signal.SIGTERM, lambda *_: exit(1)); {_STARTS}; time.sleep(60)"
_DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {_STARTS}; time.sleep(60)"
_AGAIN = RetryPolicy(attempts=3, base_s=0.01, jitter=False)

_SUPERVISED = """
import asyncio, sys
from antiphon.cli.processes import Supervisor
asyncio.run(Supervisor(lambda name: [sys.executable, "-c", sys.argv[1]], ["w-0", "w-1"], grace_s=1).run())
"""


def write(place: Path, what: str) -> str:
    """Return a line that leaves a trace of each start."""
    return f"open({str(place)!r}, 'a').write({what!r} + chr(10)); {_WAITS}"


def supervisor(lines: Mapping[str, str], *, grace_s: float = 30.0) -> Supervisor:
    def command(instance: str) -> Sequence[str]:
        return [sys.executable, "-c", lines[instance]]

    return Supervisor(command, [*lines], grace_s=grace_s, again=_AGAIN)


def children() -> list[psutil.Process]:
    """Return the processes that supervisors here have started; brokers that other tests share are not among them."""
    found = [process for process in psutil.Process().children() if _lives(process)]
    return [process for process in found if "supervised" in process.cmdline()[-1]]


async def test_what_is_wrong_with_all_is_said_once(tmp_path: Path) -> None:
    """The first does not start: no other is tried, and its exit code is the supervisor's."""
    trace = tmp_path / "trace"
    lines = {"w-0": f"open({str(trace)!r}, 'a').write('x'); exit(2)", "w-1": write(trace, "w-1")}
    assert await supervisor(lines).run() == 2
    assert trace.read_text() == "x"


async def test_one_that_crashes_is_started_again_alone(tmp_path: Path) -> None:
    """Under its name, so that what it left open is fenced; the other goes on undisturbed."""
    trace = tmp_path / "trace"
    both = supervisor({name: write(trace, name) for name in ("w-0", "w-1")})
    running = asyncio.create_task(both.run())
    await eventually(lambda: both.started == 2, what="both to start")
    first = next(process for process in children() if "'w-0'" in process.cmdline()[-1])
    first.kill()
    await eventually(lambda: both.started < 2, what="its end to be noticed")
    await eventually(lambda: both.started == 2, what="it to start again")
    signal.raise_signal(signal.SIGTERM)
    assert await running == 0
    assert trace.read_text().split() == ["w-0", "w-1", "w-0"]
    assert children() == []


async def test_one_that_keeps_dying_ends_all(caplog: pytest.LogCaptureFixture) -> None:
    """After so many starts in a row; the others drain first, and the exit code is the dying one's."""
    lines = {"w-0": _WAITS, "w-1": "exit(70)"}
    assert await supervisor(lines).run() == 70
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        "a process has ended that nobody asked to; starting it again",
        "a process has ended that nobody asked to; starting it again",
        "a process keeps ending soon after its start; giving up",
    ]
    assert children() == []


@pytest.mark.parametrize(
    ("line", "code"), [(_WAITS, 0), (_TOO_SLOW, 1)], ids=["all drained", "one exceeded its grace period"]
)
async def test_a_stop_says_whether_all_drained(line: str, code: int) -> None:
    """One signal to the supervisor is one signal to each."""
    both = supervisor({"w-0": _WAITS, "w-1": line})
    running = asyncio.create_task(both.run())
    await eventually(lambda: both.started == 2, what="both to start")
    signal.raise_signal(signal.SIGTERM)
    assert await running == code


async def test_a_second_signal_ends_all_at_once() -> None:
    """Also those that do not listen."""
    both = supervisor({"w-0": _DEAF, "w-1": _DEAF})
    running = asyncio.create_task(both.run())
    await eventually(lambda: both.started == 2, what="both to start")
    signal.raise_signal(signal.SIGINT)
    await eventually(lambda: both.stopping, what="the first signal to be heard")
    signal.raise_signal(signal.SIGINT)
    assert await running == 130
    assert children() == []


def test_whoever_kills_the_supervisor_kills_them() -> None:
    """`kill -9` gives it no chance to say anything to anybody."""
    holder = subprocess.Popen([sys.executable, "-c", textwrap.dedent(_SUPERVISED), _DEAF])
    try:
        family = asyncio.run(eventually(lambda: _two_below(holder.pid), what="both processes to start"))
    finally:
        holder.kill()
        holder.wait()
    asyncio.run(eventually(lambda: not any(_lives(process) for process in family), what="all to be gone"))


def _two_below(pid: int) -> list[psutil.Process]:
    below = psutil.Process(pid).children()
    return below if len(below) == 2 else []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
