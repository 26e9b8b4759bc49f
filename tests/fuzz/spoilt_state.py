"""Readers of what is kept: metadata of commits, state, and what the coordinator keeps there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from corpus import Standing
from ground import NAMES, NOW_US, Ground, Reader
from mutator import Mutator
from troupe import moving

from antiphon.bus.activity import Activity
from antiphon.bus.delivery import State
from antiphon.bus.intervention import SagaIntervened
from antiphon.bus.offsets import Progress
from antiphon.bus.record import Committed, Record
from antiphon.bus.roll import decoded
from antiphon.bus.state import PartitionState, StateDamagedError, StateNotJsonError
from antiphon.compensation.advance import advance, intervene
from antiphon.compensation.errors import UnknownSagaVersionError
from antiphon.compensation.examined import workable
from antiphon.compensation.locks import read as read_lock
from antiphon.compensation.reading import read_locks, read_workflows
from antiphon.compensation.runs import Runs
from antiphon.compensation.store import Workflows
from antiphon.compensation.workflow import Fact, Workflow
from antiphon.schemas.errors import InvalidDataError


class Restored:
    """Everything that is restored."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def readers(self) -> list[Reader]:
        """Return this part of the table."""
        corpus, some, state = self._ground.corpus, self._ground.some, self._spoilt
        damaged = (StateDamagedError,)
        unknown = (UnknownSagaVersionError, InvalidDataError)
        return [
            Reader("metadata of commits", self.metadata, self.progress, (), 15),
            Reader("state", state(corpus.states), self.state, (*damaged, StateNotJsonError), 10),
            Reader("workflows in state", state(corpus.under()), self.workflow, damaged, 10),
            Reader("locks in state", state(corpus.under("antiphon:lock/")), self.lock, damaged, 3),
            Reader("the agenda in state", state(corpus.under("antiphon:agenda")), self.agenda, damaged, 3),
            Reader(
                "runs of sagas in state",
                state(corpus.under(topic="moving.state")),
                self.run,
                (*damaged, *unknown),
                8,
            ),
            Reader("state, from outside", some("compensation.state", "moving.state"), self.from_outside, (), 5),
            Reader("an operator's word", self._ground.one(corpus.topics["antiphon.saga.events"]), self.word, (), 5),
        ]

    def _spoilt(self, records: Sequence[Record]) -> Callable[[Mutator], tuple[str, bytes]]:
        def spoilt(mutator: Mutator) -> tuple[str, bytes]:
            record = mutator.draw.choice(records)
            document = mutator.json(json.loads(record.value or b""))
            text = json.dumps(document).encode()
            return (record.key or b"").decode(), mutator.content(text) if mutator.draw.random() < 0.3 else text

        return spoilt

    # What a group keeps.

    def metadata(self, mutator: Mutator) -> Committed:
        committed, _ = mutator.draw.choice(self._ground.corpus.kept.metadata)
        text = mutator.content(committed.metadata.encode()).decode(errors="replace")
        return Committed(mutator.draw.choice((committed.offset, 0, 2**62, committed.offset + 1)), text)

    async def progress(self, committed: Committed) -> None:
        progress = Progress.from_committed(committed)
        for offset in range(committed.offset, committed.offset + 20):
            if progress.take(offset) and offset % 2:
                progress.finish(offset)
        assert progress.committed().offset >= committed.offset
        assert isinstance(progress.full, bool)

    # State.

    def _state(self, said: tuple[str, bytes]) -> State:
        key, value = said
        state = PartitionState("any.state", 0)
        state.restored(key, value, 1)
        return state.view()

    async def state(self, said: tuple[str, bytes]) -> None:
        key, value = said
        state = PartitionState("any.state", 0)
        state.restored(key, value, 1)
        state.without_remembered({}, key, "an event")
        state.expired(2, 10)
        view = state.view()
        view.mapping(key)["more"] = 1
        state.store(view.changed())
        state.load(key)

    async def workflow(self, said: tuple[str, bytes]) -> None:
        """Look at it as the coordinator does when its time has come, and keep it."""
        workflows = Workflows(self._state(said), now_us=NOW_US, linger_us=1_000_000)
        workflow = workflows[said[0]]
        try:
            after, _ = advance(workflow, self._fact(said[0]), self._ground.mesh)
            workflows[said[0]] = after
            list(workflows.store())
        except Exception:
            workflows.examine(said[0])
            raise

    def _fact(self, id: str) -> Fact:
        told = [
            record for record in self._ground.corpus.topics["antiphon.activity"] if id.encode() in (record.value or b"")
        ]
        activity = self._ground.codec.decode(
            Activity, (told or self._ground.corpus.topics["antiphon.activity"])[0].value or b""
        )
        return Fact(activity.agent, activity.deliveries[0], tuple(activity.failing))

    async def lock(self, said: tuple[str, bytes]) -> None:
        mapping = self._state(said).mapping(said[0])
        with workable(mapping, said[0]):
            read_lock(mapping)

    async def agenda(self, said: tuple[str, bytes]) -> None:
        workflows = Workflows(self._state(said), now_us=NOW_US * 2, linger_us=1_000_000)
        list(workflows.due())
        assert workflows.next_us is None or isinstance(workflows.next_us, int)

    async def run(self, said: tuple[str, bytes]) -> None:
        runs = Runs(moving, self._state(said), now_us=NOW_US)
        with workable(runs.of(said[0]), said[0], saga=True):
            for run in [*runs.of(said[0]).values()]:
                if runs.misfit(run) is None:
                    runs.write(said[0], runs.read(run))
            list(runs.released(said[0]))
        list(runs.overdue())

    async def from_outside(self, records: Sequence[Record]) -> None:
        bus = Standing(records).bus
        await read_workflows(bus, NAMES, ["moving"], [0])
        await read_locks(bus, NAMES, [0])

    async def word(self, record: Record) -> None:
        said = await decoded(self._ground.codec, SagaIntervened, record)
        if said is not None:
            intervene(Workflow(), said, "word", self._ground.mesh)
