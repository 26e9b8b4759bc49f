"""What can go wrong between an event and its topic.

BusError
├── BrokerUnreachableError      nobody answers at the address, or something else does
│   └── NotLetInError           a broker answers, and does not let this client in
├── MissingRightError           the broker does not allow what an agent needs
├── UnknownTopicError           a topic the cluster does not have
├── TopicCreationRefusedError   the broker will not create it
├── RemovalRefusedError         the broker will not remove a topic, or say which groups there are
├── MissingTopicsError          topics lack, and this worker may not create them
├── PartitionCountError         a topic with another number of partitions than the mesh
├── CommitError                 a transaction did not become visible, or nobody knows
├── AnswerTimeoutError          nobody answered a request in time
├── WorkflowFailedError         ... and nobody will: its workflow failed
├── PublishedInReplayError      a handler would publish by itself while a replay has it handle an event again
├── MemberFailedError           a group member that can go on no longer
├── OffsetsGoneError            what a group was to read next is not there any more
├── NotWrittenError             the broker did not take a record (kafka.publishing)
├── ReadFailedError             the broker will not say what stands on a partition (kafka.failures)
├── ClusterRefusedError         the cluster will not do what an operator asks for (kafka.cluster)
├── ClaimStoreError             the store of large values does not answer
├── EmbeddedBrokerError         the embedded broker could not be started (kafka.embedded)
├── CanaryError                 another version that cannot stand in for a share of an agent's workflows
└── SettingsError               a setting that is not what it must be

HandlerTimeoutError             a handler took longer than its agent allows
UndoneBeforeError               an event that was passed over: what it asks for had been undone before it came
PermanentError                  raised by handlers: trying again cannot help
├── UndeclaredEventError        a handler emitted what it did not declare
├── GuardError                  an event that no handler was called with, so that its workflow ends
│   ├── HopLimitError           too many agents led to it, one after the other
│   ├── BudgetSpentError        its workflow may spend no more
│   └── BudgetUnreadableError   nobody can say what it may spend
└── ClaimError                  a large value cannot be had (a SchemaError too)
    ├── ClaimMissingError       the store has nothing of that name
    ├── ClaimChangedError       it has something else
    ├── UnknownReferenceError   the reference is of a kind that is not known here
    └── NoClaimStoreError       no store is configured

IncompatibleSchemaError         (schemas.errors)
└── BreaksReadersError          events that agents of the mesh could not read

EncodeError                     (schemas.errors)
└── TooLargeError               what does not fit into a record
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from antiphon.bus.right import Right
from antiphon.schemas.errors import EncodeError, IncompatibleSchemaError, SchemaError

_CANARY_REMEDY = "Have it agree in that; or deploy it as a whole, which a rolling deployment does worker by worker"
_SEE_TO_THE_FOLDER = "See to the folder that ANTIPHON_CLAIMS names: that it is mounted, writable and not full"


class BusError(Exception):
    """Base of every error this package raises."""


class BrokerUnreachableError(BusError):
    """No broker answers at the address, or what answers is no broker."""

    def __init__(self, address: str, reason: str, *, tried_s: float) -> None:
        self.address = address
        self.reason = reason
        self.tried_s = tried_s
        super().__init__(f"no broker at {address} ({reason}, tried for {tried_s:.0f} s)")


class NotLetInError(BrokerUnreachableError):
    """A broker answers, and does not let this client in: a login, a certificate, or how to connect is not what it wants."""

    def __init__(self, address: str, reason: str, *, who: str, remedy: str, tried_s: float) -> None:
        super().__init__(address, reason, tried_s=tried_s)
        self.who = who
        self.remedy = remedy
        self.args = (f"expected the broker at {address} to let in {who}, got: {reason}. {remedy}.",)


class MissingRightError(BusError):
    """The broker does not allow what is needed. Trying again does not help until somebody grants it."""

    def __init__(self, rights: Collection[Right], principal: str | None) -> None:
        self.rights = tuple(rights)
        self.principal = principal
        super().__init__(missing_rights(self.rights, principal))


def missing_rights(rights: Collection[Right], principal: str | None) -> str:
    """Say which rights lack, whose, and what grants them."""
    who = f" for {principal}" if principal else ""
    return (
        f"expected the right to {', '.join(map(str, rights))}{who}, but the broker does not give it. "
        "'antiphon topology MODULE --acls' lists what each agent needs, and 'antiphon topics apply MODULE --acls' grants it"
    )


class UnknownTopicError(BusError):
    """A topic was named that the cluster does not have."""

    def __init__(self, topic: str, known: Collection[str]) -> None:
        self.topic = topic
        self.known = known
        near = difflib.get_close_matches(topic, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"this cluster has {len(known)} topics, none like it."
        super().__init__(
            f"topic {topic!r} does not exist; {hint} "
            "Create it with 'antiphon topics apply', or fix the name in the subscription."
        )


class TopicCreationRefusedError(BusError):
    """The broker will not create a topic."""

    def __init__(self, topics: Collection[str], reason: str) -> None:
        self.topics = topics
        self.reason = reason
        super().__init__(
            f"expected to create {', '.join(sorted(topics))}, but the broker refused: {reason}. "
            "Have somebody who may run 'antiphon topics apply' with these agents, and set create_topics=false."
        )


class RemovalRefusedError(BusError):
    """The broker will not remove a topic, or say which groups there are."""

    def __init__(self, what: str, reason: str) -> None:
        self.what = what
        self.reason = reason
        super().__init__(
            f"expected to remove {what}, but the broker refused: {reason}. "
            "Have somebody remove it who may delete topics and groups there."
        )


class MissingTopicsError(BusError):
    """Topics lack, and this worker may not create them."""

    def __init__(self, topics: Collection[str], agents: Collection[str]) -> None:
        self.topics = topics
        self.agents = agents
        super().__init__(
            f"expected the topics that {', '.join(agents)} need, but {', '.join(sorted(topics))} do not exist and "
            "create_topics is off. 'antiphon topics apply' creates them."
        )


class PartitionCountError(BusError):
    """A topic has another number of partitions than the rest of the mesh."""

    def __init__(self, topic: str, expected: int, got: int) -> None:
        self.topic = topic
        self.expected = expected
        self.got = got
        super().__init__(
            f"expected topic {topic!r} to have {expected} partitions like the rest of the mesh, got {got}: "
            "an agent's inputs would not meet. 'antiphon topics plan' shows what to change."
        )


class CommitError(BusError):
    """A transaction did not become visible, or nobody knows whether it did.

    *reason* is the broker's own word (for example ILLEGAL_GENERATION), *topic*
    the one that refused a record, where that was why.
    """

    def __init__(self, reason: str, *, topic: str | None = None) -> None:
        self.reason = reason
        self.topic = topic
        super().__init__(f"a transaction was not committed ({reason}); its work will be done again")


class AnswerTimeoutError(BusError):
    """Nobody answered a request in time."""

    def __init__(self, correlation_id: str, types: Collection[str], *, timeout_s: float) -> None:
        self.correlation_id = correlation_id
        self.types = types
        super().__init__(
            f"expected {' or '.join(sorted(types))} within {timeout_s:g} s, got none in workflow {correlation_id}. "
            f"It may still come: antiphon trace {correlation_id}"
        )


class WorkflowFailedError(BusError):
    """The workflow of a request failed before it was answered."""

    def __init__(self, correlation_id: str, reason: str) -> None:
        self.correlation_id = correlation_id
        self.reason = reason
        super().__init__(
            f"workflow {correlation_id} failed: {reason}. What it did is being undone: antiphon trace {correlation_id}"
        )


class PublishedInReplayError(BusError):
    """A handler would publish by itself while a replay has it handle an event again; nothing was published."""

    def __init__(self, agent: str, what: str) -> None:
        self.agent = agent
        self.what = what
        super().__init__(
            f"expected {agent} to publish nothing of its own while a replay has it handle an event again, got {what}; "
            "nothing was published. Return events from the handler, or publish in context.once: a replay knows what that "
            "returned and does not call it"
        )


class MemberFailedError(BusError):
    """A group member can go on no longer; the process should end and be started again."""

    def __init__(self, group: str, reason: str) -> None:
        self.group = group
        self.reason = reason
        super().__init__(f"member of group {group!r} had to stop: {reason}. Start the worker again.")


class OffsetsGoneError(BusError):
    """What a group was to read next is not there any more, and its agents shall stop rather than skip it."""

    def __init__(self, group: str, topic: str, partition: int, *, expected: int, first: int, end: int) -> None:
        self.group = group
        self.topic = topic
        self.partition = partition
        self.expected = expected
        self.first = first
        self.end = end
        if expected < first:
            what = f"{first - expected} offsets are gone, by retention for example"
        else:
            what = "the topic was deleted and made anew, or lost its end"
        super().__init__(
            f"expected group {group!r} to go on at offset {expected} of {topic}[{partition}], got {first} to {end}: {what}. "
            "Find out what was lost; then start it with ANTIPHON_ON_MISSING_OFFSETS=earliest, which goes on with the "
            "first event that is there, or =latest, which goes on with what comes from now on."
        )


class CanaryError(BusError):
    """Another version cannot stand in for an agent in a share of its workflows: it is none of it, or more than one."""

    def __init__(self, agent: str, version: str, differences: Sequence[str]) -> None:
        self.agent = agent
        self.version = version
        self.differences = tuple(differences)
        lines = [f"the canary {version} of {agent!r} cannot have a share of its workflows:", *differences]
        super().__init__("\n".join([*lines, _CANARY_REMEDY]))


class SettingsError(BusError):
    """A setting is not what it must be."""

    def __init__(self, name: str, expected: str, got: object, origin: str) -> None:
        self.name = name
        self.expected = expected
        self.got = got
        self.origin = origin
        super().__init__(f"expected {name} to be {expected}, got {got!r} (from {origin})")


class ClaimStoreError(BusError):
    """The store of large values does not answer, or cannot keep any more. It may, later."""

    def __init__(self, place: str, reason: str, remedy: str = _SEE_TO_THE_FOLDER) -> None:
        self.place = place
        self.reason = reason
        super().__init__(f"expected the store of large values at {place} to answer, got: {reason}. {remedy}.")


class HandlerTimeoutError(TimeoutError):
    """A handler was cancelled because it took longer than its agent allows."""

    def __init__(self, agent: str, limit_s: float) -> None:
        self.agent = agent
        self.limit_s = limit_s
        super().__init__(f"agent {agent!r} took longer than its timeout of {limit_s:g} s and was cancelled")


class UndoneBeforeError(Exception):
    """An event was passed over: what it asks for has been undone already."""

    def __init__(self, agent: str, type: str) -> None:
        self.agent = agent
        self.type = type
        super().__init__(f"{agent} had undone what {type} asks for before it came, so it was not done")


class PermanentError(Exception):
    """Raise from a handler to say that trying again cannot help.

    The event goes straight to the dead-letter topic, with this error as the
    reason. Any other exception means *maybe later*, and is retried.
    """


class UndeclaredEventError(PermanentError):
    """A handler emitted an event its return annotation does not declare."""

    def __init__(self, agent: str, emitted: str, declared: Collection[str]) -> None:
        self.agent = agent
        self.emitted = emitted
        self.declared = declared
        super().__init__(
            f"agent {agent!r} emitted {emitted}, but declares {', '.join(sorted(declared)) or 'nothing'}. "
            f"Add it to the handler's return annotation."
        )


class GuardError(PermanentError):
    """An event is over a limit that travels with it. It is set aside, its handler not called; *reason* says which limit."""

    reason = "guard"


class HopLimitError(GuardError):
    """So many agents led to an event, one after the other, that they are taken for a circle."""

    reason = "hops"

    def __init__(self, type: str, source: str, hops: int, limit: int) -> None:
        self.hops = hops
        self.limit = limit
        super().__init__(
            f"expected a chain of at most {limit} agents, got {type} from {source}, to which {hops} led. "
            "They most likely answer one another in a circle: 'antiphon trace' shows it. End it, or where the chain is "
            "meant set ANTIPHON_MAX_HOPS higher; 'antiphon dead redrive --hops 0' then goes on."
        )


class BudgetSpentError(GuardError):
    """What a workflow may spend is spent on the way to an event."""

    reason = "budget"

    def __init__(self, type: str, left: str) -> None:
        self.left = left
        super().__init__(
            f"expected money left to handle {type} with, got {left}: what its workflow may spend is spent on the way to it. "
            "'antiphon cost' says by whom; 'antiphon dead redrive --budget AMOUNT' goes on with more."
        )


class BudgetUnreadableError(GuardError):
    """What a workflow may spend is said in a way that nobody can read, so nothing is spent."""

    reason = "budget"

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"{problem}, in ce_budget. Whoever wrote this record must mend it; see docs/reference/wire.md."
        )


class ClaimError(SchemaError, PermanentError):
    """An event's value is kept elsewhere, and cannot be had as it was."""


class ClaimMissingError(ClaimError):
    """The store has nothing of that name."""

    def __init__(self, claim: str, place: str) -> None:
        self.claim = claim
        self.place = place
        super().__init__(
            f"expected {claim} in {place}, got nothing: it was deleted before its event, or is in another store. "
            "Have ANTIPHON_CLAIMS name the same place for every agent, and keep values as long as topics keep events."
        )


class ClaimChangedError(ClaimError):
    """The store has something else under that name."""

    def __init__(self, claim: str, got: str) -> None:
        self.claim = claim
        self.got = got
        super().__init__(
            f"expected {claim}, got {got}: it was changed or damaged. Put its content back, from a backup for example."
        )


class UnknownReferenceError(ClaimError):
    """An event's value is kept where nobody here knows to look."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        super().__init__(
            f"expected ce_dataref to be claim:sha256:<64 hex digits>?length=<bytes>, got {reference[:200]!r}. "
            "Whoever wrote this record must mend it; see docs/reference/wire.md."
        )


class NoClaimStoreError(ClaimError):
    """An event's value is kept elsewhere, and no store is configured."""

    def __init__(self, claim: str) -> None:
        self.claim = claim
        super().__init__(
            f"expected a store to fetch {claim} from, got none. "
            "Set ANTIPHON_CLAIMS to the folder or bucket that its writer put it into."
        )


class BreaksReadersError(IncompatibleSchemaError):
    """Agents of the mesh could not read events of a class, so none is published."""

    def __init__(self, type: str, field: str, problem: str, remedy: str, agents: Sequence[str]) -> None:
        self.agents = agents
        told = f"{problem}, which breaks {', '.join(agents)}"
        advice = f"{remedy}. Where that agent is no more: 'antiphon agents retire NAME'"
        super().__init__(type, field, told, advice)


class TooLargeError(EncodeError):
    """Something does not fit into a record. Trying again cannot help; *remedy* may."""

    def __init__(self, what: str, size: int, limit: int, remedy: str) -> None:
        self.size = size
        self.limit = limit
        super().__init__(what, "", f"at most {limit} bytes", str(size), remedy)
