"""What a client says when something goes wrong, in the mesh's words."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from antiphon.bus.errors import BrokerUnreachableError, BusError, MissingRightError, NotLetInError, missing_rights
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.handshake import NOT_LET_IN, Refusal, look, refused_login, shakes_hands
from antiphon.bus.kafka.tether import speaks_kafka
from antiphon.bus.right import Operation, Resource, Right

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
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
    )
)
"""Errors that trying again does not cure."""

DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Resource.TOPIC,
    KafkaError.GROUP_AUTHORIZATION_FAILED: Resource.GROUP,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Resource.TRANSACTIONAL_ID,
}
"""Errors that say that a right is missing, and on what."""


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
        KafkaError._NOENT,  # noqa: SLF001 - as above; "No leaders found": of none of the partitions it was asked about
    )
)
"""Errors of a topic that was just made, or of a broker that is being replaced: not every broker knows yet."""


class ReadFailedError(BusError):
    """The broker will not say what stands on a partition, or where it ends."""

    def __init__(self, error: KafkaError) -> None:
        self.reason = f"{error.name()}: {error.str()}"
        super().__init__(f"the broker does not let it be read, {self.reason}")


def answered(
    answer: Future[Any], config: KafkaConfig, tried_s: float, refused: Callable[[KafkaError], BusError]
) -> Any:
    """Wait for what an administrator's client was told; raises what *refused* makes of a no, `BrokerUnreachableError` for none."""
    try:
        return answer.result()
    except KafkaException as exception:
        error = error_of(exception)
        if error.code() in NO_ANSWER:
            raise unreachable(config, tried_s, error) from exception
        raise refused(error) from exception


def error_of(exception: KafkaException) -> KafkaError:
    """Return the error an exception carries."""
    error = exception.args[0]
    assert isinstance(error, KafkaError)  # noqa: S101 - the library never raises it with anything else
    return error


def denied(
    config: KafkaConfig, error: KafkaError, operation: Operation, names: Mapping[Resource, str | None]
) -> MissingRightError | None:
    """Return *error* as the right that is missing, None where it says no such thing.

    *names* are those of what was used, as far as they are known: the broker names none.
    """
    resource = DENIED.get(error.code())
    name = None if resource is None else names.get(resource)
    if resource is None or name is None:
        return None
    right = Right(_needed(resource, operation), resource, name)
    return MissingRightError([right], config.identity.principal)


def said(config: KafkaConfig, error: KafkaError, *, writing: str | None = None) -> str:
    """Return what *error* says: its name, its words, and which right to *writing*'s topic would mend it, if one would."""
    text = f"{error.name()}: {error.str()}"
    if writing is None or DENIED.get(error.code()) is not Resource.TOPIC:
        return text
    return f"{text}; {missing_rights([Right(Operation.WRITE, Resource.TOPIC, writing)], config.identity.principal)}"


def _needed(resource: Resource, operation: Operation) -> Operation:
    match resource:
        case Resource.GROUP:
            return Operation.READ
        case Resource.TRANSACTIONAL_ID:
            return Operation.WRITE
        case Resource.TOPIC:
            return operation


def unreachable(config: KafkaConfig, tried_s: float, error: KafkaError | None = None) -> BrokerUnreachableError:
    """Say why nobody answers, or lets us in: knocks on each address again to tell one from the other.

    Blocks, for some seconds an address at most.
    """
    if error is not None and error.code() in NOT_LET_IN - {KafkaError._SSL}:  # noqa: SLF001 - librdkafka's own errors are spelt so
        refusal: Refusal | None = refused_login(error, config.identity)
    else:
        refusal = _look(config)
    if refusal is not None:
        return NotLetInError(
            config.bootstrap_servers, refusal.reason, who=str(config.identity), remedy=refusal.remedy, tried_s=tried_s
        )
    reason = _knock(config)
    if reason is None and error is not None and error.code() not in NO_ANSWER:
        # There is a broker, and it does not let us in.
        reason = _first_words(error)
    return BrokerUnreachableError(config.bootstrap_servers, reason or "timed out", tried_s=tried_s)


def is_refused(config: KafkaConfig) -> bool:
    """Say whether it is plain that no client with this configuration is let in, however long it tries. Blocks for seconds."""
    refusal = _look(config, gave_up=False)
    return refusal is not None and refusal.is_plain


def is_there(config: KafkaConfig) -> bool:
    """Say whether a broker answers at any of the addresses, though it may not say yet what it is asked. Blocks for seconds."""
    return None in _knocks(config)


def _look(config: KafkaConfig, *, gave_up: bool = True) -> Refusal | None:
    """Return why nobody is let in at the addresses: what is plain, rather than what may pass."""
    perhaps: Refusal | None = None
    for address in config.bootstrap_servers.split(","):
        refusal = look(address, config.identity, config.options, gave_up=gave_up)
        if refusal is not None and refusal.is_plain:
            return refusal
        perhaps = perhaps or refusal
    return perhaps


def _knock(config: KafkaConfig) -> str | None:
    """Say what is wrong at the addresses, or None where nothing seems to be."""
    return ", ".join(dict.fromkeys(reason for reason in _knocks(config) if reason is not None)) or None


def _knocks(config: KafkaConfig) -> list[str | None]:
    return [_knock_at(address.strip(), config) for address in config.bootstrap_servers.split(",")]


def _knock_at(address: str, config: KafkaConfig) -> str | None:
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
    if config.identity.transport.is_encrypted:
        return None if shakes_hands(host, int(port), config.options) else "what answers there does not speak TLS"
    return None if speaks_kafka(host, int(port)) else "what answers there does not speak Kafka"


def _first_words(error: KafkaError) -> str:
    """Cut a client's message to what a person needs: without the thread, the address again and the timing."""
    text = error.str() or error.name()
    return text.split(" (after ")[0].rpartition("/bootstrap: ")[2]
