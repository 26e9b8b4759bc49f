"""A schema registry with Confluent's REST API, as a store of schemas.

Importing this module imports the client, which takes half a second: do so only
where a registry is configured.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import TypeVar, cast
from urllib.parse import urlsplit, urlunsplit

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from antiphon.schemas.errors import RegistryError
from antiphon.schemas.nodes import attribute
from antiphon.schemas.store import AvroSchema, Framing, Reference

T = TypeVar("T")

_NOT_FOUND = 404
_CONFLICT = 409
_UNPROCESSABLE = 422
_REFUSED = (401, 403)


class RegistryStore:
    """Schemas in a registry, under Confluent's subject names: `<topic>-value`.

    *url* may carry a user and password (`https://user:secret@host`); neither
    is ever shown. *options* are the client's own, of TLS and login. Several addresses are separated by commas. *topic_of* makes
    of an event type what the cluster calls its topic. What was fetched is kept:
    an id never changes its meaning.
    """

    framing = Framing.CONFLUENT

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        topic_of: Callable[[str], str] = str,
        options: Mapping[str, str] | None = None,
    ) -> None:
        self._topic_of = topic_of
        self._url = ",".join(_without_secrets(part) for part in url.split(","))
        self._schemas: dict[int, AvroSchema] = {}
        self._ids: dict[tuple[str, str], int] = {}
        try:
            self._client = SchemaRegistryClient(
                # One more try covers a connection that was closed while idle. Waiting for longer is the worker's business.
                {"url": url, "timeout": timeout_s, "max.retries": 1, "retries.wait.ms": 100, **(options or {})}
            )
        except ValueError:
            raise RegistryError(
                "the address of a schema registry, as http://host:8081",
                self._url,
                "Set --registry or ANTIPHON_REGISTRY",
            ) from None

    def close(self) -> None:
        """Close the connections that wait to be used again."""
        self._client.close()

    async def publish(self, topic: str, schema: AvroSchema) -> Reference:
        text = json.dumps(schema, separators=(",", ":"), ensure_ascii=False)
        known = self._ids.get((topic, text))
        if known is not None:
            return known
        subject = f"{topic}-value"
        try:
            id = await self._call(lambda: self._client.register_schema(subject, Schema(text, "AVRO")))
        except SchemaRegistryError as error:
            raise self._refusal(subject, error) from error
        self._ids[topic, text] = id
        self._schemas[id] = schema
        return id

    async def fetch(self, reference: Reference) -> AvroSchema | None:
        if isinstance(reference, bytes):
            return None
        if reference not in self._schemas:
            try:
                found = await self._call(lambda: self._client.get_schema(reference))
            except SchemaRegistryError as error:
                if error.http_status_code == _NOT_FOUND:
                    return None
                raise self._trouble(f"the schema with id {reference}", error) from error
            self._schemas[reference] = self._parsed(found, f"id {reference}")
        return self._schemas[reference]

    async def latest(self, type: str) -> AvroSchema | None:
        schema = await self._latest_of(f"{self._topic_of(type)}-value")
        if schema is not None and _type_said(schema) in (type, None):
            return schema
        # Its class chose a topic of another name.
        for found_type, found in (await self._all()).items():
            if found_type == type:
                return found
        return None

    async def types(self) -> list[str]:
        return sorted(await self._all())

    async def _all(self) -> dict[str, AvroSchema]:
        try:
            subjects = _texts(await self._call(self._client.get_subjects))
        except SchemaRegistryError as error:
            raise self._trouble("the list of subjects", error) from error
        if subjects is None:
            remedy = "See what listens at that address, and mend --registry or ANTIPHON_REGISTRY"
            raise RegistryError(f"the list of subjects from {self._url}", "an answer that is none", remedy)
        found: dict[str, AvroSchema] = {}
        for subject in subjects:
            if subject.endswith("-value"):
                schema = await self._latest_of(subject)
                if schema is not None:
                    found[_type_said(schema) or subject.removesuffix("-value")] = schema
        return found

    async def _latest_of(self, subject: str) -> AvroSchema | None:
        try:
            found = await self._call(lambda: self._client.get_latest_version(subject))
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                return None
            raise self._trouble(f"the latest version of {subject!r}", error) from error
        return self._parsed(found.schema, f"subject {subject!r}")

    async def _call(self, ask: Callable[[], T]) -> T:
        """Ask in a thread, for the client blocks; raises `RegistryError` where nobody answers sensibly."""
        try:
            return await asyncio.to_thread(ask)
        except SchemaRegistryError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RegistryError(
                f"a schema registry at {self._url}",
                f"an answer that is not one's ({type(error).__name__})",
                "See what listens at that address, and mend --registry or ANTIPHON_REGISTRY",
            ) from error
        except Exception as error:
            raise RegistryError(
                f"a schema registry at {self._url}",
                f"no answer ({type(error).__name__})",
                "Start it, or mend --registry or ANTIPHON_REGISTRY",
            ) from error

    def _refusal(self, subject: str, error: SchemaRegistryError) -> RegistryError:
        if error.http_status_code == _CONFLICT:
            return RegistryError(
                f"{self._url} to take the new schema of {subject!r}",
                f"a refusal, because it is not compatible with what is registered: {_cut(error.error_message)}",
                "Give new fields a default and keep the types of old ones, or register a new event type",
            )
        if error.http_status_code == _UNPROCESSABLE:
            return RegistryError(
                f"{self._url} to take the schema of {subject!r}",
                f"a refusal: {_cut(error.error_message)}",
                "Mend the schema, or the registry's rules for this subject",
            )
        return self._trouble(f"to register {subject!r}", error)

    def _trouble(self, wanted: str, error: SchemaRegistryError) -> RegistryError:
        if error.http_status_code in _REFUSED:
            remedy = "Set ANTIPHON_SECURITY_REGISTRY_USER and _PASSWORD (or _PASSWORD_FILE) to a login that may do this"
            return RegistryError(f"{wanted} from {self._url}", f"HTTP {error.http_status_code}", remedy)
        got = f"HTTP {error.http_status_code}: {_cut(error.error_message)}"
        return RegistryError(f"{wanted} from {self._url}", got, "See what listens there, and its log; then try again")

    def _parsed(self, found: Schema, place: str) -> AvroSchema:
        kind = found.schema_type or "AVRO"
        if kind != "AVRO" or found.references:
            got = "one that refers to others" if found.references else f"one of type {kind}"
            remedy = "Register the event's schema as Avro, whole in itself"
            raise RegistryError(f"an Avro schema under {place} in {self._url}", got, remedy)
        try:
            schema = json.loads(found.schema_str or "")
        except (ValueError, TypeError, RecursionError):
            schema = None
        if not isinstance(schema, dict):
            got = _cut(found.schema_str or "nothing")
            raise RegistryError(f"a record's schema under {place} in {self._url}", got, "Register a record")
        return cast("AvroSchema", schema)


def _texts(said: object) -> list[str] | None:
    """Return a list of texts; None where somebody said something else."""
    if not isinstance(said, list):
        return None
    found = cast("list[object]", said)
    return [one for one in found if isinstance(one, str)] if all(isinstance(one, str) for one in found) else None


def _type_said(schema: AvroSchema) -> str | None:
    said: str | None = attribute(schema.get("antiphon"), "type")
    return said


def _without_secrets(url: str) -> str:
    parts = urlsplit(url.strip())
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _cut(text: object, most: int = 300) -> str:
    shown = str(text)
    return shown if len(shown) <= most else f"{shown[:most]}..."
