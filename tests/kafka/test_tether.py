"""Whatever becomes of this process, it leaves no broker behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from antiphon.bus.kafka.tether import Tethered, free_port, is_free, speaks_kafka

_HOLDER = """
import sys, time
from pathlib import Path
from antiphon.bus.kafka.tether import Tethered
child = Tethered(["sleep", "60"], log=Path(sys.argv[1]) / "log", leftover=Path(sys.argv[2]))
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_child_dies_with_a_killed_parent_and_leaves_no_files(tmp_path: Path) -> None:
    """`kill -9` gives nobody a chance to clean up."""
    leftover = tmp_path / "data"
    leftover.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path), str(leftover)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    pid = int(holder.stdout.readline())
    assert psutil.pid_exists(pid)

    holder.kill()
    holder.communicate()

    until(lambda: not psutil.pid_exists(pid) and not leftover.exists())


def test_stop_ends_the_program_and_its_watcher(tmp_path: Path) -> None:
    """And says what the program ended with."""
    child = Tethered(["sleep", "60"], log=tmp_path / "log")
    family = [psutil.Process(child.pid), *psutil.Process(child.pid).children(recursive=True)]

    child.stop()
    child.stop()

    assert child.exit_code == -signal.SIGTERM
    until(lambda: not any(process.is_running() for process in family))


def test_a_program_that_ignores_the_signal_is_ended_by_force(tmp_path: Path) -> None:
    """After its grace period, not before."""
    child = Tethered(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"], log=tmp_path / "log")
    until(lambda: (tmp_path / "log").read_text() == "up\n")
    child.stop(0.2)
    assert child.exit_code == -signal.SIGKILL


def test_only_a_broker_speaks_kafka() -> None:
    """Neither a closed port does, nor a server that says something else, nor one that says nothing."""
    assert not speaks_kafka("127.0.0.1", free_port())
    assert not _answers(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert not _answers(b"")
    assert _answers(b"\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00")


def test_a_port_in_use_is_not_free() -> None:
    """Told before a broker is started on it, not after it failed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def _answers(reply: bytes) -> bool:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(64)
                connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        heard = speaks_kafka("127.0.0.1", server.getsockname()[1], timeout_s=0.5)
        thread.join()
        return heard


def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
