"""Commands that run on, as processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

# Whatever is started in the background of a script ignores Ctrl-C, and what that starts does too.
_AS_FROM_A_TERMINAL = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('antiphon.cli', run_name='__main__', alter_sys=True)"
)


class Process:
    """A command that runs on, and what it has said on stderr so far."""

    def __init__(self, *argv: str, cwd: Path) -> None:
        self.said: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _AS_FROM_A_TERMINAL, *argv], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.said.append(line.decode())
                self._news.notify_all()

    def wait_for(self, text: str, *, timeout_s: float = 30.0) -> str:
        """Return the first line that holds *text*."""
        with self._news:
            came = self._news.wait_for(lambda: any(text in line for line in self.said), timeout_s)
        assert came, "".join(self.said)
        return next(line for line in self.said if text in line)

    def end(self, number: signal.Signals = signal.SIGTERM, *, timeout_s: float = 20.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout_s)

    def wait_for_end(self, *, timeout_s: float = 20.0) -> None:
        """Return when all it has said is in `said`."""
        self._listener.join(timeout_s)

    def clean_up(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
