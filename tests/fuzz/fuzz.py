"""Spoilt records, one after the other, to everything that reads bytes from outside: `make fuzz`.

    make fuzz ARGS="--seed 7 --records 1000000"
    make fuzz ARGS="--seed 7 --only 12345"         one of them again, with what came of it

Each is either read, or refused with an error that the reader is known to raise.
Any other error, a reader that takes longer than a few seconds, and memory that
grows are findings. Exits with 1 where there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

sys.path.insert(0, str(Path(__file__).parent.parent / "wire"))
from corpus import newest
from ground import Reader
from mutator import Mutator
from readers import World, drawn

PAGE = Path(__file__).parent.parent.parent / "docs" / "reference" / "soaks.md"
_NEWEST = "<!-- newest first -->\n"
STALL_S = 10.0
"""A machine with much else to do takes its time; a loop without end takes longer."""
MOST_GROWTH_MB = 512
"""What the largest value that readers take may come to, with what else is kept."""
_EVERY_S = 10.0
_MOST_FINDINGS = 20


class StallError(BaseException):
    """A reader takes too long. Not an `Exception`: nobody who reads may take it for one of his."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A spoilt record that was neither read nor refused as it should be."""

    number: int
    reader: str
    error: str
    given: str

    def __str__(self) -> str:
        return f"{self.reader}, record {self.number}: {self.error}\n  given {self.given[:400]}"


@dataclasses.dataclass
class Outcome:
    """What so many records came to."""

    seed: int
    seconds: float = 0.0
    growth_mb: float = 0.0
    read: Counter[str] = dataclasses.field(default_factory=Counter[str])
    refused: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter[tuple[str, str]])
    findings: list[Finding] = dataclasses.field(default_factory=list[Finding])

    @property
    def records(self) -> int:
        return self.read.total() + self.refused.total() + len(self.findings)

    @property
    def rate(self) -> float:
        return self.records / self.seconds if self.seconds else 0.0


def spoil(
    seed: int,
    numbers: Sequence[int],
    *,
    progress: Callable[[Outcome], None] = lambda outcome: None,
    only: str | None = None,
) -> Outcome:
    """Hand out the spoilt records of these *numbers*, to the reader called *only* if one is; stops at many findings."""
    outcome = Outcome(seed)
    began_s, memory_mb = time.monotonic(), _memory_mb()
    with tempfile.TemporaryDirectory(prefix="antiphon-fuzz-") as folder, asyncio.Runner() as runner, quiet():
        world = World(newest(), Path(folder))
        readers = [reader for reader in world.readers() if only in (None, reader.name)]
        weights = [reader.weight for reader in readers]
        try:
            for number in numbers:
                draw = drawn(seed, number)
                [reader] = draw.choices(readers, weights)
                given = reader.spoilt(Mutator(draw, world.corpus.donors))
                _hand(runner, reader, given, number, outcome)
                outcome.seconds = time.monotonic() - began_s
                outcome.growth_mb = _memory_mb() - memory_mb
                if outcome.growth_mb > MOST_GROWTH_MB:
                    outcome.findings.append(
                        Finding(number, reader.name, f"memory grew by {outcome.growth_mb:.0f} MB", repr(given))
                    )
                if len(outcome.findings) >= _MOST_FINDINGS or outcome.growth_mb > MOST_GROWTH_MB:
                    break
                progress(outcome)
        finally:
            world.close()
    return outcome


def _hand(runner: asyncio.Runner, reader: Reader, given: object, number: int, outcome: Outcome) -> None:
    async def read() -> None:
        await reader.read(given)

    signal.setitimer(signal.ITIMER_REAL, STALL_S)
    try:
        runner.run(read())
    except reader.errors as error:
        outcome.refused[reader.name, type(error).__name__] += 1
    except StallError as error:
        said = f"took longer than {STALL_S:.0f} s: {_said(error)}"
        outcome.findings.append(Finding(number, reader.name, said, repr(given)))
    except Exception as error:  # that is what is looked for
        outcome.findings.append(Finding(number, reader.name, _said(error), repr(given)))
    else:
        outcome.read[reader.name] += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _said(error: BaseException) -> str:
    """Return what an error says, and the last places that led to it."""
    places = traceback.extract_tb(error.__traceback__)[-4:]
    return f"{type(error).__name__}: {str(error)[:300]}" + "".join(
        f"\n    {Path(place.filename).name}:{place.lineno} {place.line}" for place in places
    )


@contextmanager
def quiet() -> Generator[None]:
    """Have nobody write a log line for each, and hear of who takes too long."""

    def stalled(number: int, frame: FrameType | None) -> None:
        raise StallError

    before = signal.signal(signal.SIGALRM, stalled)
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(disabled)
        signal.signal(signal.SIGALRM, before)


def _memory_mb() -> float:
    """The most that this process ever had: what was let go of again counts too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


# The script.


def main() -> None:
    """Run it and exit as it came out."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    numbers = range(options.records) if options.only is None else [options.only]
    _say(f"seed {options.seed}: {len(numbers):,} spoilt records")
    try:
        outcome = spoil(options.seed, numbers, progress=_Watch(len(numbers)), only=options.reader)
    except KeyboardInterrupt:
        _say("stopped")
        sys.exit(130)
    sys.stdout.write("\n".join([f"seed {outcome.seed}", "", *table(outcome), "", *said(outcome)]) + "\n")
    if options.save:
        save(outcome)
    sys.exit(1 if outcome.findings else 0)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hand spoilt records to everything that reads bytes from outside.")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of what is spoilt and how (random)")
    parser.add_argument("--records", type=int, default=1_000_000, help="how many: 1,000,000")
    parser.add_argument("--only", type=int, help="the record of this number alone")
    parser.add_argument("--reader", help="this reader alone, by its name in the table")
    parser.add_argument("--save", action="store_true", help=f"keep the result in {PAGE.name}")
    return parser.parse_args()


class _Watch:
    """Says now and then how it goes."""

    def __init__(self, of: int) -> None:
        self._of = of
        self._next_s = 0.0
        self._told = 0

    def __call__(self, outcome: Outcome) -> None:
        for finding in outcome.findings[self._told :]:
            _say(str(finding))
        self._told = len(outcome.findings)
        if outcome.seconds < self._next_s:
            return
        self._next_s = outcome.seconds + _EVERY_S
        left_s = (self._of - outcome.records) / outcome.rate if outcome.rate else 0.0
        wrong = f", {len(outcome.findings)} FINDINGS" if outcome.findings else ""
        _say(
            f"{outcome.records:,} of {self._of:,}, {outcome.rate:,.0f}/s, memory +{outcome.growth_mb:.0f} MB, "
            f"{left_s:.0f} s left{wrong}"
        )


def table(outcome: Outcome) -> list[str]:
    """Return what became of them, a reader a row."""
    rows = ["| reader | read | refused |", "|---|---|---|"]
    names = sorted({*outcome.read, *(name for name, _ in outcome.refused)})
    for name in names:
        errors = sorted((error, count) for (reader, error), count in outcome.refused.items() if reader == name)
        refused = ", ".join(f"{count:,} `{error}`" for error, count in errors)
        rows.append(f"| {name} | {outcome.read[name]:,} | {refused} |")
    return rows


def said(outcome: Outcome) -> list[str]:
    """Return how it came out."""
    much = f"{outcome.records:,} records in {outcome.seconds:.0f} s, {outcome.rate:,.0f} a second; memory grew by {outcome.growth_mb:.0f} MB."
    if not outcome.findings:
        return [much, "", "No other error, no reader that stalled."]
    return [much, "", *map(str, outcome.findings)]


def save(outcome: Outcome) -> None:
    """Put the result at the top of the page that keeps them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    machine = f"{os.cpu_count()} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}, Python {platform.python_version()}."
    heading = f"## {time.strftime('%Y-%m-%d')}: {outcome.records:,} spoilt records, seed {outcome.seed}"
    text = "\n".join(["", heading, "", machine, "", *table(outcome), "", *said(outcome), ""])
    PAGE.write_text(PAGE.read_text().replace(_NEWEST, _NEWEST + text, 1))
    _say(f"saved in {PAGE}")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")


if __name__ == "__main__":
    main()
