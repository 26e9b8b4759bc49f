"""What a client says when something goes wrong, in the mesh's words."""

from __future__ import annotations

import socket

from confluent_kafka import KafkaError, KafkaException

from antiphon.bus.errors import BrokerUnreachableError, BusError
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.tether import speaks_kafka

NO_ANSWER = frozenset(
    (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE)  # noqa: SLF001 - librdkafka's own errors are spelt so
)
"""Errors that say no more than that nobody answered."""

REFUSED = frozenset(
    (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - as above
    )
)
"""Errors that trying again does not cure."""


PASSING = frozenset(
    (
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.KAFKA_STORAGE_ERROR,
        KafkaError.REQUEST_TIMED_OUT,
    )
)
"""Errors of a topic that was just made, or of a broker that is being replaced: not every broker knows yet."""


class ReadFailedError(BusError):
    """The broker will not say what stands on a partition, or where it ends."""

    def __init__(self, error: KafkaError) -> None:
        self.reason = f"{error.name()}: {error.str()}"
        super().__init__(f"the broker does not let it be read, {self.reason}")


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error an exception carries."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)  # noqa: S101 - the library never raises it with anything else
    return error


def unreachable(config: KafkaConfig, tried_s: float, error: KafkaError | None = None) -> BrokerUnreachableError:
    """Say why nobody answers: knocks on each address again to tell a closed port from one that is no broker's.

    Blocks, for a second an address at most.
    """
    reason = _knock(config)
    if reason is None and error is not None and error.code() not in NO_ANSWER:
        # There is a broker, and it does not let us in.
        reason = _first_words(error)
    return BrokerUnreachableError(config.bootstrap_servers, reason or "timed out", tried_s=tried_s)


def _knock(config: KafkaConfig) -> str | None:
    """Say what is wrong at the addresses, or None where nothing seems to be."""
    plain = str(config.options.get("security.protocol", "plaintext")).lower() in {"plaintext", "sasl_plaintext"}
    reasons = [_knock_at(address.strip(), plain=plain) for address in config.bootstrap_servers.split(",")]
    return ", ".join(dict.fromkeys(reason for reason in reasons if reason is not None)) or None


def _knock_at(address: str, *, plain: bool) -> str | None:
    host, _, port = address.rpartition("://")[2].rpartition(":")
    host = host.strip("[]")
    if not (host and port.isdigit()):
        return f"expected host:port, got {address!r}"
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except socket.gaierror:
        return f"host name {host!r} is unknown"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    if plain and not speaks_kafka(host, int(port)):
        return "what answers there does not speak Kafka"
    return None


def _first_words(error: KafkaError) -> str:
    """Cut a client's message to what a person needs: without the thread, the address again and the timing."""
    text = error.str() or error.name()
    return text.split(" (after ")[0].rpartition("/bootstrap: ")[2]
