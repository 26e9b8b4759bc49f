"""An Apache Kafka that lets nobody in who cannot say who they are, and lets nobody do what they may not.

    LOGIN      TLS, SCRAM-SHA-512                     users, each with a password
    MUTUAL     TLS, a certificate from either side    the certificate's common name is the user
    EXPIRED    as LOGIN, its certificate has expired
    OPEN       plain text, for the broker's own use, and for the tests, who may do anything there

The authorizer is Kafka's own StandardAuthorizer: whoever is not allowed is denied.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from certificates import Authority
from cluster import LOGS, QUICK, Node, fetch_jars, free_ports, new_cluster_id

LISTENERS = ("OPEN", "LOGIN", "MUTUAL", "EXPIRED")
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


class SecuredKafka(Node):
    """One broker on loopback that is its own controller; *users* log in by SCRAM-SHA-512: name to password."""

    def __init__(self, users: Mapping[str, str]) -> None:
        self._parent = Path(tempfile.mkdtemp(prefix="antiphon-secured-"))
        super().__init__("secured", self._parent / "broker")
        self._users = users
        self._ports = dict(zip([*LISTENERS, "CONTROLLER"], free_ports(5), strict=True))
        self.authority = Authority(self._parent / "certificates")
        self.stranger = Authority(self._parent / "certificates", "stranger")

    def at(self, listener: str, host: str = "127.0.0.1") -> str:
        """Return the bootstrap servers of a listener."""
        return f"{host}:{self._ports[listener]}"

    def __enter__(self) -> Self:
        fetch_jars()
        self._configure()
        self.format(new_cluster_id(), (), users=self._users)
        self.start()
        self.await_answer(self._ports["OPEN"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        if error is not None:
            self.keep_log(LOGS / self._parent.name)
        shutil.rmtree(self._parent, ignore_errors=True)

    def _configure(self) -> None:
        mine = self.authority.sign("broker", hosts=["127.0.0.1"]).both
        expired = self.authority.sign("expired", hosts=["127.0.0.1"], valid_for=timedelta(days=-1)).both
        protocols = {
            "OPEN": "PLAINTEXT",
            "CONTROLLER": "PLAINTEXT",
            "LOGIN": "SASL_SSL",
            "MUTUAL": "SSL",
            "EXPIRED": "SASL_SSL",
        }
        properties = {
            "process.roles": "broker,controller",
            "node.id": "0",
            "controller.quorum.voters": f"0@127.0.0.1:{self._ports['CONTROLLER']}",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in self._ports.items()),
            "advertised.listeners": ",".join(f"{name}://127.0.0.1:{self._ports[name]}" for name in LISTENERS),
            "listener.security.protocol.map": ",".join(f"{name}:{how}" for name, how in protocols.items()),
            "inter.broker.listener.name": "OPEN",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(mine),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.authority.certificate),
            "listener.name.mutual.ssl.client.auth": "required",
            "listener.name.mutual.ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/",
            "listener.name.expired.ssl.keystore.type": "PEM",
            "listener.name.expired.ssl.keystore.location": str(expired),
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            **QUICK,
        }
        for listener in ("login", "expired"):
            properties[f"listener.name.{listener}.scram-sha-512.sasl.jaas.config"] = _SCRAM
        self.write(properties)
