"""Log lines on stderr: for a person on a terminal, JSON elsewhere."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import orjson
import structlog

from antiphon.bus.error_text import traceback_of
from antiphon.cli.output import inert, wants_color


def configure(*, verbose: bool, **always: str) -> None:
    """Send every log line, structlog's and the standard library's, to stderr in one form; *always* stands in each."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        _Always(always),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering()],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    # What the clients say at length is for whoever asks.
    for chatty in ("aiokafka", "kafka", "confluent_kafka", "asyncio", "urllib3", "httpx"):
        logging.getLogger(chatty).setLevel(logging.INFO if verbose else logging.WARNING)


class _Always:
    """Puts what is the same in every line in front."""

    def __init__(self, fields: dict[str, str]) -> None:
        self._fields = fields

    def __call__(self, _logger: Any, _method: str, line: Any) -> Any:
        return {**self._fields, **line}


def _rendering() -> list[Any]:
    if sys.stderr.isatty():
        colors = wants_color(sys.stderr)
        return [_spelt, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=_write_traceback)]
    return [
        structlog.processors.ExceptionRenderer(_traceback),
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_json),
    ]


def _spelt(_logger: Any, _method: str, line: Any) -> Any:
    """Write lists of facts as a person would.

    >>> _spelt(None, "", {"left": 2, "oldest": [{"id": "a", "since_s": 3.5}, {"id": "b", "since_s": 1}]})
    {'left': 2, 'oldest': 'a 3.5, b 1'}
    """
    return {name: _in_words(value) if isinstance(value, list) else value for name, value in line.items()}


def _in_words(items: Any) -> str:
    return ", ".join(" ".join(map(str, one.values())) if hasattr(one, "values") else str(one) for one in items)


def _traceback(exc_info: Any) -> str:
    # Without the frames' variables: they hold what must not be logged.
    return traceback_of(exc_info[1])


def _write_traceback(to: TextIO, exc_info: Any) -> None:
    to.writelines("\n" + inert(line) for line in _traceback(exc_info).rstrip().splitlines())


def _json(line: Any, **_: Any) -> str:
    return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
