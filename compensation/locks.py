"""Who holds an entity, and who waits for it: what follows from what is said of one.

Decisions only, over values. One that waits is answered when it is its turn, in
the order in which they came. A workflow that holds an entity may want it again.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, NamedTuple

from antiphon.bus.besides import carry
from antiphon.bus.lock import LockFreed, LockWanted
from antiphon.compensation.agenda import RESERVED
from antiphon.schemas.envelope import Envelope

PREFIX = f"{RESERVED}lock/"
"""What keys of the coordinator's state begin with under which a lock stands; the rest is the entity."""

_INHERITED = ("traceparent", "deadline_us", "budget", "tenant", "replay_of")


class Request(NamedTuple):
    """An event that waits until its workflow holds an entity."""

    id: str
    """Of the event by which it was asked for."""
    workflow: str
    agent: str
    since_us: int
    event_id: str
    event_type: str
    event_key: str | None
    value: str
    """In base64."""
    hops: int
    inherited: Mapping[str, Any]
    """What of the asking event's envelope the answer has too."""


class Lock(NamedTuple):
    """One entity."""

    holder: str = ""
    """The workflow; empty where it is free."""
    since_us: int = 0
    requests: tuple[str, ...] = ()
    """Those of the holder that were granted."""
    waiting: tuple[Request, ...] = ()


_KNOWN = frozenset(Lock._fields)


class Answer(NamedTuple):
    """The command to answer a request."""

    request: Request
    granted: bool


def wanted(lock: Lock, request: Request) -> tuple[Lock, list[Answer]]:
    """Say what follows from *request*: it is granted, or waits. One that comes again changes nothing."""
    if request.id in lock.requests or any(one.id == request.id for one in lock.waiting):
        return lock, []
    return _granted(lock._replace(waiting=(*lock.waiting, request)), request.since_us)


def freed(lock: Lock, requests: Collection[str], now_us: int, *, withdrawn: bool = False) -> tuple[Lock, list[Answer]]:
    """Say what follows from *requests* being over; *withdrawn*: those that still wait, which are told so."""
    left = [Answer(one, granted=False) for one in lock.waiting if one.id in requests]
    lock = lock._replace(waiting=tuple(one for one in lock.waiting if one.id not in requests))
    if not withdrawn:
        lock = lock._replace(requests=tuple(id for id in lock.requests if id not in requests))
    lock, granted = _granted(lock, now_us)
    return lock, left + granted


def _granted(lock: Lock, now_us: int) -> tuple[Lock, list[Answer]]:
    """Give a lock that nobody holds to who waits longest, and grant what the holder waits for."""
    if not lock.requests:
        lock = Lock(lock.waiting[0].workflow, now_us, (), lock.waiting) if lock.waiting else Lock()
    turn = [one for one in lock.waiting if one.workflow == lock.holder]
    rest = tuple(one for one in lock.waiting if one.workflow != lock.holder)
    lock = lock._replace(requests=(*lock.requests, *(one.id for one in turn)), waiting=rest)
    return lock, [Answer(one, granted=True) for one in turn]


def request_of(event: LockWanted, envelope: Envelope, now_us: int) -> Request:
    """Return what *event* asks for."""
    inherited = {name: getattr(envelope, name) for name in _INHERITED}
    return Request(
        id=envelope.id,
        workflow=envelope.correlation_id,
        agent=event.agent,
        since_us=now_us,
        event_id=event.event_id,
        event_type=event.event_type,
        event_key=event.event_key,
        value=base64.b64encode(event.value).decode(),
        hops=envelope.hops,
        inherited={name: value for name, value in inherited.items() if value is not None},
    )


def heard(
    event: LockWanted | LockFreed, envelope: Envelope, kept: MutableMapping[str, Any], now_us: int
) -> list[Answer]:
    """Do what *event* says about the lock that is *kept* as JSON; returns what is to be answered."""
    lock = read(kept)
    match event:
        case LockWanted():
            lock, answers = wanted(lock, request_of(event, envelope, now_us))
        case LockFreed():
            lock, answers = freed(lock, event.requests, now_us, withdrawn=event.withdrawn)
    before = {**kept}
    kept.clear()
    if lock != Lock():
        # One that waits does not change: as it stands it has all that a newer release says of it.
        standing: dict[str, Any] = {one["id"]: one for one in before.get("waiting", ())}
        kept.update(lock._asdict() | {"waiting": [standing.get(one.id) or one._asdict() for one in lock.waiting]})
        carry(before, kept, _KNOWN)
    return answers


def read(kept: Mapping[str, Any]) -> Lock:
    """Return a lock as it is kept."""
    if not kept:
        return Lock()
    waiting = tuple(_request(one) for one in kept["waiting"])
    return Lock(kept["holder"], kept["since_us"], tuple(kept["requests"]), waiting)


def _request(said: Mapping[str, Any]) -> Request:
    """Return one that waits as it is kept. What a newer release says besides is passed over."""
    request = Request(*map(said.__getitem__, Request._fields))
    return request._replace(
        inherited={name: request.inherited[name] for name in _INHERITED if name in request.inherited}
    )
