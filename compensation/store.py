"""The coordinator's durable state: a saga per workflow, and when each is looked at again."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from antiphon.bus.delivery import State
from antiphon.compensation.agenda import Agenda
from antiphon.compensation.saga import Saga
from antiphon.compensation.scopes import unsettled

LOOK_AGAIN_US = 60_000_000
"""How often a workflow that is not done is looked at without anything having happened: whom it waits for may be gone."""


class Kept(BaseModel):
    """What stands in the state under a workflow's id."""

    model_config = ConfigDict(frozen=True)

    saga: Saga = Saga()
    touched_us: int = 0
    """When something last happened in it."""
    due_us: int = 0
    """When it is looked at again. The agenda may name it at other times too; those are void."""


class Change(NamedTuple):
    """A workflow that became another; None where it is not kept."""

    id: str
    before: Saga | None
    after: Saga | None


class Sagas:
    """The sagas that one delivery touches: each is read once, and written once where it changed."""

    def __init__(self, state: State, *, now_us: int, linger_us: int) -> None:
        self._state = state
        self._now_us = now_us
        self._linger_us = linger_us
        self._agenda = Agenda(state)
        self._read: dict[str, Kept] = {}
        self._now: dict[str, Saga] = {}
        self._looked_at: set[str] = set()
        self._asked = False

    def __getitem__(self, id: str) -> Saga:
        if id not in self._now:
            self._read[id] = Kept.model_validate(self._state.mapping(id))
            self._now[id] = self._read[id].saga
        return self._now[id]

    def __setitem__(self, id: str, saga: Saga) -> None:
        self._now[id] = saga

    @property
    def next_us(self) -> int | None:
        """When a workflow is to be looked at again; where none was `due` here, only of those that were stored."""
        return self._agenda.next_us(added=not self._asked)

    def due(self) -> list[str]:
        """Return the workflows to look at again; those whose time is over are gone with this."""
        self._asked = True
        found: list[str] = []
        for id in dict.fromkeys(self._agenda.due(self._now_us)):
            saga, kept = self[id], self._read[id]
            if kept.due_us and kept.due_us <= self._now_us:
                self._looked_at.add(id)
                if saga is kept.saga and self._is_over(kept):
                    self[id] = Saga()
                else:
                    found.append(id)
        return found

    def _is_over(self, kept: Kept) -> bool:
        """Say whether nobody will need it: not touched for long, and no undo of it waits for anything."""
        return not unsettled(kept.saga) and kept.touched_us + self._linger_us <= self._now_us

    def store(self) -> list[Change]:
        """Write what changed, and note when to look again; returns the workflows that changed, as they were and as they are."""
        changes: list[Change] = []
        for id, saga in self._now.items():
            kept = self._read[id]
            changed = saga is not kept.saga and saga != kept.saga
            before = kept.saga if kept.touched_us else None
            if saga == Saga():
                if kept.touched_us:
                    self._state.mapping(id).clear()
                    changes.append(Change(id, before, None))
            elif changed or id in self._looked_at:
                self._write(
                    id, Kept(saga=saga, touched_us=self._now_us if changed else kept.touched_us, due_us=kept.due_us)
                )
                if changed:
                    changes.append(Change(id, before, saga))
        return changes

    def _write(self, id: str, kept: Kept) -> None:
        wanted_us = self._wanted_us(kept)
        # An entry that comes up too early is put off then; only an earlier time needs an entry of its own now.
        if id in self._looked_at or not kept.due_us or wanted_us < kept.due_us:
            due_us = max(wanted_us, self._now_us + 1)
            self._agenda.add(id, due_us, now_us=self._now_us)
            kept = kept.model_copy(update={"due_us": due_us})
        mapping = self._state.mapping(id)
        mapping.clear()
        mapping.update(kept.model_dump(mode="json", exclude_defaults=True))

    def _wanted_us(self, kept: Kept) -> int:
        saga = kept.saga
        if saga.ended:
            return kept.touched_us + self._linger_us
        again_us = self._now_us + LOOK_AGAIN_US
        return again_us if saga.deadline_us is None or saga.failure is not None else min(again_us, saga.deadline_us)
