"""The client library's own log, turned down to what a person can read.

librdkafka says why it cannot connect on every try, many times a second. Here
a line is passed on once in a while, and only to whoever configured logging.
"""

from __future__ import annotations

import logging
import re
import time

_QUIET_S = 30.0
# The name of the client differs from one object to the next, and the timing from one line to the next.
_VARYING = re.compile(r"\[rdkafka#[a-z]+-\d+\]|\(after \d+ms.*|\d+ identical error\(s\) suppressed")


# What the client says of a request that it makes again by itself. What comes of it in the end is raised.
_RETRYING = ": retrying"


class Once(logging.Filter):
    """Pass a line on, then not again for a while; what the client mends by itself is for whoever asks for details."""

    def __init__(self, quiet_s: float = _QUIET_S) -> None:
        super().__init__()
        self._quiet_s = quiet_s
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether *record* is news."""
        now = time.monotonic()
        if record.getMessage().endswith(_RETRYING) and not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
            return False
        text = _VARYING.sub("", record.getMessage())
        if now - self._said.get(text, -self._quiet_s) < self._quiet_s:
            return False
        if len(self._said) > 1_000:  # noqa: PLR2004 - a bound, nothing more
            self._said.clear()
        self._said[text] = now
        return True


log = logging.getLogger("antiphon.bus.kafka")

library = logging.getLogger("antiphon.bus.kafka.librdkafka")
"""What clients are given to log to."""
library.addFilter(Once())
# Without any configured logging Python prints warnings to stderr; a library's connection troubles do not belong there:
# whatever matters of them is raised.
library.addHandler(logging.NullHandler())
