"""How long a newcomer waits: `import antiphon`, the command line, a workflow without a broker.

    python benchmarks/startup.py [--rounds N]

Prints the best of several rounds, since whatever else the machine does only
adds; and what an empty interpreter takes, since that is nobody's to win.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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


def main() -> None:
    """Measure and print, with what each should take at most."""
    parser = argparse.ArgumentParser(description="Measure start-up.")
    parser.add_argument("--rounds", type=int, default=5)
    rounds: int = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "support.py").write_text(AGENT)
        rows: list[tuple[str, Callable[[], float], float | None]] = [
            ("an empty interpreter", lambda: wall_s(folder, ["-c", ""]), None),
            ("import antiphon (-X importtime)", lambda: import_s(folder, "antiphon"), 0.3),
            ("  of that pydantic", lambda: import_s(folder, "antiphon", part="pydantic"), None),
            ("antiphon --version", lambda: wall_s(folder, ["-m", "antiphon.cli", "--version"]), None),
            ("antiphon try, all in all", lambda: wall_s(folder, TRY), 1.0),
        ]
        print(f"{'start-up, seconds':<34} {'best':>6} {'worst':>6} {'limit':>6}")
        for name, measure, limit in rows:
            measure()  # bytecode is written, files are in the cache
            found = [measure() for _ in range(rounds)]
            print(f"{name:<34} {min(found):6.3f} {max(found):6.3f} {'' if limit is None else f'{limit:6.1f}'}".rstrip())


def wall_s(folder: str, arguments: Sequence[str]) -> float:
    """Return how long a fresh interpreter takes with *arguments*, from start to end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def import_s(folder: str, module: str, *, part: str = "") -> float:
    """Return what `import module` takes as the interpreter itself measures it; of that, modules that *part* begins."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    lines = re.findall(r"import time: +(\d+) \| +(\d+) \| +(\S+)", done.stderr)
    if not part:
        return int(lines[-1][1]) / 1e6
    return sum(int(own) for own, _, name in lines if name.startswith(part)) / 1e6


if __name__ == "__main__":
    main()
