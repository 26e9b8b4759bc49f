"""What a redriven event is on the wire, and that its agent alone handles it, as the event it was."""

from __future__ import annotations

from antiphon import Agent, Context, Event, PermanentError
from antiphon.bus.names import Names
from antiphon.bus.record import Outgoing, Position, Record
from antiphon.bus.redrive import Act, Note, count_of, note, note_in, origin_of, redriven, unsettled
from antiphon.replay.letters import settling
from antiphon.testing.mesh import MemoryMesh
from antiphon.testing.waiting import eventually


class ClaimFiled(Event):
    claim: str


class ClaimPaid(Event):
    claim: str
    seen: int


def as_record(outgoing: Outgoing, offset: int) -> Record:
    return Record(outgoing.topic, outgoing.partition or 0, offset, outgoing.key, outgoing.value, [*outgoing.headers], 0)


LETTER = Record("payer.dead", 2, 7, b"k", b"v", [("ce_id", b"e1"), ("antiphon_dead_reason", b"permanent")], 0)
FILED = Position("claim.filed", 2, 40)


def test_a_redriven_event_is_what_it_was_before_it_was_set_aside() -> None:
    """Key, value, partition and the event's own headers; beside them, how often it came back and where it first stood."""
    again = redriven("payer.redrive", LETTER, origin=FILED)

    assert again == Outgoing(
        "payer.redrive",
        b"k",
        b"v",
        [("ce_id", b"e1"), ("antiphon_redriven_from", b"claim.filed[2]@40"), ("antiphon_redriven", b"1")],
        partition=2,
    )


def test_redrives_are_counted_and_the_first_origin_is_kept() -> None:
    """A letter of a redriven event stood on the redrive topic; the event itself still stands where it was published."""
    once = as_record(redriven("payer.redrive", LETTER, origin=FILED), 0)
    twice = as_record(redriven("payer.redrive", once, origin=Position("payer.redrive", 2, 0)), 1)

    assert (count_of(LETTER), count_of(once), count_of(twice)) == (0, 1, 2)
    assert (origin_of(LETTER), origin_of(twice)) == (None, FILED)


def test_an_edited_event_is_not_the_one_at_its_origin() -> None:
    """Whoever looks at the trace is told of two."""
    edit = Outgoing("payer.dead", b"k", b"other", LETTER.headers)
    again = as_record(redriven("payer.redrive", LETTER, origin=FILED, edited=edit), 0)

    assert (again.value, origin_of(again)) == (b"other", None)


def test_a_letter_with_a_note_is_settled() -> None:
    """The note is about the letter at an offset of its own partition, and no letter itself."""
    noted = as_record(note(LETTER, Act.DISCARDED, actor="ada@desk", at_us=0), 9)
    elsewhere = Record("payer.dead", 1, 7, b"k", b"v", LETTER.headers, 0)

    assert note_in(noted) == Note(7, "discarded", "ada@desk", "1970-01-01T00:00:00.000000Z")
    assert note_in(LETTER) is None
    assert unsettled([noted, LETTER, elsewhere]) == [elsewhere]


async def test_a_redriven_event_is_handled_by_its_agent_alone_with_the_state_it_left() -> None:
    """Those who have handled it do not hear it again; what comes of it is a part of the same workflow."""
    mesh = MemoryMesh()
    broken = True
    heard: list[str] = []
    payer, auditor = Agent("payer"), Agent("auditor")

    @payer.on(ClaimFiled)
    async def pay(filed: ClaimFiled, context: Context) -> ClaimPaid:
        if broken:
            raise PermanentError("the bank is closed")
        context.state["seen"] = context.state.get("seen", 0) + 1
        return ClaimPaid(claim=filed.claim, seen=context.state["seen"])

    @auditor.on(ClaimFiled)
    async def audit(filed: ClaimFiled) -> None:
        heard.append(filed.claim)

    async with mesh.running(payer, auditor):
        await mesh.publish(ClaimFiled(claim="c1"))
        await eventually(lambda: mesh.records("payer.dead"), 30, what="the letter")
        broken = False
        async with settling(mesh.bus, Names(), "payer") as settle:
            await settle.redrive([*settle.letters.values()], actor="ada@desk")
        [paid] = await mesh.eventually(ClaimPaid, count=1)
        async with settling(mesh.bus, Names(), "payer") as settle:
            left = [*settle.letters]

    [(filed, _)], [(answer, _)] = await mesh.events(ClaimFiled), await mesh.events(ClaimPaid)
    assert (paid.seen, heard, left) == (1, ["c1"], [])
    assert (answer.correlation_id, answer.parent_id) == (filed.correlation_id, filed.id)
