"""How long a newcomer waits: for what an agent imports, the command line, a workflow without a broker.

    python benchmarks/startup.py [--rounds N]

Prints the best of several rounds, since whatever else the machine does only
adds; and what an empty interpreter takes, since that is nobody's to win. What
has been compiled is kept between the rounds, as it is for a user; the first
time of all, with nothing compiled, is a row of its own.
"""

from __future__ import annotations

import argparse
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bytecode import keeping_in

AGENT = """
from antiphon import Event, agent

class TicketOpened(Event):
    ticket_id: str

class TicketTriaged(Event):
    ticket_id: str

@agent
async def triage(ticket: TicketOpened) -> TicketTriaged:
    return TicketTriaged(ticket_id=ticket.ticket_id)
"""
TRY = ("-m", "antiphon.cli", "try", "support.py", "ticket.opened", "--data", '{"ticket_id": "7"}')
# What the module above does first. The package alone loads nothing: each name is loaded when it is asked for.
_IMPORT = "from antiphon import Event, agent"
_TIMED = f"import time; began = time.perf_counter(); {_IMPORT}; print(time.perf_counter() - began)"


def main() -> None:
    """Measure and print, with what each should take at most."""
    parser = argparse.ArgumentParser(description="Measure start-up.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        start = Start(Path(name))
        rows: list[tuple[str, Callable[[], float], float | None]] = [
            ("an empty interpreter", lambda: start.wall_s(["-c", ""]), None),
            (_IMPORT, lambda: float(start.said(["-c", _TIMED])), 0.3),
            ("  of that pydantic (-X importtime)", lambda: start.part_s("pydantic"), None),
            ("antiphon --version", lambda: start.wall_s(["-m", "antiphon.cli", "--version"]), None),
            ("antiphon try, all in all", lambda: start.wall_s(TRY), 1.0),
            ("antiphon try, nothing compiled yet", start.first_s, None),
        ]
        print(f"{'start-up, seconds':<36} {'best':>6} {'worst':>6} {'limit':>6}")
        for what, measure, limit in rows:
            measure()  # bytecode is written, files are in the cache
            found = [measure() for _ in range(rounds)]
            print(f"{what:<36} {min(found):6.3f} {max(found):6.3f} {'' if limit is None else f'{limit:6.1f}'}".rstrip())


class Start:
    """Interpreters that are started in a folder with an agent, and keep what they compile there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._environment = keeping_in(folder / "compiled")
        self._first = itertools.count(1)
        (folder / "support.py").write_text(AGENT)

    def wall_s(self, arguments: Sequence[str]) -> float:
        """Return how long a fresh interpreter takes with *arguments*, from start to end."""
        started = time.perf_counter()
        self._run(arguments)
        return time.perf_counter() - started

    def first_s(self) -> float:
        """Return how long `antiphon try` takes where nobody has compiled anything."""
        self._environment = keeping_in(self._folder / f"compiled for the first time {next(self._first)}")
        return self.wall_s(TRY)

    def said(self, arguments: Sequence[str]) -> str:
        """Return what a fresh interpreter prints."""
        return self._run(arguments).stdout

    def part_s(self, part: str) -> float:
        """Return what modules that *part* begins take of an agent's imports, as the interpreter itself measures it."""
        told = self._run(["-X", "importtime", "-c", _IMPORT]).stderr
        lines = re.findall(r"import time: +(\d+) \| +\d+ \| +(\S+)", told)
        return sum(int(own) for own, name in lines if name.startswith(part)) / 1e6

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=self._folder, env=self._environment, check=True, capture_output=True, text=True
        )


if __name__ == "__main__":
    main()
