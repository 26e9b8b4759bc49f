"""The engine under thousands of schedules; and with a bug put into it, that the simulation sees it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from antiphon import Agent, Context, Event, RetryPolicy
from antiphon.bus.committer import Committer
from antiphon.bus.engine import Engine
from antiphon.bus.errors import CommitError
from antiphon.bus.job import Finished, Job
from antiphon.bus.lanes import Lanes
from antiphon.bus.memory.log import PartitionLog
from antiphon.bus.offsets import Progress
from antiphon.bus.outbox import Outbox
from antiphon.bus.port import Bus, Member, Transaction
from antiphon.bus.record import Committed, Outgoing
from antiphon.bus.runner import Runner
from antiphon.bus.state import PartitionState
from antiphon.bus.states import States
from antiphon.testing.chaos import Fault
from antiphon.testing.simulation import Run, Simulation, SimulationError, simulate


class Deposited(Event, type="money.deposited", key="account"):
    account: str
    amount: int


class Booked(Event, type="money.booked", key="account"):
    account: str
    balance: int
    """The sum of all amounts so far: falsified by any loss or repeat."""
    digest: int
    """A polynomial over the amounts: falsified by any reordering too."""


class Audited(Event, type="money.audited", key="account"):
    account: str
    balance: int
    place: int
    """How many bookings of this account came before."""


ledger = Agent("ledger", retry=RetryPolicy(base_s=0.05, attempts=4))
auditor = Agent("auditor")


@ledger.on(Deposited)
async def book(deposited: Deposited, context: Context) -> Booked:
    state = context.state
    state["balance"] = state.get("balance", 0) + deposited.amount
    state["digest"] = (state.get("digest", 0) * 1_000_003 + deposited.amount) % 2**61
    if deposited.amount < 0:
        raise ValueError(deposited.amount)
    return Booked(account=deposited.account, balance=state["balance"], digest=state["digest"])


@auditor.on(Booked)
async def audit(booked: Booked, context: Context) -> Audited:
    place = context.state.get("place", 0)
    context.state["place"] = place + 1
    return Audited(account=booked.account, balance=booked.balance, place=place)


AGENTS = (ledger, auditor)
DEPOSITS = [
    Deposited(account=f"account-{number % 4}", amount=-1 if number == 5 else number * number % 97)
    for number in range(14)
]

SCHEDULES = int(os.environ.get("SCHEDULES", "250"))
MOST = 10_000
"""Schedules that a planted bug may take to be found."""


def test_the_engine_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Two chained agents with state, one event that is given up: nothing is lost, repeated or put out of order."""
    done = simulate(AGENTS, DEPOSITS, seeds=range(SCHEDULES), check=balances)
    with capsys.disabled():
        print(f"\n{done}")  # noqa: T201 - how much was tried is part of the result
    assert (done.schedules, done.faults > SCHEDULES) == (SCHEDULES, True)


def balances(run: Run) -> None:
    """The ledger's last word on every account is the sum of what was put in, and the auditor has heard every word."""
    sums: dict[str, int] = {}
    for event in DEPOSITS:
        sums[event.account] = sums.get(event.account, 0) + max(0, event.amount)
    assert {booked.account: booked.balance for booked in run.events(Booked)} == sums
    assert len(run.events(Audited)) == len(DEPOSITS) - 1
    assert len(run.records["ledger.dead"]) == 1


def test_without_faults() -> None:
    """Nothing goes wrong where nothing may."""
    assert Simulation(AGENTS, DEPOSITS, faults=()).run(7).faults == []


def test_at_least_once() -> None:
    """Repeats are allowed there, losses are not."""
    careless = Agent("careless", guarantee="at_least_once")
    careless.on(Booked)(audit)
    assert simulate([AGENTS[0], careless], DEPOSITS, seeds=range(20)).schedules == 20


def test_copies_of_state_on_disk(memory_disk: Path) -> None:
    """Workers come back to what they, or zombies of their name, left on disk; with hardly anything in memory, too."""
    assert simulate(AGENTS, DEPOSITS, seeds=range(20), check=balances, state_dir=memory_disk).schedules == 20


def test_functions_without_await() -> None:
    """What runs in a thread elsewhere runs in the simulation's loop."""
    plain = Agent("plain")

    @plain.on(Deposited)
    def book_at_once(deposited: Deposited) -> Booked:
        return Booked(account=deposited.account, balance=deposited.amount, digest=0)

    assert simulate([plain], DEPOSITS, seeds=range(10)).schedules == 10


def test_a_seed_gives_the_same_run_again() -> None:
    """The same faults at the same moments, and the same records; another seed gives others."""
    first, again, other = (told(Simulation(AGENTS, DEPOSITS).run(seed)) for seed in (3, 3, 4))
    assert (first == again, first == other) == (True, False)


TELL = """
import sys
from antiphon.testing.simulation import Simulation
from test_simulation import AGENTS, DEPOSITS, told
print("\\n".join(map(str, (told(Simulation(AGENTS, DEPOSITS).run(seed)) for seed in range(8)))))
"""


def test_a_seed_gives_the_same_run_in_another_process() -> None:
    """What one machine finds, another can look at: nothing depends on how Python hashes, or where objects lie."""
    runs = [
        subprocess.run(
            [sys.executable, "-c", TELL],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert (runs[0] == runs[1], len(runs[0]) > 1_000) == (True, True)


def told(run: Run) -> tuple[Sequence[str], list[object]]:
    """Return faults and events of *run*; their times are the clock's."""
    return run.faults, [
        (topic, seen.envelope.id, seen.record.partition, seen.record.offset, seen.record.value)
        for topic, events in sorted(run.seen.items())
        for seen in events
    ]


# Planted bugs: a part of the engine is replaced by one with a mistake that was made before, somewhere.


def commits_past_an_unfinished_offset(patch: pytest.MonkeyPatch) -> None:
    """The offset behind the highest finished one is committed, as by a consumer that takes one event at a time."""

    def committed(self: Any) -> Committed:
        return Committed(self._highest_finished + 1)

    patch.setattr(Progress, "committed", committed)


def finishes_before_it_handles(patch: pytest.MonkeyPatch) -> None:
    """The offset goes with whichever transaction is next, while the handler still runs."""
    handle: Callable[[Runner, Job], Awaitable[float | None]] = vars(Runner)["_handle"]
    attempt = Outbox.attempt

    async def too_soon(self: Any, job: Job) -> float | None:
        if job.attempt == 1:
            self._committer.add(Finished(job.owned, job.record.offset, [], None))
        return await handle(self, job)

    def without_offset(self: Outbox, job: Job, *arguments: Any, final: bool = False, **more: Any) -> Finished:
        finished = attempt(self, job, *arguments, final=final, **more)
        finished.offset = None
        return finished

    patch.setattr(Runner, "_handle", too_soon)
    patch.setattr(Outbox, "attempt", without_offset)


def writes_state_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    through(patch, lambda bus, member: Outside(bus, member, lambda record: record.topic.endswith(".state")))


def writes_effects_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    through(patch, lambda bus, member: Outside(bus, member, lambda record: record.topic.startswith("money.")))


def commits_again_when_an_answer_is_lost(patch: pytest.MonkeyPatch) -> None:
    """Output stays in hand after a commit of unknown outcome and is written once more."""
    through(patch, Stubborn)


def keeps_what_was_aborted(patch: pytest.MonkeyPatch) -> None:
    """As where readers read uncommitted."""
    end = PartitionLog.end

    def always(self: PartitionLog, transaction: int, *, commit: bool) -> None:
        end(self, transaction, commit=True)

    patch.setattr(PartitionLog, "end", always)


def keeps_state_over_an_abort(patch: pytest.MonkeyPatch) -> None:
    """A worker that begins again goes on with the state it had in memory."""
    restore = States.restore
    kept: dict[tuple[States, int], PartitionState] = {}

    async def remembered(self: States, numbers: Iterable[int]) -> dict[int, PartitionState]:
        return {
            number: kept.setdefault((self, number), fresh) for number, fresh in (await restore(self, numbers)).items()
        }

    patch.setattr(States, "restore", remembered)


def copies_state_before_it_is_committed(patch: pytest.MonkeyPatch) -> None:
    """What a copy holds may be of a transaction that fails."""
    commit = vars(Engine)["_commit"]

    async def elsewhere(self: Any, member: Member) -> None:
        await commit(self, Early(self._states, member))

    patch.setattr(Engine, "_commit", elsewhere)


class Early:
    """Says that a transaction is visible before it is."""

    def __init__(self, states: States, member: Member) -> None:
        self._states = states
        self._member = member
        self.restart = member.restart

    async def commit(self, transaction: Transaction) -> None:
        self._states.committed(transaction.records)
        await self._member.commit(transaction)


def keeps_finished_work_of_a_lost_partition(patch: pytest.MonkeyPatch) -> None:
    """What is gathered for the next transaction goes into it although it belongs to what was lost."""

    def forget(self: Committer, gone: object) -> None:
        """Keep all."""

    patch.setattr(Committer, "forget", forget)


def runs_a_key_twice_at_a_time(patch: pytest.MonkeyPatch) -> None:
    """Every event has a lane of its own."""
    add = Lanes[Job].add

    def spread(self: Lanes[Job], key: Hashable, job: Job) -> None:
        add(self, (key, id(job)), job)

    patch.setattr(Lanes, "add", spread)


def through(patch: pytest.MonkeyPatch, wrap: Callable[[Bus, Member], Any]) -> None:
    """Have every engine commit through what *wrap* makes of its member."""
    commit = vars(Engine)["_commit"]

    async def elsewhere(self: Any, member: Member) -> None:
        await commit(self, wrap(self._bus, member))

    patch.setattr(Engine, "_commit", elsewhere)


class Outside:
    """Publishes some records before the transaction that they belong to."""

    def __init__(self, bus: Bus, member: Member, which: Callable[[Outgoing], bool]) -> None:
        self._bus = bus
        self._member = member
        self._which = which
        self.restart = member.restart

    async def commit(self, transaction: Transaction) -> None:
        await self._bus.publish([record for record in transaction.records if self._which(record)])
        kept = [record for record in transaction.records if not self._which(record)]
        await self._member.commit(Transaction(kept, transaction.offsets))


class Stubborn:
    """Publishes the records of a transaction whose outcome it does not know."""

    def __init__(self, bus: Bus, member: Member) -> None:
        self._bus = bus
        self._member = member
        self.restart = member.restart

    async def commit(self, transaction: Transaction) -> None:
        try:
            await self._member.commit(transaction)
        except CommitError:
            await self._bus.publish(transaction.records)
            raise


@pytest.fixture
def memory_disk() -> Iterator[Path]:
    """A folder that no disk stands behind, where there is one: thousands of files are opened, and none has to last."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


ON_DISK = (copies_state_before_it_is_committed,)


@pytest.mark.parametrize(
    "plant",
    [
        *ON_DISK,
        commits_past_an_unfinished_offset,
        finishes_before_it_handles,
        writes_state_outside_the_transaction,
        writes_effects_outside_the_transaction,
        commits_again_when_an_answer_is_lost,
        keeps_what_was_aborted,
        keeps_state_over_an_abort,
        keeps_finished_work_of_a_lost_partition,
        runs_a_key_twice_at_a_time,
    ],
    ids=lambda plant: plant.__name__,
)
def test_a_planted_bug_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    memory_disk: Path,
) -> None:
    """And found again by its seed alone, in the same words."""
    plant(monkeypatch)
    # A copy is come back to where nothing else has happened to its worker: other faults would hide what is looked for.
    state_dir, faults = (memory_disk, {Fault.REFUSE_COMMIT}) if plant in ON_DISK else (None, frozenset(Fault))
    with pytest.raises(SimulationError) as caught:
        simulate(AGENTS, DEPOSITS, seeds=range(MOST), state_dir=state_dir, faults=faults)
    with pytest.raises(SimulationError) as again:
        simulate(AGENTS, DEPOSITS, seeds=[caught.value.seed], state_dir=state_dir, faults=faults)
    with capsys.disabled():
        found = f"{plant.__name__}: schedule {caught.value.seed + 1}, {caught.value.problems[0]}"
        print(f"\n{found}")  # noqa: T201 - how many it took is part of the result
    assert str(again.value) == str(caught.value)
