"""While no broker answers: said once, looked after, and given up after the configured time."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException

from antiphon.bus.kafka.chatter import log
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.failures import error_of, unreachable
from antiphon.bus.port import Membership

_PROBE_S = 2.0


class Absence:
    """Since when no broker answers a member, if so."""

    def __init__(self, config: KafkaConfig, membership: Membership) -> None:
        self._config = config
        self._group = membership.group
        self._topic = membership.topics[0]
        self._since: float | None = None
        self._next_probe = 0.0

    def began(self) -> None:
        """Note that the client has lost every broker."""
        if self._since is None:
            self._since = time.monotonic()
            log.warning(
                "no broker answers; trying again",
                extra={"group": self._group, "gives_up_after_s": self._config.give_up_s},
            )

    def ended(self) -> None:
        """Note that a broker has answered."""
        if self._since is not None:
            after_s = round(time.monotonic() - self._since, 1)
            self._since = None
            log.info("a broker answers again", extra={"group": self._group, "after_s": after_s})

    def probe(self, consumer: Consumer) -> None:
        """Look now and then whether one is back. Raises `BrokerUnreachableError` after the configured time."""
        now = time.monotonic()
        if self._since is None or now < self._next_probe:
            return
        self._next_probe = now + _PROBE_S
        try:
            consumer.list_topics(self._topic, timeout=1.0)
        except KafkaException as exception:
            if now - self._since > self._config.give_up_s:
                raise unreachable(self._config, now - self._since, error_of(exception)) from exception
        else:
            self.ended()
