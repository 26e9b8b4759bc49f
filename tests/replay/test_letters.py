"""Choosing dead letters, and deciding about each once."""

from __future__ import annotations

import pytest

from antiphon import Event
from antiphon.bus.dead_letter import dead_letter
from antiphon.bus.errors import BusError
from antiphon.bus.memory.bus import MemoryBus
from antiphon.bus.names import Names
from antiphon.bus.port import TopicSpec
from antiphon.bus.record import Outgoing, Position, Record, TopicPartition
from antiphon.bus.redrive import unsettled
from antiphon.replay.editing import editable, edited
from antiphon.replay.errors import LetterEditError, LetterGoneError
from antiphon.replay.letter import letter_of
from antiphon.replay.letters import Selection, chosen, read_letters, settling
from antiphon.schemas.condition import Condition
from antiphon.schemas.envelope import Envelope, to_headers
from antiphon.testing.mesh import MemoryMesh

NAMES = Names()
BUS_TOPICS = ("claim.filed", "payer.dead", "payer.redrive")


class ClaimFiled(Event):
    claim: str
    amount: int = 0


async def shelf(*amounts: int, length: int = 0, limit: int = 900_000) -> MemoryMesh:
    """Make a mesh on which payer has set aside a claim of each of *amounts*."""
    mesh = MemoryMesh(partitions=2)
    await mesh.bus.create([TopicSpec(topic, 2) for topic in BUS_TOPICS])
    await mesh.codec.announce({ClaimFiled})
    for number, amount in enumerate(amounts):
        value = mesh.codec.encode(ClaimFiled(claim=f"c{number}" + "." * length, amount=amount))
        envelope = Envelope.root("claim.filed", source="/test", id=f"e{number}")
        [position] = await mesh.bus.publish([Outgoing("claim.filed", b"k", value, to_headers(envelope), partition=1)])
        record = Record(*position, b"k", value, to_headers(envelope), 0)
        error = ValueError("too dear")
        letter = dead_letter("payer.dead", record, error, agent="payer", reason="permanent", attempts=1, limit=limit)
        await mesh.bus.publish([letter])
    return mesh


async def ids(mesh: MemoryMesh) -> list[str | None]:
    return [letter.event_id for letter in await read_letters(mesh.bus, NAMES, ["payer"])]


async def test_letters_are_chosen_by_what_they_say_and_by_their_data() -> None:
    """All that is asked has to hold."""
    mesh = await shelf(1, 5, 9)
    letters = await read_letters(mesh.bus, NAMES, ["payer"])

    async def found(selection: Selection) -> list[str | None]:
        return [letter.event_id for letter in await chosen(letters, selection, NAMES, mesh.codec)]

    assert await found(Selection()) == ["e0", "e1", "e2"]
    assert await found(Selection(types=frozenset({"claim.filed"}), where=(Condition.parse("amount>=5"),))) == [
        "e1",
        "e2",
    ]
    assert await found(Selection(reasons=frozenset({"exhausted"}))) == []
    assert await found(Selection(since_us=letters[1].time_us)) == ["e1", "e2"]


async def test_a_letter_is_decided_about_once() -> None:
    """What was redriven or discarded is on nobody's list any more, and is not there to be decided about again."""
    mesh = await shelf(1, 2, 3)
    async with settling(mesh.bus, NAMES, "payer") as settle:
        first, second, _ = settle.letters.values()
        await settle.redrive([first], actor="ada")
        await settle.discard([second], actor="ada")

    assert await ids(mesh) == ["e2"]
    assert [record.key for record in await mesh.records("payer.redrive")] == [b"k"]


async def test_of_two_that_decide_at_once_the_later_one_does() -> None:
    """The earlier one can commit nothing after the later one has read what there is."""
    mesh = await shelf(1)
    async with settling(mesh.bus, NAMES, "payer") as early, settling(mesh.bus, NAMES, "payer") as late:
        with pytest.raises(BusError):
            await early.redrive([*early.letters.values()], actor="ada")
        await late.redrive([*late.letters.values()], actor="bob")

    assert len(await mesh.records("payer.redrive")) == 1


async def test_what_did_not_fit_into_a_letter_is_fetched_from_its_origin() -> None:
    """The note is still about the letter, not about the origin."""
    mesh = await shelf(7, length=2_000, limit=1_500)
    [letter] = await read_letters(mesh.bus, NAMES, ["payer"])
    assert "value" in letter.left_out
    async with settling(mesh.bus, NAMES, "payer") as settle:
        await settle.redrive([letter], actor="ada")

    [again] = await mesh.records("payer.redrive")
    assert (mesh.codec.decode(ClaimFiled, again.value or b"").amount, await ids(mesh)) == (7, [])


async def test_a_letter_whose_event_is_gone_stays() -> None:
    """It says what lacked, and where that stood."""
    mesh = await shelf(7, length=2_000, limit=1_500)
    assert isinstance(mesh.bus, MemoryBus)
    mesh.bus.truncate(TopicPartition("claim.filed", 1), 1)
    async with settling(mesh.bus, NAMES, "payer") as settle:
        with pytest.raises(LetterGoneError, match=r"claim\.filed\[1\]@0"):
            await settle.redrive([*settle.letters.values()], actor="ada")

    assert await ids(mesh) == ["e0"]


async def test_an_edited_event_goes_back_under_its_schema() -> None:
    """Its ids stay, its data is what was typed."""
    mesh = await shelf(7)
    async with settling(mesh.bus, NAMES, "payer") as settle:
        [letter] = settle.letters.values()
        found = await editable(letter.record, mesh.codec, mesh.claims)
        change = await edited(found, found.text.replace("7", "8"), NAMES, mesh.codec, mesh.claims)
        await settle.redrive([letter], actor="ada", edited={letter.place: change})

    [again] = await mesh.records("payer.redrive")
    assert mesh.codec.decode(ClaimFiled, again.value or b"") == ClaimFiled(claim="c0", amount=8)
    assert dict(again.headers)["ce_id"] == b"e0"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"claim": "c0", "amount": "much"}', "field 'amount'"),
        ('{"claim": "c0", "amountt": 1}', "did you mean 'amount'"),
        ("{", "line 1, column"),
    ],
)
async def test_a_wrong_edit_says_what_does_not_fit(text: str, said: str) -> None:
    """Every field with what was expected and what came; the letter is named, and stays."""
    mesh = await shelf(7)
    [letter] = await read_letters(mesh.bus, NAMES, ["payer"])
    found = await editable(letter.record, mesh.codec, mesh.claims)

    with pytest.raises(LetterEditError) as refused:
        await edited(found, text, NAMES, mesh.codec, mesh.claims)

    assert said in str(refused.value)
    assert letter.place in str(refused.value)


async def test_what_cannot_be_read_cannot_be_edited() -> None:
    """Bytes of a schema that nobody has."""
    mesh = await shelf()
    record = Record("payer.dead", 0, 0, b"k", b"\xc3\x01" + b"x" * 12, [], 0)

    with pytest.raises(LetterEditError, match="the letter payer"):
        await editable(record, mesh.codec, mesh.claims)


def test_a_letter_is_read_whatever_it_lacks() -> None:
    """A record that somebody else wrote there is shown, not refused."""
    letter = letter_of(Record("payer.dead", 0, 3, None, b"?", [], 5), NAMES)

    assert (letter.agent, letter.event_id, letter.origin, letter.time_us) == ("payer", None, Position("", 0, 0), 5_000)
    assert unsettled([letter.record]) == [letter.record]
