"""What an agent must be allowed is derived from what it declares: all of it, and nothing besides."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon import Agent, Event
from antiphon.bus.consumer import Consumer, Guarantee
from antiphon.bus.names import Names
from antiphon.bus.port import Membership
from antiphon.bus.right import Operation, Pattern, Resource, Right
from antiphon.bus.rights import Kind, Role, notes_on, plan_rights, principal_of, rights_of, rights_of_all, role_of
from antiphon.bus.topics import needed
from antiphon.compensation.coordinator import coordinator


class SeatAsked(Event):
    seat: str


class SeatTaken(Event):
    seat: str


class SeatFreed(Event):
    seat: str


NAMES = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,5}", fullmatch=True)
"""Of agents, as `names.is_legal` has them."""

seats = Agent("seats")


@seats.on(SeatAsked)
async def take(asked: SeatAsked) -> SeatTaken:
    return SeatTaken(seat=asked.seat)


@seats.undoes(SeatTaken)
async def free(taken: SeatTaken) -> SeatFreed:
    return SeatFreed(seat=taken.seat)


holder = Agent("holder")


@holder.on(SeatAsked, holds="seat")
async def hold(asked: SeatAsked) -> SeatTaken:
    return SeatTaken(seat=asked.seat)


def said(rights: list[Right]) -> set[str]:
    return {f"{right.operation} {right.resource} {right.pattern} {right.name}" for right in rights}


def test_an_agent_needs_what_it_declares_and_nothing_besides() -> None:
    """Under a namespace, and with the topics already made."""
    assert said(rights_of(role_of(seats.consumer()), Names("box"), creates=False)) == {
        "Read topic literal box.seat.asked",
        "Read topic literal box.seats.redrive",
        "Read topic literal box.seats.undo",
        "Read topic literal box.seats.state",
        "Read topic literal box.antiphon.agents",
        "Read topic literal box.antiphon.schemas",
        "Write topic literal box.seat.taken",
        "Write topic literal box.seat.freed",
        "Write topic literal box.seats.dead",
        "Write topic literal box.seats.state",
        "Write topic literal box.antiphon.activity",
        "Write topic literal box.antiphon.agents",
        "Write topic literal box.antiphon.schemas",
        "Read group literal box.seats",
        "Write transactional-id prefixed box.seats/",
    }


@pytest.mark.parametrize("consumer", [seats.consumer(), holder.consumer(), coordinator()], ids=lambda one: one.name)
def test_it_may_make_the_topics_that_it_makes(consumer: Consumer) -> None:
    """Those that the worker would make, and no others: the two lists are written in two places."""
    others = [role_of(seats.consumer()), role_of(holder.consumer())]
    rights = rights_of(role_of(consumer), Names(), others=others)
    creates = [right.name for right in rights if right.operation is Operation.CREATE]
    assert creates == sorted(needed([consumer], Names()))


@given(NAMES, NAMES, st.sampled_from(["", "box"]), st.text())
def test_nobody_may_begin_transactions_as_another_agent(one: str, other: str, namespace: str, instance: str) -> None:
    """However their names begin, and whatever an instance is called: the right of the one covers no id of the other."""
    names = Names(namespace)
    role = Role(agent=one, hears=frozenset(), says=frozenset())
    [right] = [right for right in rights_of(role, names) if right.resource is Resource.TRANSACTIONAL_ID]
    ids = {
        agent: Membership(group=names.group(agent), topics=(), instance=instance).transactional_id
        for agent in (one, other)
    }
    assert {agent for agent, id in ids.items() if id.startswith(right.name)} == {one}


def test_at_least_once_has_no_transactions() -> None:
    """And so needs no transactional id."""
    role = role_of(dataclasses.replace(seats.consumer(), guarantee=Guarantee.AT_LEAST_ONCE))
    assert [right for right in rights_of(role, Names()) if right.resource is Resource.TRANSACTIONAL_ID] == []


def test_a_registry_keeps_the_schemas() -> None:
    """Those of values; on their topic agents still tell with which they read and write."""
    rights = rights_of(role_of(seats.consumer()), Names(), creates=False, registry=True)
    assert [str(right) for right in rights if right.name == "antiphon.schemas"] == [
        "Read on topic 'antiphon.schemas'",
        "Write on topic 'antiphon.schemas'",
    ]


def test_the_coordinator_speaks_to_the_agents_it_is_named_with() -> None:
    """On the topics on which they are asked, and to nobody else."""
    roles = [role_of(agent) for agent in (seats.consumer(), holder.consumer(), coordinator())]
    rights = rights_of_all(roles, Names(), creates=False)["compensation"]
    assert sorted(
        right.name for right in rights if right.operation is Operation.WRITE and right.resource is Resource.TOPIC
    ) == [
        "antiphon.activity",
        "antiphon.agents",
        "antiphon.lock.events",
        "antiphon.saga.events",
        "antiphon.schemas",
        "compensation.dead",
        "compensation.state",
        "holder.answered",
        "seats.undo",
    ]


def test_what_a_list_of_rights_leaves_open_is_said() -> None:
    """An agent that may say anything, and a coordinator alone."""
    anything = Role(agent="seats.vip", hears=frozenset(), says=None)
    alone = Role(agent="compensation", hears=frozenset(), says=None)
    found = notes_on([anything, alone, Role(agent="seats", hears=frozenset(), says=frozenset())])
    assert [(note.kind, note.agent) for note in found] == [
        (Kind.SPEAKS_TO_NOBODY, "compensation"),
        (Kind.SAYS_ANYTHING, "seats.vip"),
    ]


def test_principals_are_named_by_a_template() -> None:
    """As the cluster's own rules call them."""
    assert principal_of("seats", "User:CN={agent},O=box") == "User:CN=seats,O=box"


EVERY = [Right(*one) for one in itertools.product(Operation, Resource, "ab", Pattern)]
SOME = st.lists(st.sampled_from(EVERY), max_size=6)
BY_PRINCIPAL = st.fixed_dictionaries({}, optional={"User:a": SOME, "User:b": SOME})


@given(BY_PRINCIPAL, BY_PRINCIPAL)
def test_granting_a_plan_leaves_nothing_to_grant(
    wanted: dict[str, list[Right]], existing: dict[str, list[Right]]
) -> None:
    """And nothing that was there is gone."""
    plan = plan_rights(wanted, existing)
    after = {
        principal: [*existing.get(principal, ()), *plan.grant.get(principal, ())]
        for principal in wanted.keys() | existing.keys()
    }
    assert plan_rights(wanted, after).is_done
    assert all({*wanted[principal]} <= {*after[principal]} for principal in wanted)
    assert all({*existing[principal]} <= {*after[principal]} for principal in existing)
