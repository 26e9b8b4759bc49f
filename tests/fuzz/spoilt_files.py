"""Readers of files that people hand one another: bundles, and reports of replays."""

from __future__ import annotations

import json
import zlib
from functools import cached_property
from hashlib import sha256
from typing import Any

from corpus import fingerprint_of
from ground import NAMES, Ground, Reader
from mutator import Mutator

from antiphon.bus.activity import Activity
from antiphon.replay.bundle import read as read_bundle
from antiphon.replay.bundle import write as write_bundle
from antiphon.replay.diff import of_reports, read_report
from antiphon.replay.errors import BundleError, NoReportError
from antiphon.replay.recording import Recording, StatesBefore, handlings
from antiphon.schemas.codec import Codec
from antiphon.schemas.errors import SchemaError
from antiphon.tracing.records import event_in


class Files:
    """Everything that is read from a file."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def readers(self) -> list[Reader]:
        """Return this part of the table."""
        return [
            Reader("bundles", self.bundled, self.bundle, (BundleError,), 2),
            Reader("bundles that were edited", self.edited, self.bundle, (BundleError, SchemaError), 3),
            Reader("reports of replays", self.reported, self.report, (NoReportError,), 2),
        ]

    @cached_property
    def _bundle(self) -> bytes:
        activity = [
            self._ground.codec.decode(Activity, record.value or b"")
            for record in self._ground.corpus.topics["antiphon.activity"]
        ]
        told = handlings(activity)
        events = {
            dict(record.headers)["ce_id"].decode(): record  # type: ignore[union-attr]  # every event has one
            for record in self._ground.corpus.events
            if record.value
        }
        wanted = {one.entry.event_id for one in told}
        recording = Recording(
            handlings=told, events={id: one for id, one in events.items() if id in wanted}, changes={"counter": []}
        )
        return write_bundle(recording, {fingerprint_of(schema): schema for schema in self._ground.corpus.schemas[:12]})

    def bundled(self, mutator: Mutator) -> bytes:
        return mutator.content(self._bundle)

    def edited(self, mutator: Mutator) -> bytes:
        """A document that somebody has changed, with a head that fits it."""
        document = mutator.json(json.loads(zlib.decompress(self._bundle.partition(b"\n")[2])))
        body = json.dumps(document).encode()
        head = {"antiphon_bundle": 1, "length": len(body), "sha256": sha256(body).hexdigest()}
        if mutator.draw.random() < 0.1:
            head = mutator.json(head)
        return json.dumps(head).encode() + b"\n" + zlib.compress(body, 1)

    async def bundle(self, content: bytes) -> None:
        file = self._ground.folder / "spoilt.antiphon"
        file.write_bytes(content)
        recording, schemas = read_bundle(file)
        StatesBefore(recording.handlings, recording.changes)
        recording.gone()
        codec = Codec(schemas)
        await schemas.types()
        for record in [*recording.events.values()][:3]:
            await event_in(record, NAMES, codec)

    def reported(self, mutator: Mutator) -> bytes:
        item: dict[str, Any] = {"event_id": "e", "agent": "a", "kind": "missing", "type": "t", "fields": []}
        document: dict[str, Any] = {"workflows": 1, "same": 1, "different": 1, "differences": [item], "skipped": [item]}
        text = json.dumps(mutator.json(document)).encode()
        return mutator.content(text) if mutator.draw.random() < 0.3 else text

    async def report(self, content: bytes) -> None:
        file = self._ground.folder / "spoilt.json"
        file.write_bytes(content)
        report = read_report(file)
        of_reports(report, report)
