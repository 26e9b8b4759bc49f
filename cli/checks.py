"""What `antiphon doctor` makes of what it is told: one check each, with what to change. Pure functions over values."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

from antiphon.bus.canary import shown, uneven
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.kafka.cluster import TopicFacts
from antiphon.bus.subscriptions import is_live
from antiphon.cli.errors import listed
from antiphon.cli.output import counted


class Status(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


_KIP_890 = 12
"""The version of Produce from which brokers tell an old transaction's write from one of the next (Kafka 4.0)."""
_AHEAD_US = 2_000_000
_SAFE = 2
"""Replicas that have a record before it counts as written, so that one may be lost."""


def lasting(ms: float) -> str:
    """Write how long something takes or is kept, roughly.

    >>> lasting(604_800_000), lasting(86_400_000), lasting(5_400_000), lasting(2_500)
    ('7 days', '1 day', '1.5 hours', '2.5 s')
    """
    for unit, length in (("days", 86_400_000), ("hours", 3_600_000), ("min", 60_000)):
        if ms >= length:
            return f"{ms / length:.3g} {unit.rstrip('s') if ms == length else unit}"
    return f"{ms / 1_000:.3g} s"


def broker_version(apis: Mapping[str, int], *, embedded: bool) -> Check:
    """Judge what brokers can do, by the highest version of each request that they take."""
    if embedded:
        return Check(
            "version", Status.OK, "the embedded broker: for a laptop, keeps nothing through its own sudden end"
        )
    if not apis:
        return Check("version", Status.OK, "the brokers do not say what they can do")
    if "AddOffsetsToTxn" not in apis:
        return Check(
            "version",
            Status.FAILED,
            "the brokers have no transactions",
            "use Kafka 4, or what speaks its protocol whole",
        )
    if apis.get("Produce", 0) < _KIP_890:
        return Check(
            "version",
            Status.WARNING,
            "older than Kafka 4.0, by what they can do",
            "update them: from 4.0 on, a write of a transaction that was given up cannot come into the next one (KIP-890)",
        )
    return Check("version", Status.OK, f"Kafka 4.0 or newer, by what they can do ({len(apis)} requests)")


def clock(workers: Iterable[AgentSeen], *, now_us: int) -> Check:
    """Compare this machine's clock with those of workers: none can have written later than now."""
    live = [seen for seen in workers if is_live(seen, now_us=now_us)]
    ahead = {seen.instance: seen.time_us - now_us for seen in live if seen.time_us - now_us > _AHEAD_US}
    if ahead:
        worst = max(ahead.values())
        return Check(
            "clock",
            Status.WARNING,
            f"{listed(sorted(ahead))} {'is' if len(ahead) == 1 else 'are'} up to {lasting(worst / 1_000)} ahead of this machine",
            "set the clocks by NTP: deadlines are moments that machines share",
        )
    return Check(
        "clock",
        Status.OK,
        f"{counted(len(live), 'worker')} agree with this machine" if live else "no worker is up to compare with",
    )


UNEVEN_REMEDY = "Until all are alike, a workflow is handled by the one version or the other as its partition moves"


def canaries(workers: Iterable[AgentSeen], *, now_us: int) -> Check:
    """Ask whether the live workers of each agent have the same canary, and the same share of workflows for it."""
    live = [seen for seen in workers if is_live(seen, now_us=now_us)]
    if differing := uneven(live):
        return Check(
            "canaries",
            Status.WARNING,
            "; ".join(f"{agent}: {told(by_canary)}" for agent, by_canary in differing.items()),
            f"{UNEVEN_REMEDY}\ngive all of them the same ANTIPHON_CANARY and ANTIPHON_SHARE",
        )
    shown_of = sorted({f"{seen.agent} {shown(seen)}" for seen in live if seen.canary is not None})
    return Check("canaries", Status.OK, listed(shown_of) if shown_of else "no agent has a canary")


def told(by_canary: Mapping[str, Sequence[str]]) -> str:
    """Write which workers have which canary.

    >>> told({"2 for 10%": ["w-1", "w-2"], "no canary": ["w-3"]})
    '2 for 10% (w-1, w-2), no canary (w-3)'
    """
    return ", ".join(f"{canary} ({listed(instances)})" for canary, instances in by_canary.items())


def plan(wanted: Mapping[str, bool], facts: Mapping[str, TopicFacts], *, may_create: bool) -> Check:
    """Compare the topics that agents need, and whether each is to be compacted, with those that are there."""
    lacking = sorted(wanted.keys() - facts.keys())
    if lacking:
        status = Status.WARNING if may_create else Status.FAILED
        remedy = "antiphon topics apply makes them" + (", or the next start of their agents" if may_create else "")
        return Check("plan", status, f"lacking: {listed(lacking)}", remedy)
    odd = sorted(
        name
        for name, compact in wanted.items()
        if (policy := facts[name].config.get("cleanup.policy")) is not None and ("compact" in policy) != compact
    )
    if odd:
        commands = [
            f"kafka-configs --alter --topic {name} --add-config cleanup.policy={_policy(wanted[name])}" for name in odd
        ]
        return Check(
            "plan",
            Status.FAILED,
            f"compacted where they must not be, or the other way round: {listed(odd)}",
            "\n".join(
                ["state is lost where it is deleted by age; events are lost where they are compacted", *commands[:3]]
            ),
        )
    return Check("plan", Status.OK, f"{counted(len(wanted), 'topic')} as agents need them")


def _policy(compact: bool) -> str:  # noqa: FBT001 - of a mapping's values
    return "compact" if compact else "delete"


def retention(events: Collection[str], facts: Mapping[str, TopicFacts], *, needed_ms: float, why: str) -> Check:
    """Ask whether events are kept for as long as a workflow may take and can be undone."""
    short: dict[str, int] = {}
    for name in events:
        kept = facts[name].config.get("retention.ms") if name in facts else None
        if kept is not None and 0 <= int(kept) < needed_ms:
            short[name] = int(kept)
    if short:
        least = min(short.values())
        return Check(
            "retention",
            Status.WARNING,
            f"{listed(sorted(short))} {'keeps' if len(short) == 1 else 'keep'} events for {lasting(least)}, and {why} takes {lasting(needed_ms)}",
            f"kafka-configs --alter --topic NAME --add-config retention.ms={int(needed_ms * 2)}",
        )
    return Check("retention", Status.OK, f"events are kept for longer than {why} takes, {lasting(needed_ms)}")


def replicas(facts: Mapping[str, TopicFacts], *, brokers: int) -> Check:
    """Ask whether a broker may be lost without losing events, or stopping."""
    single = sorted(name for name, fact in facts.items() if fact.replicas == 1)
    if brokers == 1:
        return Check("replicas", Status.OK, "one broker: what it loses is lost")
    if single:
        return Check(
            "replicas",
            Status.WARNING,
            f"one copy only, though there are {brokers} brokers: {listed(single)}",
            "have a copy on three: kafka-reassign-partitions; new ones: antiphon topics apply --replication 3",
        )
    insync = {
        name: int(fact.config["min.insync.replicas"])
        for name, fact in facts.items()
        if "min.insync.replicas" in fact.config
    }
    loose = sorted(name for name, least in insync.items() if least < _SAFE)
    if loose:
        return Check(
            "replicas",
            Status.WARNING,
            f"written once one broker has it, so that one may lose it: {listed(loose)}",
            f"kafka-configs --alter --topic NAME --add-config min.insync.replicas={_SAFE}",
        )
    stiff = sorted(name for name, least in insync.items() if least >= facts[name].replicas)
    if stiff:
        return Check(
            "replicas",
            Status.WARNING,
            f"cannot be written while any broker is down: {listed(stiff)}",
            "have a copy more than min.insync.replicas asks for",
        )
    return Check("replicas", Status.OK, "a broker may be lost")


def headroom(facts: Mapping[str, TopicFacts], *, largest: int) -> Check:
    """Ask whether brokers take the largest record that a worker writes."""
    sizes = {
        name: int(fact.config["max.message.bytes"])
        for name, fact in facts.items()
        if "max.message.bytes" in fact.config
    }
    small = sorted(name for name, most in sizes.items() if most < largest)
    if small:
        least = min(sizes[name] for name in small)
        return Check(
            "sizes",
            Status.FAILED,
            f"{listed(small)} {'takes' if len(small) == 1 else 'take'} records of {least:,} bytes, and workers write up to {largest:,}",
            "kafka-configs --alter --topic NAME --add-config max.message.bytes=1048588\n"
            "or set ANTIPHON_CLAIM_THRESHOLD lower, and ANTIPHON_CLAIMS",
        )
    return Check(
        "sizes",
        Status.OK,
        f"records of up to {largest:,} bytes are taken" if sizes else "the brokers do not say what they take",
    )


def rights(acls: int | None, *, embedded: bool = False) -> Check:
    """Judge who may do what; None: the brokers have no authorizer."""
    if embedded:
        return Check("rights", Status.OK, "whoever reaches it may do everything: it listens on this machine alone")
    if not acls:
        return Check(
            "rights",
            Status.WARNING,
            "no ACLs: unless an authorizer of another kind says otherwise, every agent may write everything",
            "switch one on where teams share the cluster, and give each agent a user and rights of its own",
        )
    return Check("rights", Status.OK, f"{counted(acls, 'ACL')}")
