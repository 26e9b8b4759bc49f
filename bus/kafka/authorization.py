"""What the cluster allows whom: asked, for this client, and told, for everybody. Every call blocks: it is made in a thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from antiphon.bus.errors import BusError
from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.failures import NO_ANSWER, error_of
from antiphon.bus.right import Operation, Pattern, Resource, Right

# Until every broker knows of an ACL that the controller has: some milliseconds, where none is overloaded.
_SPREADS_S = 5.0
_LOOK_S = 0.02
_KINDS = {
    Resource.TOPIC: ResourceType.TOPIC,
    Resource.GROUP: ResourceType.GROUP,
    Resource.TRANSACTIONAL_ID: ResourceType.TRANSACTIONAL_ID,
}
_PATTERNS = {Pattern.LITERAL: ResourcePatternType.LITERAL, Pattern.PREFIXED: ResourcePatternType.PREFIXED}
_OPERATIONS = {
    Operation.DESCRIBE: AclOperation.DESCRIBE,
    Operation.READ: AclOperation.READ,
    Operation.WRITE: AclOperation.WRITE,
    Operation.CREATE: AclOperation.CREATE,
}
_ANY_HOST = "*"


class AclsRefusedError(BusError):
    """The broker keeps no ACLs, or does not let this client see or change them."""

    def __init__(self, what: str, error: KafkaError, principal: str | None) -> None:
        self.reason = error.name()
        who = f" of {principal}" if principal else ""
        match error.code():
            case KafkaError.SECURITY_DISABLED:
                remedy = "Nothing is enforced there: give the brokers an authorizer.class.name first"
            case KafkaError.CLUSTER_AUTHORIZATION_FAILED:
                right = "Describe" if what == "list" else "Alter"
                remedy = f"That takes {right} on the cluster{who}: have somebody do it who may administer it"
            case _:
                remedy = "See the brokers' log"
        # The broker's own words for it are a picture of its insides.
        super().__init__(f"expected to {what} ACLs, but the broker refused: {error.name()}. {remedy}.")


class Authorization:
    """Rights, through the admin client of *administration*."""

    def __init__(self, config: KafkaConfig, administration: Administration) -> None:
        self._config = config
        self._administration = administration

    def lacking(self, rights: Collection[Right]) -> list[Right]:
        """Return those of *rights* that this client is known not to have.

        A broker tells of topics what may be done there; of transactional ids nothing, and nothing of
        what is not there. It would tell of groups, but where a group's coordinator goes away while it is
        asked, the client library ends the process (librdkafka's issue 4605), and workers start while
        brokers go away: joining says it soon enough. The embedded broker, and one older than Kafka 2.3,
        tell nothing at all.
        """
        topics = sorted({right.name for right in rights if right.resource is Resource.TOPIC})
        if not topics:
            return []

        def ask(client: Any, timeout_s: float) -> dict[str, frozenset[AclOperation] | None]:
            if self._administration.embedded:
                return {}
            answers: Mapping[str, Future[Any]] = client.describe_topics(
                TopicCollection(topics), include_authorized_operations=True, request_timeout=timeout_s
            )
            return {name: _allowed(answer) for name, answer in answers.items()}

        allowed = {(Resource.TOPIC, name): operations for name, operations in self._administration.asked(ask).items()}
        return [
            right
            for right in rights
            if right.operation is not Operation.CREATE
            if (known := allowed.get((right.resource, right.name))) is not None
            if _OPERATIONS[right.operation] not in known
        ]

    def granted(self, principals: Iterable[str]) -> dict[str, list[Right]]:
        """Return what each of *principals* is allowed from any host, in words that we have; raises `AclsRefusedError`."""
        found: dict[str, list[Right]] = {}
        for principal in principals:
            bindings = self._asked("list", _listing(principal))
            found[principal] = [right for binding in bindings if (right := _right_in(binding)) is not None]
        if not any(found.values()) and not self._may_list():
            raise AclsRefusedError("list", KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED), self._principal)
        return found

    def _may_list(self) -> bool:
        """Say whether this client may see ACLs: whoever may not is answered, by the client library, that there are none."""

        def ask(client: Any, timeout_s: float) -> Any:
            return client.describe_cluster(include_authorized_operations=True, request_timeout=timeout_s).result()

        return AclOperation.DESCRIBE in (self._asked("list", ask).authorized_operations or ())

    def grant(self, rights: Mapping[str, Iterable[Right]]) -> None:
        """Allow every principal what is listed for it, from any host; raises `AclsRefusedError`. Twice does no harm.

        Returns when a broker that is asked knows of it, or after some seconds: they hear of it from the controller.
        """
        wanted = {principal: {*some} for principal, some in rights.items()}
        bindings = [_binding(principal, right) for principal, some in wanted.items() for right in some]
        if not bindings:
            return
        self._asked("set", lambda client, timeout_s: _done(client.create_acls(bindings, request_timeout=timeout_s)))
        deadline = time.monotonic() + _SPREADS_S
        while time.monotonic() < deadline:
            known = self.granted(wanted)
            if all(some <= {*known[principal]} for principal, some in wanted.items()):
                return
            time.sleep(_LOOK_S)

    def revoke(self, rights: Mapping[str, Iterable[Right]]) -> None:
        """Take what is listed from every principal; raises `AclsRefusedError`."""
        filters = [_filter(principal, right) for principal, some in rights.items() for right in some]
        if not filters:
            return
        self._asked("set", lambda client, timeout_s: _done(client.delete_acls(filters, request_timeout=timeout_s)))

    def _asked(self, what: str, ask: Callable[[Any, float], Any]) -> Any:
        try:
            return self._administration.asked(ask)
        except KafkaException as exception:
            raise AclsRefusedError(what, error_of(exception), self._principal) from exception

    @property
    def _principal(self) -> str | None:
        return self._config.identity.principal


def _allowed(answer: Future[Any]) -> frozenset[AclOperation] | None:
    """Return what may be done there; None: the broker does not tell. Raises `KafkaException` where nobody answers."""
    try:
        operations = answer.result().authorized_operations
    except KafkaException as exception:
        code = error_of(exception).code()
        if code in NO_ANSWER:
            raise
        return frozenset() if code == KafkaError.TOPIC_AUTHORIZATION_FAILED else None
    return frozenset(operations) if operations else None


def _listing(principal: str) -> Callable[[Any, float], Any]:
    return lambda client, timeout_s: client.describe_acls(_all_of(principal), request_timeout=timeout_s).result()


def _done(answers: Mapping[object, Future[Any]]) -> None:
    for answer in answers.values():
        answer.result()


def _all_of(principal: str) -> AclBindingFilter:
    any_name: Any = None  # The constructor's types know nothing of it, and it takes it.
    return AclBindingFilter(
        ResourceType.ANY,
        any_name,
        ResourcePatternType.ANY,
        principal,
        any_name,
        AclOperation.ANY,
        AclPermissionType.ALLOW,
    )


def _binding(principal: str, right: Right) -> AclBinding:
    return AclBinding(*_said(principal, right))


def _filter(principal: str, right: Right) -> AclBindingFilter:
    return AclBindingFilter(*_said(principal, right))


def _said(principal: str, right: Right) -> tuple[Any, ...]:
    return (
        _KINDS[right.resource],
        right.name,
        _PATTERNS[right.pattern],
        principal,
        _ANY_HOST,
        _OPERATIONS[right.operation],
        AclPermissionType.ALLOW,
    )


def _right_in(binding: AclBinding) -> Right | None:
    """Return what *binding* allows, None where it is of a kind that no agent needs, or for some hosts alone."""
    found: Any = binding  # Its attributes are typed as what its constructor takes, numbers and words too.
    kind = {theirs: ours for ours, theirs in _KINDS.items()}.get(found.restype)
    pattern = {theirs: ours for ours, theirs in _PATTERNS.items()}.get(found.resource_pattern_type)
    operation = {theirs: ours for ours, theirs in _OPERATIONS.items()}.get(found.operation)
    if kind is None or pattern is None or operation is None or binding.host != _ANY_HOST:
        return None
    return Right(operation, kind, binding.name, pattern)
