"""What the cluster allows whom: asked, for this client, and told, for everybody. Every call blocks: it is made in a thread."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin._acl import AclBinding, AclBindingFilter, AclOperation, AclPermissionType
from confluent_kafka.admin._resource import ResourcePatternType, ResourceType

from antiphon.bus.errors import BusError
from antiphon.bus.kafka.administration import Administration
from antiphon.bus.kafka.config import KafkaConfig
from antiphon.bus.kafka.failures import answered, error_of
from antiphon.bus.right import Operation, Pattern, Resource, Right

_ANSWER_S = 15.0
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
        with self._administration.client() as client:
            if self._administration.embedded:
                return []
            allowed = {
                (Resource.TOPIC, name): self._allowed(answer)
                for name, answer in self._describe_topics(client, topics).items()
            }
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
        with self._administration.client() as client:
            for principal in principals:
                bindings = self._asked("list", client.describe_acls(_all_of(principal), request_timeout=_ANSWER_S))
                found[principal] = [right for binding in bindings if (right := _right_in(binding)) is not None]
            if not any(found.values()) and not self._may_list(client):
                raise AclsRefusedError("list", KafkaError(KafkaError.CLUSTER_AUTHORIZATION_FAILED), self._principal)
        return found

    def _may_list(self, client: Any) -> bool:
        """Say whether this client may see ACLs: whoever may not is answered, by the client library, that there are none."""
        answer = client.describe_cluster(include_authorized_operations=True, request_timeout=_ANSWER_S)
        return AclOperation.DESCRIBE in (self._asked("list", answer).authorized_operations or ())

    def grant(self, rights: Mapping[str, Iterable[Right]]) -> None:
        """Allow every principal what is listed for it, from any host; raises `AclsRefusedError`. Twice does no harm.

        Returns when a broker that is asked knows of it, or after some seconds: they hear of it from the controller.
        """
        wanted = {principal: {*some} for principal, some in rights.items()}
        bindings = [_binding(principal, right) for principal, some in wanted.items() for right in some]
        if not bindings:
            return
        with self._administration.client() as client:
            for answer in client.create_acls(bindings, request_timeout=_ANSWER_S).values():
                self._asked("set", answer)
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
        with self._administration.client() as client:
            for answer in client.delete_acls(filters, request_timeout=_ANSWER_S).values():
                self._asked("set", answer)

    def _asked(self, what: str, answer: Future[Any]) -> Any:
        return answered(answer, self._config, _ANSWER_S, lambda error: AclsRefusedError(what, error, self._principal))

    @property
    def _principal(self) -> str | None:
        return self._config.identity.principal

    def _describe_topics(self, client: Any, names: list[str]) -> Mapping[str, Future[Any]]:
        if not names:
            return {}
        answers = client.describe_topics(
            TopicCollection(names), include_authorized_operations=True, request_timeout=self._config.reach_s
        )
        return cast("Mapping[str, Future[Any]]", answers)

    def _allowed(self, answer: Future[Any]) -> frozenset[AclOperation] | None:
        """Return what may be done there; None: the broker does not tell."""
        try:
            operations = answer.result().authorized_operations
        except KafkaException as exception:
            # Whoever does not answer says nothing.
            return frozenset() if error_of(exception).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED else None
        return frozenset(operations) if operations else None


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
