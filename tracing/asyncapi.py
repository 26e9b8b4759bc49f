"""The mesh as an AsyncAPI 3 document: topics, events with their Avro schemas, and who says and hears what."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from antiphon.bus.contracts import Contract, Contracts
from antiphon.bus.names import Names
from antiphon.schemas.compatibility import schema_as_json
from antiphon.schemas.nodes import attribute

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
_UNKNOWN: Mapping[str, Any] = {"description": "Nobody has told with which schema."}
_HEADERS: Mapping[str, Any] = {
    "type": "object",
    "description": "CloudEvents 1.0, Kafka binding, binary mode.",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "ce_correlationid"],
    "properties": {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_id": {"type": "string"},
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_correlationid": {"type": "string", "description": "The workflow."},
        "ce_causationid": {"type": "string", "description": "The event that caused it."},
        "ce_causes": {"type": "string"},
        "ce_hops": {"type": "string"},
        "ce_deadline": {"type": "string", "format": "date-time"},
        "ce_budget": {"type": "string"},
        "traceparent": {"type": "string"},
    },
}


def asyncapi(contracts: Contracts, *, names: Names, title: str, version: str) -> dict[str, Any]:
    """Describe what agents read and write, as AsyncAPI 3.0 says it.

    Channels are topics, as the cluster calls them. An event is described by its
    writer's schema; where no agent writes it, by its reader's.
    """
    said = [*contracts.writes, *contracts.reads]
    types: defaultdict[str, list[Contract]] = defaultdict(list)
    topics: defaultdict[str, set[str]] = defaultdict(set)
    for contract in said:
        types[contract.type].append(contract)
        topics[contract.topic].add(contract.type)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": title, "version": version},
        "defaultContentType": "application/avro",
        "channels": {
            _id(topic): {
                "address": names.topic(topic),
                "messages": {_id(type): {"$ref": f"#/components/messages/{_id(type)}"} for type in sorted(on_it)},
            }
            for topic, on_it in sorted(topics.items())
        },
        "operations": dict(sorted([*_operations(contracts.writes, "send"), *_operations(contracts.reads, "receive")])),
        "components": {
            "messages": {_id(type): _message(type, found) for type, found in sorted(types.items())},
            "messageTraits": {"event": {"headers": _HEADERS}},
        },
    }


def _operations(contracts: Iterable[Contract], action: str) -> Iterable[tuple[str, dict[str, Any]]]:
    verb = {"send": "says", "receive": "hears"}[action]
    for one in contracts:
        channel = f"#/channels/{_id(one.topic)}"
        yield (
            f"{_id(one.agent)}-{verb}-{_id(one.type)}",
            {
                "action": action,
                "channel": {"$ref": channel},
                "messages": [{"$ref": f"{channel}/messages/{_id(one.type)}"}],
                "summary": f"{one.agent} {verb} {one.type}",
                "tags": [{"name": one.agent}],
            },
        )


def _message(type: str, contracts: Iterable[Contract]) -> dict[str, Any]:
    known = next((one.schema for one in contracts if one.schema is not None), None)
    schema = None if known is None else schema_as_json(known)
    doc = attribute(schema, "doc")
    message: dict[str, Any] = {
        "name": type,
        "contentType": "application/avro",
        "traits": [{"$ref": "#/components/messageTraits/event"}],
        "payload": _UNKNOWN if schema is None else {"schemaFormat": AVRO, "schema": schema},
        "bindings": {"kafka": {"key": {"type": "string", "description": _key(schema)}, "bindingVersion": "0.5.0"}},
    }
    return {**message, "summary": doc} if doc else message


def _key(schema: Mapping[str, Any] | None) -> str:
    field = attribute(attribute(schema, "antiphon"), "key")
    return "The correlation id." if field is None else f"The field {field}."


def _id(name: str) -> str:
    """Return a key that AsyncAPI takes, and that others write as part of a reference without escapes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name)
