"""Who led to an event, and how that is written."""

from __future__ import annotations

from typing import Any

from antiphon.tracing.chain import Link, chain_to, in_words


def item(id: str, type: str, parent: str | None, source: str) -> dict[str, Any]:
    return {"id": id, "type": type, "parent_id": parent, "source": source}


def links(*said: str) -> list[Link]:
    return [Link("", type, agent) for agent, type in (one.split(":") for one in said)]


def test_a_chain_begins_with_the_first_cause_that_is_seen() -> None:
    """Other branches are none of it; an event that nobody has seen is where it begins."""
    document = {
        "events": [
            item("b", "b", "gone", "/agents/ada"),
            item("other", "x", "b", "/agents/eve"),
            item("c", "c", "b", "/agents/bob"),
        ]
    }
    assert chain_to("c", document) == [Link("b", "b", "ada"), Link("c", "c", "bob")]
    assert chain_to("nobody's", document) == []


def test_a_chain_that_is_a_circle_in_its_records_ends() -> None:
    """Two records that name each other as their cause are somebody's mistake, and no reason to hang."""
    document = {"events": [item("a", "a", "b", "/x"), item("b", "b", "a", "/y")]}
    assert [link.event_id for link in chain_to("a", document)] == ["b", "a"]


def test_what_comes_round_again_is_written_once() -> None:
    """The circle that covers most, whatever stands before and after it."""
    assert in_words(links("app:begun", *["a:x", "b:y", "b:y"] * 33, "a:x")) == (
        "app: begun → (a: x → b: y → b: y) 33 times → a: x"
    )
    assert in_words(links(*["a:x"] * 100)) == "(a: x) 100 times"
    assert in_words(links("a:x", "b:y")) == "a: x → b: y"


def test_of_a_long_chain_without_a_circle_both_ends_are_written() -> None:
    """And how much lies between."""
    words = in_words(links(*[f"a{n}:x" for n in range(10_000)]))
    assert words.startswith("a0: x → a1: x → a2: x → (9985 more) → a9988: x → ")
    assert words.endswith(" → a9999: x")
