"""Worker processes that can be killed, frozen, stopped and started: several of each agent."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from accounts import TALLIES

from antiphon.bus.kafka.tether import Tethered
from antiphon.testing.waiting import eventually

STOP_S = 90.0
# Ends in an orderly way; or was told to before it had begun.
_ORDERLY = (0, -signal.SIGTERM)
# Could not finish all that it had in hand, and says so.
_HANDED_BACK = 1
_TAIL = 2_000


class Hand:
    """One worker of one agent; whoever takes its place has its name."""

    def __init__(self, agent: str, name: str, process: Tethered) -> None:
        self.agent = agent
        self.name = name
        self.process = process
        self.free = True
        """Nothing is being done to it."""


class Staff:
    """Starts *workers* workers of each of *agents* and keeps them running, whatever else is done to them.

    What they say goes to a file each in *folder*. They end with this process,
    however it ends.
    """

    def __init__(
        self,
        agents: Sequence[str],
        workers: int,
        *,
        folder: Path,
        kafka: str,
        namespace: str,
        options: Sequence[str] = (),
    ) -> None:
        self.hands: list[Hand] = []
        self.complaints: list[str] = []
        """Who ended without being told to, or not as told."""
        self.is_excused: Callable[[], bool] = lambda: False
        """Whether somebody who is told to stop now may be unable to finish what is in hand: a broker is away."""
        self._agents = agents
        self._workers = workers
        self._folder = folder
        self._environment = {
            "ANTIPHON_BOOTSTRAP_SERVERS": kafka,
            "ANTIPHON_NAMESPACE": namespace,
            TALLIES: str(folder),
        }
        self._options = options

    def start(self) -> None:
        for number in range(self._workers):
            for agent in self._agents:
                self._add(agent, number)

    def handled(self) -> int:
        """Return how often a handler has run."""
        return sum(path.stat().st_size for agent in self._agents if (path := self._folder / agent).exists())

    def free(self) -> list[Hand]:
        """Return those that something may be done to."""
        return [hand for hand in self.hands if hand.free]

    # What may be done to them.

    def kill(self, hand: Hand) -> None:
        """Kill -9: no handler, no farewell. Somebody of the same name is started at once."""
        self.note(f"kill {hand.name}")
        hand.process.stop(by=signal.SIGKILL)
        hand.process = self._process(hand.agent, hand.name)

    async def freeze(self, hand: Hand, for_s: float) -> None:
        """Stop it as it stands, and let it go on later: a zombie, where its session is over by then."""
        hand.free = False
        self.note(f"freeze {hand.name}")
        os.kill(hand.process.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(for_s)
        finally:
            if hand.process.exit_code is None:
                self.note(f"thaw {hand.name}")
                os.kill(hand.process.pid, signal.SIGCONT)
            hand.free = True

    async def restart(self, hand: Hand) -> None:
        """Have it stop in an orderly way, and somebody of its name start."""
        await self._stop(hand)
        hand.process = self._process(hand.agent, hand.name)
        hand.free = True

    async def scale(self, dice: random.Random) -> None:
        """Have one worker more of an agent, or one less where there is one more already."""
        agent = dice.choice(self._agents)
        extra = [hand for hand in self.hands if hand.name == f"{agent}-{self._workers}"]
        if not extra:
            self.note(f"one more: {agent}-{self._workers}")
            self._add(agent, self._workers)
        elif extra[0].free:
            await self._stop(extra[0])
            self.hands.remove(extra[0])

    def mend(self) -> None:
        """Start again who has ended unasked, and complain of that."""
        for hand in self.free():
            code = hand.process.exit_code
            if code is not None:
                hand.process.stop()
                self.complaints.append(f"{hand.name} ended by itself with {code}; its log ends:\n{self._tail(hand)}")
                hand.process = self._process(hand.agent, hand.name)

    async def stop(self) -> None:
        """End all in an orderly way."""
        await asyncio.gather(*(self._stop(hand) for hand in self.free()))

    def end(self) -> None:
        """End all at once; twice does no harm."""
        for hand in self.hands:
            hand.process.stop(by=signal.SIGKILL)

    def note(self, what: str) -> None:
        """Write down what is done, and when."""
        with (self._folder / "faults.log").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat()} {what}\n")

    async def _stop(self, hand: Hand) -> None:
        hand.free = False
        was_excused = self.is_excused()
        if hand.process.exit_code is None:
            self.note(f"stop {hand.name}")
            os.kill(hand.process.pid, signal.SIGTERM)
        try:
            await eventually(lambda: hand.process.exit_code is not None, STOP_S, what=f"{hand.name} to stop")
        except TimeoutError as error:
            self.complaints.append(f"{error}; its log ends:\n{self._tail(hand)}")
            hand.process.stop(by=signal.SIGKILL)
            return
        code = hand.process.exit_code
        if code == _HANDED_BACK and (was_excused or self.is_excused()):
            self.note(f"{hand.name} handed back what it had begun")
        elif code not in _ORDERLY:
            self.complaints.append(f"{hand.name} was stopped and ended with {code}; its log ends:\n{self._tail(hand)}")
        hand.process.stop()

    def _add(self, agent: str, number: int) -> None:
        name = f"{agent}-{number}"
        self.hands.append(Hand(agent, name, self._process(agent, name)))

    def _process(self, agent: str, name: str) -> Tethered:
        target = f"{Path(__file__).parent / 'accounts.py'}:{agent}"
        variables = [f"{variable}={value}" for variable, value in self._environment.items()]
        run = [sys.executable, "-m", "antiphon.cli", "run", target, "--instance", name, *self._options]
        return Tethered(["env", *variables, *run], log=self._log(name), cwd=self._folder)

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _tail(self, hand: Hand) -> str:
        return self._log(hand.name).read_text(errors="replace")[-_TAIL:]
