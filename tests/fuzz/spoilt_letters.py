"""Readers of what was set aside, and of what is handed in again."""

from __future__ import annotations

import orjson
from ground import NAMES, Ground, Reader

from antiphon.bus.record import Record, TopicPartition
from antiphon.bus.redrive import note_in, origin_of, redriven, unsettled
from antiphon.replay.letter import letter_of
from antiphon.tracing.records import event_in


class Letters:
    """Dead letters, and redrives."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def readers(self) -> list[Reader]:
        """Return this part of the table."""
        topics, one = self._ground.corpus.topics, self._ground.one
        letters = [record for topic, found in topics.items() if topic.endswith(".dead") for record in found]
        return [
            Reader("dead letters", one(letters), self.letter, (), 8),
            Reader("events handed in again", one(topics["archive.redrive"]), self.redriven, (), 5),
        ]

    async def letter(self, record: Record) -> None:
        letter = letter_of(record, NAMES)
        orjson.dumps(letter.document())
        note_in(record)
        unsettled([record, record])
        redriven("archive.redrive", record, origin=letter.origin)
        await event_in(record, NAMES, self._ground.codec, self._ground.corpus.kept.store())

    async def redriven(self, record: Record) -> None:
        place = origin_of(record)
        if place is not None:
            TopicPartition(place.topic, place.partition)
            orjson.dumps([*place])
        again = redriven("archive.redrive", record, origin=letter_of(record, NAMES).origin)
        assert again.partition == record.partition
