"""Sessions that end, on the broker that ends none: whoever runs the embedded one looks after its members.

Kafka takes a member out of its group when no heartbeat came for the length of a
session, and aborts a transaction that is open for too long. The embedded broker
does neither: what a worker had that ended by kill -9 would stay its own, the
next one wait for it for ever, and readers at the transaction that it left open.

It serves this machine alone, so processes can be asked for. A member's client id
says which one it is in. Where that is gone, its transaction is aborted, as by a
worker of its name that begins again, and its group is told that it has left.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as LateError
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from antiphon.bus.kafka.chatter import library, log
from antiphon.bus.names import transactional_prefix

_LOOK_S = 1.0
_ANSWER_S = 3.0
_RESIDENT = re.compile(r"(?P<instance>.*)@(?P<place>[^@/]*)/(?P<process>\d+)", re.DOTALL)
_LEAVE_GROUP, _INIT_PRODUCER_ID = 13, 22
_TIMEOUT = struct.pack(">i", 1_000)
"""Of transactions of a producer that will begin none."""


def resident(instance: str) -> str:
    """Return the client id of a member of this process on the embedded broker."""
    return f"{instance}@{_place()}/{os.getpid()}"


@cache
def _place() -> str:
    """Say where a process id means what it means here: in a container it is another's."""
    namespace = Path("/proc/self/ns/pid")
    with contextlib.suppress(OSError):
        return f"{socket.gethostname()}:{namespace.stat().st_ino}"
    return socket.gethostname()


def is_running(process: int) -> bool:
    """Say whether there is a process of that number here."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        # Another user's.
        return True
    return True


class Seat(NamedTuple):
    """A member, as its group knows it."""

    group: str
    member: str
    client: str


class Vacated(NamedTuple):
    """What is left of a member whose process is gone."""

    group: str
    member: str
    instance: str
    transactional_id: str | None
    """Under which to abort what it left open; None where one of its name has begun since, and has done that."""


def vacated(seats: Sequence[Seat], place: str, is_running: Callable[[int], bool]) -> list[Vacated]:
    """Return what is left of those whose process at *place* is gone. Of others, and of other programs', nothing is known.

    >>> seats = [Seat("stock", "m1", "w-1@laptop/11"), Seat("stock", "m2", "w-2@laptop/12"), Seat("stock", "m3", "kcat")]
    >>> vacated(seats, "laptop", lambda process: process == 12)
    [Vacated(group='stock', member='m1', instance='w-1', transactional_id='stock/w-1')]
    """
    told = [(seat, at) for seat in seats if (at := _RESIDENT.fullmatch(seat.client))]
    gone = [(seat, at) for seat, at in told if at["place"] == place and not is_running(int(at["process"]))]
    here = {(seat.group, at["instance"]) for seat, at in told if (seat, at) not in gone}
    return [
        Vacated(
            seat.group,
            seat.member,
            at["instance"],
            None if (seat.group, at["instance"]) in here else f"{transactional_prefix(seat.group)}{at['instance']}",
        )
        for seat, at in gone
    ]


class Sessions(threading.Thread):
    """Looks after the groups of the embedded broker at *host* and *port* until closed."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name="antiphon-sessions", daemon=True)
        self._address = (host, port)
        self._closing = threading.Event()

    def close(self) -> None:
        """Stop looking, before the broker ends. Blocks for a moment."""
        self._closing.set()
        self.join(2 * _ANSWER_S)

    def run(self) -> None:
        """Look every second."""
        host, port = self._address
        # Any: what its futures bring is typed nowhere.
        client: Any = AdminClient({"bootstrap.servers": f"{host}:{port}"}, logger=library)
        while not self._closing.wait(_LOOK_S):
            # A broker that hangs for a while is asked again.
            with contextlib.suppress(KafkaException, LateError, OSError):
                self._end(vacated([*seats(client)], _place(), is_running))

    def _end(self, gone: Sequence[Vacated]) -> None:
        for left in gone:
            if left.transactional_id is not None:
                _ask(self._address, _INIT_PRODUCER_ID, _text(left.transactional_id) + _TIMEOUT)
            leave(self._address, left.group, left.member)
            log.warning(
                "a member's process is gone; its group goes on without it",
                extra={"group": left.group, "instance": left.instance},
            )


def seats(client: Any) -> Iterator[Seat]:
    """Yield the members of all groups, asked for by an administrator's *client*."""
    listed = client.list_consumer_groups(request_timeout=_ANSWER_S).result(_ANSWER_S)
    groups: list[str] = [group.group_id for group in listed.valid or ()]
    if groups:
        for told in client.describe_consumer_groups(groups, request_timeout=_ANSWER_S).values():
            group = told.result(_ANSWER_S)
            yield from (Seat(group.group_id, member.member_id, member.client_id) for member in group.members or ())


def leave(address: tuple[str, int], group: str, member: str) -> None:
    """Tell *group* that *member* has left, in its place."""
    _ask(address, _LEAVE_GROUP, _text(group) + _text(member))


def _ask(address: tuple[str, int], what: int, body: bytes) -> None:
    """Make a request of version 0, which the client has no call for; return when it is answered."""
    request = struct.pack(">hhi", what, 0, 1) + _text("antiphon") + body
    with socket.create_connection(address, timeout=_ANSWER_S) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        connection.recv(4)


def _text(content: str) -> bytes:
    text = content.encode()
    return struct.pack(">h", len(text)) + text
