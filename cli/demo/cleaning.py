"""Leaving somebody's cluster as it was found: what a run made there goes with it."""

from __future__ import annotations

import contextlib
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from antiphon.bus.settings import Settings

_ANSWER_S = 5.0


def remove_namespace(settings: Settings) -> bool:
    """Remove the topics and groups under the namespace of *settings*; says whether that worked. Blocks.

    For a namespace that nobody else knows: whatever stands under it is gone.
    """
    client: Any = AdminClient({**settings.client_options(), "bootstrap.servers": settings.bootstrap_servers})
    prefix = f"{settings.namespace}."
    try:
        topics = [name for name in client.list_topics(timeout=_ANSWER_S).topics if name.startswith(prefix)]
        listed = client.list_consumer_groups(request_timeout=_ANSWER_S).result().valid
        groups = [group.group_id for group in listed if group.group_id.startswith(prefix)]
        # A group whose members were killed has them still, until their session ends: it may say no.
        with contextlib.suppress(KafkaException):
            _await(client.delete_consumer_groups(groups, request_timeout=_ANSWER_S) if groups else {})
        _await(client.delete_topics(topics, operation_timeout=_ANSWER_S) if topics else {})
    except KafkaException:
        return False
    return True


def _await(futures: dict[str, Any]) -> None:
    for future in futures.values():
        future.result()
