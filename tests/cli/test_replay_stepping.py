"""`antiphon replay run --step` and `--break`, as somebody at a terminal sees them: each test types into a pseudo-terminal."""

from __future__ import annotations

import asyncio
import importlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon.replay.bundle import schemas_of, write
from antiphon.replay.choice import Choice
from antiphon.replay.reading import read_recording
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually
from tests.cli.conftest import Antiphon

CLAIMS = """\
from antiphon import Agent, Event


class ClaimFiled(Event):
    claim: str
    amount: int


class ClaimPaid(Event):
    claim: str


class ClaimNoted(Event):
    claim: str


payer, clerk = Agent("payer"), Agent("clerk")


@payer.on(ClaimFiled)
async def pay(filed: ClaimFiled) -> ClaimPaid:
    receipt = filed.claim
    return ClaimPaid(claim=receipt)


@clerk.on(ClaimPaid)
def note(paid: ClaimPaid) -> ClaimNoted:
    noted = paid.claim
    return ClaimNoted(claim=noted)
"""
PATIENCE_S = 60.0


class Terminal:
    """A command on a terminal of its own, and somebody who types."""

    def __init__(self, *argv: str) -> None:
        self._side, theirs = pty.openpty()
        # A leader of its own session, which takes the terminal for its own: that is where Ctrl-C comes from.
        opens = "import os, runpy; os.close(os.open(os.ttyname(0), os.O_RDWR)); runpy.run_module('antiphon.cli', run_name='__main__')"
        self._process = subprocess.Popen(
            [sys.executable, "-c", opens, *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            # Not what a terminal's width would break.
            env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
        )
        os.close(theirs)
        self.screen = ""

    def wait_for(self, text: str) -> str:
        """Return what came up to *text*, and forget it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.screen:
            assert self._read(deadline, text), f"it ended before {text!r}:\n{self.screen}"
        seen, found, self.screen = self.screen.partition(text)
        return seen + found

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def end(self) -> int:
        """Read on until it ends; return its exit code."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline, "its end"):
            pass
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._side)

    def _read(self, deadline: float, what: str) -> bool:
        ready, _, _ = select.select([self._side], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"expected {what!r} on\n{self.screen}"
        try:
            some = os.read(self._side, 65_536)
        except OSError:  # the other side is closed
            return False
        self.screen += some.decode().replace("\r\n", "\n")
        return bool(some)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(folder: Path) -> Iterator[Open]:
    """Have three claims handled, and write their bundle; the test opens terminals on it."""
    (folder / "claims.py").write_text(CLAIMS)
    (folder / "claims.antiphon").write_bytes(asyncio.run(recorded(folder)))
    opened: list[Terminal] = []

    def start(*argv: str) -> Terminal:
        opened.append(Terminal("replay", "run", "claims.antiphon", *argv))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


async def recorded(folder: Path) -> bytes:
    sys.path.insert(0, str(folder))
    claims: Any = importlib.import_module("claims")
    mesh = MemoryMesh(partitions=1)
    async with mesh.running(claims.payer, claims.clerk):
        for amount in (1, 2, 500):
            await mesh.publish(claims.ClaimFiled(claim=f"c{amount}", amount=amount))

        async def over() -> bool:
            return len(await mesh.handled()) == 6

        await eventually(over, 30, what="all to be handled")
    recording = await read_recording(mesh.bus, mesh.names, mesh.codec, Choice())
    return write(recording, await schemas_of(recording, mesh.store))


def test_a_break_is_in_the_handler_with_the_event_in_hand(terminal: Open) -> None:
    """Where its data fits and nowhere else; what is looked at there is that event, and then all goes on."""
    seen = terminal("--break", "amount>100", "--agent", "payer")
    shown = seen.wait_for("(Pdb) ")
    seen.type("p filed.amount, filed.claim\n")
    asked = seen.wait_for("(Pdb) ")
    seen.type("c\n")

    assert (seen.end(), "receipt = filed.claim" in shown, "(500, 'c500')" in asked) == (0, True, True)
    assert "3 handlings of 3 workflows: 3 the same, 0 different" in seen.screen


def test_what_is_changed_in_the_debugger_shows_as_different(terminal: Open) -> None:
    """The handler goes on with it; a handler that runs in a thread stops too."""
    seen = terminal("--break", "clerk", "--agent", "clerk")
    for _ in range(3):
        seen.wait_for("(Pdb) ")
        seen.type("n\n")
        seen.wait_for("(Pdb) ")
        seen.type("noted = 'other'\n")
        seen.wait_for("(Pdb) ")
        seen.type("c\n")

    assert (seen.end(), seen.screen.count("changed claim.noted claim: ")) == (1, 3)


def test_each_step_is_asked_for(terminal: Open) -> None:
    """Handled, debugged, passed over, explained, and then no longer asked."""
    seen = terminal("--step")
    first = seen.wait_for("(replay) ")
    seen.type("?\n")
    explained = seen.wait_for("(replay) ")
    seen.type("\n")
    seen.wait_for("(replay) ")
    seen.type("s\n")
    seen.wait_for("(replay) ")
    seen.type("d\n")
    seen.wait_for("(Pdb) ")
    seen.type("c\n")
    seen.wait_for("(replay) ")
    seen.type("c\n")

    assert seen.end() == 1
    assert re.search(r'claim\.filed .*\n  \{"claim":"c1","amount":1\}\n  then: claim\.paid\n', first)
    assert "d: handle it in the debugger" in explained
    assert "5 handlings of 3 workflows: 2 the same, 0 different" in seen.screen
    assert "not run, it was passed over" in seen.screen


@pytest.mark.parametrize(("where", "prompt"), [("--step", "(replay) "), ("--break", "(Pdb) ")])
def test_q_ends_it_and_reports_what_was_run(terminal: Open, where: str, prompt: str) -> None:
    """At either prompt: nothing else is handled."""
    seen = terminal(*([where] if where == "--step" else [where, "payer"]))
    seen.wait_for(prompt)
    seen.type("\n" if where == "--step" else "c\n")
    seen.wait_for(prompt)
    seen.type("q\n")

    assert (seen.end(), "same, 0 different" in seen.screen) == (0, True)


def test_ctrl_c_ends_it_at_once(terminal: Open) -> None:
    """Also while it waits for an answer."""
    seen = terminal("--step")
    seen.wait_for("(replay) ")
    seen.type("\x03")

    assert seen.end() == 128 + signal.SIGINT


@pytest.mark.parametrize("option", [("--step",), ("--break", "payer")])
def test_without_a_terminal_it_says_so(antiphon: Antiphon, option: tuple[str, ...]) -> None:
    """Before anything is read or run."""
    ran = antiphon("replay", "run", "claims.antiphon", *option)

    assert (ran.code, f"expected a terminal for {option[0]}" in ran.err) == (2, True)


def test_only_handlers_are_stepped_through(antiphon: Antiphon) -> None:
    """Real workers do not wait."""
    ran = antiphon("replay", "run", "claims.antiphon", "--step", "--mode", "sandbox")

    assert (ran.code, "in the mode handler, got sandbox" in ran.err) == (2, True)
