"""A program as a child process that ends when this process does, however it does.

The child is held by a pipe: a watcher beside it, one small shell, kills it when
the pipe closes without a word. So a `kill -9` of this process leaves nothing
running. `PR_SET_PDEATHSIG` would do that on Linux alone, and it fires when the
*thread* that made the child ends.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

# $$ is the shell's own process id inside the subshell too, and `exec` keeps it:
# what is killed is the program.
_WATCHED = """
exec 3<&0 </dev/null
leftover=$1; shift
( read -r _ <&3 || { kill -KILL $$; [ -z "$leftover" ] || { rm -rf "$leftover"; sleep 1; rm -rf "$leftover"; }; } ) >/dev/null 2>&1 &
exec 3<&-
exec "$@"
"""


class Tethered:
    """A running program. Every method blocks; `stop` for at most its grace.

    It writes to the file *log*; without one to where this process writes. It
    has *environment* beside this process's own, and *inherits* these file
    descriptors, which must be above 9: a shell uses those below for itself.
    Where this process dies without a word, *leftover* is removed as well.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path | None = None,
        cwd: Path | None = None,
        leftover: Path | None = None,
        environment: Mapping[str, str] | None = None,
        inherits: Sequence[int] = (),
    ) -> None:
        self.log = log
        with contextlib.nullcontext() if log is None else log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own callers name the program
                ["/bin/sh", "-c", _WATCHED, "tether", str(leftover or ""), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=None if output is None else subprocess.STDOUT,
                cwd=cwd,
                env=None if environment is None else {**os.environ, **environment},
                pass_fds=inherits,
                # Ctrl-C in a terminal goes to the whole group: a child must outlive whoever drains.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """What the program ended with; None while it runs."""
        return self._process.poll()

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs. Does not wait."""
        self._process.send_signal(number)

    def stop(self, grace_s: float = 5.0, *, by: signal.Signals = signal.SIGTERM) -> None:
        """End the program: *by* a signal, and where that is not enough in *grace_s*, by force. Twice does no harm."""
        if self._process.poll() is None:
            self._process.send_signal(by)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin is not None and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.write(b"done\n")
                self._process.stdin.close()


def free_port(host: str = "127.0.0.1") -> int:
    """Find a port nobody listens on.

    Below the ephemeral range, so that no outgoing connection takes it before
    its server does; another process looking at the same moment still can.
    """
    while True:
        port = random.randint(20_000, 32_000)  # noqa: S311 - any port will do
        if is_free(port, host):
            return port


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Say whether a server could listen on *port* now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


API_VERSIONS = b"\x00\x00\x00\x0a\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"
"""ApiVersions, version 0, correlation id 1, no client id: the one request every broker answers to anybody."""


def speaks_kafka(host: str, port: int, timeout_s: float = 1.0) -> bool:
    """Say whether a Kafka broker answers at the address. Plain text only: TLS is for the real clients."""
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(API_VERSIONS)
            answer = b""
            while len(answer) < 8:  # noqa: PLR2004 - four bytes of length, four of correlation id
                connection.settimeout(max(deadline - time.monotonic(), 0.001))
                chunk = connection.recv(64)
                if not chunk:
                    return False
                answer += chunk
    except OSError:
        return False
    return answer[4:8] == b"\x00\x00\x00\x01"
