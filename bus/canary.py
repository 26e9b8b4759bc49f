"""A canary: another version of an agent that handles a share of its workflows, in the same process.

Both are one consumer: one group, one offset, one state, one lane for each key.
So nothing has to be agreed on between them, and whatever is true of one version
under crashes and rebalances is true of two. What an event is handled by is
decided where it is taken, by its workflow's id (`bus.share`): attempts made again,
joins, answers, redrives and undos meet the version that the workflow began with,
as long as the share is what it was.

What a version does by itself is its own: handlers, middleware, the classes of its
events, the retry policy, the time-out. What the consumer is to the cluster and to
others, topics, concurrency, guarantee, expiry of state, is the stable one's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from antiphon.bus.consumer import Consumer, Lane
from antiphon.bus.errors import CanaryError
from antiphon.bus.heartbeat import AgentSeen
from antiphon.bus.share import Share
from antiphon.schemas.event import Declaration, Event


def beside(stable: Consumer, canary: Consumer, share: Share) -> Consumer:
    """Return *stable* with *canary* beside it, which handles *share* of its workflows.

    Raises `CanaryError` where a workflow could not go from one to the other, as it does when the share
    changes, or where the rest of the mesh would have to know that there are two.
    """
    if differences := [*_differences(stable, canary)]:
        raise CanaryError(stable.name, canary.version, differences)
    return dataclasses.replace(stable, canary=canary, share=share)


def _differences(stable: Consumer, canary: Consumer) -> Iterator[str]:
    if canary.name != stable.name:
        yield f"expected an agent named {stable.name!r}, got {canary.name!r}"
    if canary.version == stable.version:
        yield f"expected a version other than {stable.version!r}, by which traces tell them apart, got the same: say version="
    if Lane.PARTITION in (stable.lane, canary.lane):
        yield "expected agents, got a saga or the coordinator: a saga takes its earlier versions as previous="
    yield from _heard(stable, canary)
    yield from _said(stable, canary)
    yield from _unequal("undo", [*stable.undoes], [*canary.undoes])
    yield from _unequal("join", _joins(stable), _joins(canary))
    yield from _unequal("hold", _holds(stable), _holds(canary))


def _heard(stable: Consumer, canary: Consumer) -> Iterator[str]:
    yield from _unequal("hear", _users(stable.hears), _users(canary.hears))
    for type in sorted(stable.hears.keys() & canary.hears.keys()):
        yield from _declared(type, stable.hears[type], canary.hears[type])


def _said(stable: Consumer, canary: Consumer) -> Iterator[str]:
    known = {said.__event__.type: said for said in stable.emits or ()}
    says = {said.__event__.type: said for said in canary.emits or ()}
    for type in sorted(known.keys() & says.keys()):
        yield from _declared(type, known[type], says[type])
    if stable.emits is None:
        return
    if canary.emits is None or {*_users(says)} - known.keys():
        got = "anything" if canary.emits is None else _listed(_users(says))
        yield f"expected it to emit nothing but {_listed(_users(known))}, got {got}"
        return
    for type in sorted(stable.hears.keys() & canary.hears.keys()):
        may, does = _answers(stable, type), _answers(canary, type)
        if does - may:
            yield f"expected {type} to lead to nothing but {_listed(may)}, got {_listed(does)}"


def _declared(type: str, stable: type[Event], canary: type[Event]) -> Iterator[str]:
    if stable.__event__ != canary.__event__:
        yield f"expected {type} to be declared with {_declaration(stable.__event__)}, got {_declaration(canary.__event__)}"


def _declaration(said: Declaration) -> str:
    return f"topic={said.topic!r}, key={said.key!r}, fails={said.fails}"


def _unequal(verb: str, stable: Iterable[str], canary: Iterable[str]) -> Iterator[str]:
    if {*stable} != {*canary}:
        yield f"expected it to {verb} {_listed(stable)}, got {_listed(canary)}"


def _listed(types: Iterable[str]) -> str:
    return ", ".join(sorted(types)) or "nothing"


def _users(types: Iterable[str]) -> list[str]:
    # The mesh's own tell of holds and undos, which are compared by themselves.
    return [type for type in types if not type.startswith("antiphon.")]


def _answers(consumer: Consumer, type: str) -> set[str]:
    anything = [said.__event__.type for said in consumer.emits or ()]
    return {*_users(consumer.leads_to.get(type, anything))}


def _joins(consumer: Consumer) -> list[str]:
    """Return its joins: types that one function takes together."""
    together: dict[object, list[str]] = {}
    for type in sorted(consumer.joins):
        together.setdefault(consumer.functions.get(type), []).append(type)
    return [" + ".join(types) for types in together.values()]


def _holds(consumer: Consumer) -> list[str]:
    return [f"{field} for {type}" for type, field in consumer.holds.items()]


def uneven(workers: Iterable[AgentSeen]) -> Mapping[str, Mapping[str, list[str]]]:
    """Return of *workers* those whose agent's others have another canary, or another share: by agent, by what they have.

    While they do, a workflow goes to the one version or the other with its partition.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for seen in sorted(workers, key=lambda one: (one.agent, one.instance)):
        found.setdefault(seen.agent, {}).setdefault(shown(seen), []).append(seen.instance)
    return {agent: by_canary for agent, by_canary in found.items() if len(by_canary) > 1}


def shown(seen: AgentSeen) -> str:
    """Return the canary of a worker in words."""
    return "no canary" if seen.canary is None else f"{seen.canary.version} for {Share(seen.canary.share)}"
