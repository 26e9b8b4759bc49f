"""The log lines of one attempt, as its activity record takes them along: the newest, up to so many bytes.

What of the attempt's events is not to be shown is not shown in them either:
fields of a marked field's name, and its value wherever it stands.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import orjson
from pydantic import BaseModel

from antiphon.bus import entry
from antiphon.bus.delivery import current
from antiphon.schemas.envelope import now_us
from antiphon.schemas.event import Event
from antiphon.schemas.redaction import MASK, is_marked

OURS = "antiphon"
_LEAST = "info"
_LEVELS = ("info", "warning", "error", "critical")
_SAME = {"warn": "warning", "exception": "error", "fatal": "critical", "msg": "info"}


class KeptLog:
    """Takes the lines of one attempt."""

    __slots__ = ("_dropped", "_events", "_lines", "_names", "_room", "_secrets", "_size")

    def __init__(self, room: int, event: Event) -> None:
        """*room*: bytes for all of them. *event* is the one in hand."""
        self._room = room
        self._size = 0
        self._dropped = 0
        self._lines: deque[bytes] = deque()
        self._events = [event]
        self._names: set[str] = set()
        self._secrets: list[str] = []

    def hide(self, event: Event) -> None:
        """Keep what is marked in *event* too out of every line from now on: the handler gets that as well."""
        self._events.append(event)

    def add(self, level: str, message: str, fields: Mapping[str, Any]) -> None:
        """Take one line; below info none is taken. Never raises."""
        level = _SAME.get(level, level)
        if level not in _LEVELS:
            return
        self._learn()
        shown = {name: MASK if name in self._names else self._masked(_plain(value)) for name, value in fields.items()}
        text = self._masked(message)
        line = entry.logged(now_us(), level, text, orjson.dumps(shown, default=str).decode() if shown else "")
        if len(line) > self._room:
            # A character is four bytes at most.
            line = entry.logged(now_us(), level, text[: self._room // 8] + " …", "")
        self._lines.append(line)
        self._size += len(line)
        while self._size > self._room and len(self._lines) > 1:
            self._size -= len(self._lines.popleft())
            self._dropped += 1

    def lines(self) -> list[bytes]:
        """Return them, oldest first, as they stand in the record."""
        if not self._dropped:
            return [*self._lines]
        return [entry.logged(now_us(), _LEAST, f"{self._dropped} earlier lines were not kept", ""), *self._lines]

    def _learn(self) -> None:
        while self._events:
            names, secrets = _marked(self._events.pop())
            self._names |= names
            # The longest first: what is left of one must not be taken for another.
            self._secrets = sorted({*self._secrets, *secrets}, key=len, reverse=True)

    def _masked(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, MASK)
            return value
        if isinstance(value, dict):
            return {
                self._masked(name): self._masked(part) for name, part in cast("dict[object, object]", value).items()
            }
        if isinstance(value, list):
            return [self._masked(part) for part in cast("list[object]", value)]
        return MASK if str(value) in self._secrets else value


class LogKeeping(logging.Handler):
    """Hands what handlers say to the standard library's loggers to their attempt's `KeptLog`, too."""

    def emit(self, record: logging.LogRecord) -> None:
        delivery = current.get(None)
        # `context.log` does so itself, and what the mesh says of a delivery stands in its record already.
        if delivery is None or delivery.logs is None or isinstance(record.msg, dict) or record.name.startswith(OURS):
            return
        try:
            delivery.logs.add(record.levelname.lower(), record.getMessage(), {"logger": record.name})
        except Exception:
            self.handleError(record)


def _plain(value: Any) -> Any:
    """Return *value* as JSON has it; what JSON cannot say, as text."""
    try:
        return orjson.loads(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))
    except (TypeError, ValueError):
        return repr(value)


def _marked(event: BaseModel) -> tuple[set[str], set[str]]:
    """Return the names of marked fields in *event*, at any depth, and what they hold."""
    names: set[str] = set()
    secrets: set[str] = set()
    todo: list[Any] = [event]
    while todo:
        value = todo.pop()
        if isinstance(value, BaseModel):
            for name, field in type(value).model_fields.items():
                part = getattr(value, name)
                if is_marked(field.annotation, field.metadata):
                    names.add(name)
                    secrets.update(_leaves(part))
                else:
                    todo.append(part)
        elif isinstance(value, Mapping):
            todo += cast("Mapping[object, object]", value).values()
        elif isinstance(value, list | tuple | set | frozenset):
            todo += cast("Iterable[Any]", value)
    return names, secrets - {""}


def _leaves(value: Any) -> Iterator[str]:
    todo: list[Any] = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, BaseModel):
            todo += one.__dict__.values()
        elif isinstance(one, Mapping):
            todo += cast("Mapping[object, object]", one).values()
        elif isinstance(one, list | tuple | set | frozenset):
            todo += cast("Iterable[Any]", one)
        elif isinstance(one, bytes):
            yield one.decode("utf-8", "replace")
        elif one is not None and not isinstance(one, bool):
            yield str(one)
