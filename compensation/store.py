"""The coordinator's durable state: what it keeps of each workflow, and when each is looked at again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

from antiphon.bus.claim import LIMIT
from antiphon.bus.consumer import STATE_EXPIRES_S
from antiphon.bus.delivery import State
from antiphon.bus.state import StateDamagedError
from antiphon.compensation.agenda import Agenda
from antiphon.compensation.examined import examine, workable
from antiphon.compensation.kept import NOTHING, Kept, carry_through, kept
from antiphon.compensation.outgrown import REASON_ROOM, halted, size_of
from antiphon.compensation.scopes import condemned, unsettled
from antiphon.compensation.workflow import Workflow

log = logging.getLogger(__name__)

LOOK_AGAIN_US = 60_000_000
"""How often a workflow that is not done is looked at without anything having happened: whom it waits for may be gone."""

ABANDONED_US = round(STATE_EXPIRES_S * 1_000_000)
"""After how long without anything having happened a workflow is given up that has not ended."""

_MOST_DUE = 1_000
"""At one look. The next one follows at once."""


class Change(NamedTuple):
    """A workflow that became another; None where it is not kept."""

    id: str
    before: Workflow | None
    after: Workflow | None


class Workflows:
    """The workflows that one delivery touches: each is read once, and written once where it changed."""

    def __init__(self, state: State, *, now_us: int, linger_us: int, room: int = LIMIT) -> None:
        self._state = state
        self._room = room
        self._now_us = now_us
        self._linger_us = linger_us
        self._agenda = Agenda(state)
        self._read: dict[str, Kept] = {}
        self._now: dict[str, Workflow] = {}
        self._looked_at: set[str] = set()
        self._asked = False
        self.halted: dict[str, Kept] = {}
        """Those that `store` found to have outgrown a record, as they were before; nothing that follows from more is to be said."""

    def __getitem__(self, id: str) -> Workflow:
        if id not in self._now:
            mapping = self._state.mapping(id)
            with workable(mapping, id):
                self._read[id] = kept(mapping)
            self._now[id] = self._read[id].workflow
        return self._now[id]

    def examine(self, id: str) -> None:
        """Raise `StateDamagedError` where what stands under *id* is not what is written there."""
        examine(self._state.mapping(id), id)

    def __setitem__(self, id: str, workflow: Workflow) -> None:
        self._now[id] = workflow

    @property
    def next_us(self) -> int | None:
        """When a workflow is to be looked at again; where none was `due` here, only of those that were stored."""
        return self._agenda.next_us(added=not self._asked)

    def due(self) -> Iterator[str]:
        """Yield the workflows to look at again, the earliest first and not too many; those whose time is over are gone with this."""
        self._asked = True
        for id in dict.fromkeys(self._agenda.due(self._now_us, most=_MOST_DUE)):
            try:
                workflow = self[id]
            except StateDamagedError as error:
                # The others' time has come too.
                log.error("a workflow's state cannot be read; it is looked at no more", exc_info=error)
                continue
            before = self._read[id]
            if before.due_us and before.due_us <= self._now_us:
                self._looked_at.add(id)
                if workflow is before.workflow and self._is_over(before):
                    self[id] = NOTHING
                else:
                    yield id

    def _is_over(self, before: Kept) -> bool:
        """Say whether nobody will need it: not touched for long, and no undo of it waits for anything.

        Where somebody may still be at it, "long" is longer than any handler takes and any topic keeps what would be handled.
        """
        keep_us = self._linger_us if before.workflow.ended else max(self._linger_us, ABANDONED_US)
        return (
            not before.workflow.halted
            and not unsettled(before.workflow, condemned(before.workflow))
            and before.touched_us + keep_us <= self._now_us
        )

    def store(self) -> Iterator[Change]:
        """Write what changed, and note when to look again; yield the workflows that changed, as they were and as they are."""
        for id, workflow in self._now.items():
            before = self._read[id]
            was = before.workflow if before.touched_us else None
            if workflow == NOTHING:
                if before.touched_us:
                    self._state.mapping(id).clear()
                    yield Change(id, was, None)
                continue
            changed = workflow is not before.workflow and workflow != before.workflow
            if changed or id in self._looked_at:
                touched_us = self._now_us if changed else before.touched_us
                now = before._replace(workflow=workflow, touched_us=touched_us)
                size = self._write(id, now, but=REASON_ROOM if changed else 0)
                after = self._halt(id, size) if size else workflow if changed else before.workflow
                if after is not before.workflow:
                    yield Change(id, was, after)

    def _halt(self, id: str, size: int) -> Workflow:
        """Note that there is too much to note of a workflow; where there is no room for that either, it stays as it is."""
        before = self._read[id]
        if before.workflow.halted:
            return before.workflow
        self.halted[id] = before
        workflow = halted(before.workflow, size, self._room)
        log.error("a workflow outgrew a record and halts", extra={"correlation_id": id, "reason": workflow.halted})
        self[id] = workflow
        too_large = self._write(id, before._replace(workflow=workflow, touched_us=self._now_us))
        return before.workflow if too_large else workflow

    def _write(self, id: str, now: Kept, *, but: int = 0) -> int:
        """Write it where it takes no more than there is room for, *but* some bytes; else return how much it would take."""
        wanted_us = self._wanted_us(now)
        # An entry that comes up too early is put off then; only an earlier time needs an entry of its own now.
        due_us = None
        if id in self._looked_at or not now.due_us or wanted_us < now.due_us:
            due_us = max(wanted_us, self._now_us + 1)
            now = now._replace(due_us=due_us)
        written = now.written()
        mapping = self._state.mapping(id)
        carry_through(mapping, written)
        size = size_of(id, written)
        if size > self._room - but:
            return size
        if due_us is not None:
            self._agenda.add(id, due_us, now_us=self._now_us)
        mapping.clear()
        mapping.update(written)
        return 0

    def _wanted_us(self, now: Kept) -> int:
        workflow = now.workflow
        if workflow.ended:
            return now.touched_us + self._linger_us
        again_us = self._now_us + LOOK_AGAIN_US
        if workflow.deadline_us is None or workflow.failure is not None:
            return again_us
        return min(again_us, workflow.deadline_us)
