"""Accounts on the broker of docker-compose.secure.yml: each user can log in by SCRAM-SHA-512 with its password.

    python logins.py ADDRESS FOLDER USER...

Passwords come from the files that issue.py made; none is on a command line.
What agents may do follows from their code (`antiphon topics apply --acls`); what the
two may that are none, who submits and who traces, is said here. Again does no harm.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import admin as kafka

# Its stubs forget nearly all of these.
admin: Any = kafka

_ITERATIONS = 8_192
_WAIT_S = 30.0


def accounts(client: Any, folder: Path, users: list[str]) -> None:
    """Set each user's password, as its file has it; raises where the broker does not do so."""
    how = admin.ScramCredentialInfo(admin.ScramMechanism.SCRAM_SHA_512, _ITERATIONS)
    wanted: list[Any] = [
        admin.UserScramCredentialUpsertion(user, how, (folder / user / "password").read_bytes()) for user in users
    ]
    for answer in client.alter_user_scram_credentials(wanted, request_timeout=_WAIT_S).values():
        answer.result()


def rights(namespace: str) -> Iterator[Any]:
    """Yield what those may do that are no agents: look on, and one of them publish what starts a workflow."""
    prefix = f"{namespace}." if namespace else ""
    every = (namespace and prefix) or "*"
    pattern = admin.ResourcePatternType.PREFIXED if namespace else admin.ResourcePatternType.LITERAL
    for user in ("submit", "tracer"):
        yield _right(user, admin.ResourceType.TOPIC, every, admin.AclOperation.READ, pattern)
    for topic in ("package.submitted", "antiphon.schemas"):
        yield _right("submit", admin.ResourceType.TOPIC, prefix + topic, admin.AclOperation.WRITE)
    # Where several share an index, a group deals the partitions out among them.
    yield _right(
        "tracer",
        admin.ResourceType.GROUP,
        f"{prefix}antiphon.",
        admin.AclOperation.READ,
        admin.ResourcePatternType.PREFIXED,
    )


def _right(
    user: str,
    kind: Any,
    name: str,
    operation: Any,
    pattern: Any = admin.ResourcePatternType.LITERAL,
) -> Any:
    return admin.AclBinding(kind, name, pattern, f"User:{user}", "*", operation, admin.AclPermissionType.ALLOW)


def main() -> None:
    """Make the accounts, and grant what nobody else does."""
    address, folder, *users = sys.argv[1:]
    client = admin.AdminClient({"bootstrap.servers": address})
    accounts(client, Path(folder), users)
    for answer in client.create_acls([*rights(os.environ.get("ANTIPHON_NAMESPACE", ""))]).values():
        answer.result(_WAIT_S)
    sys.stderr.write(f"{', '.join(users)} can log in\n")


if __name__ == "__main__":
    main()
