"""From settings to a broker and a schema store."""

from __future__ import annotations

from importlib.util import find_spec

from antiphon.bus.claims import Claims, ClaimStore, FileClaims
from antiphon.bus.errors import SettingsError
from antiphon.bus.kafka.config import GroupProtocol, KafkaConfig
from antiphon.bus.names import Names
from antiphon.bus.port import Bus
from antiphon.bus.schema_topic import TopicStore
from antiphon.bus.security import registry_options
from antiphon.bus.settings import Settings, masked
from antiphon.schemas.store import SchemaStore


def connect(settings: Settings) -> Bus:
    """Return the broker *settings* name. Nothing is asked of it yet.

    Raises `SettingsError` where what is said of who a client is does not fit together.
    """
    from antiphon.bus.kafka.bus import KafkaBus  # noqa: PLC0415 - the client, which no command's --help waits for

    return KafkaBus(kafka_config(settings))


def kafka_config(settings: Settings) -> KafkaConfig:
    """Return what *settings* say of the cluster, for every client alike. Raises `SettingsError`."""
    protocol = settings.group_protocol
    return KafkaConfig(
        bootstrap_servers=settings.bootstrap_servers,
        options=settings.client_options(),
        group_protocol=None if protocol is None else GroupProtocol(protocol),
        give_up_s=settings.give_up,
    )


def schema_store(settings: Settings, bus: Bus, names: Names, partitions: int | None) -> SchemaStore:
    """Return the registry *settings* name, or the mesh's own schema topic."""
    if settings.registry:
        from antiphon.schemas.registry import RegistryStore  # noqa: PLC0415 - 0.3 s of every start, and few have one

        options = registry_options(settings.security)
        if "basic.auth.user.info" in options and "@" in settings.registry:
            expected = "an address without a login, as ANTIPHON_SECURITY_REGISTRY_USER is set"
            raise SettingsError("registry", expected, masked("registry", settings.registry), "ANTIPHON_REGISTRY")
        return RegistryStore(settings.registry, options=options)
    return TopicStore(bus, names, partitions=partitions)


def claim_check(settings: Settings) -> Claims:
    """Return what *settings* say of values too large for a record."""
    return Claims(_claim_store(settings.claims) if settings.claims else None, limit=settings.claim_threshold)


def _claim_store(place: str) -> ClaimStore:
    if not place.startswith("s3://"):
        return FileClaims(place)
    if find_spec("botocore") is None:
        expected = "a folder, as the client for object stores is not installed (pip install 'antiphon[s3]')"
        raise SettingsError("claims", expected, place, "ANTIPHON_CLAIMS")
    from antiphon.bus.claims_s3 import S3Claims  # noqa: PLC0415 - 0.3 s of every start, and an extra

    return S3Claims(place)
