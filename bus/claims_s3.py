"""The store of large values in a bucket of any object store that speaks S3's protocol.

Importing this module imports the client, which takes a third of a second: do so
only where such a store is configured.
"""

from __future__ import annotations

import threading
from typing import Any
from urllib.parse import urlsplit

from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs] - it has none of its own
from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs] - as above
from botocore.session import Session  # pyright: ignore[reportMissingTypeStubs] - as above

from antiphon.bus.claim import Claim
from antiphon.bus.errors import ClaimChangedError, ClaimMissingError, ClaimStoreError

_REMEDY = (
    "See that the bucket of ANTIPHON_CLAIMS exists, that AWS_ENDPOINT_URL_S3 and AWS_REGION are its own, and that the "
    "credentials of this process (AWS_ACCESS_KEY_ID and the client's other sources) may get, put and list there"
)
_TRIES = 3
_CONNECT_S = 5.0
_READ_S = 20.0


class S3Claims:
    """A store in *place*, `s3://bucket/prefix`: an object for each content, `<prefix>/<first two digits>/<hash>`.

    Endpoint, region and credentials are found as by every AWS tool: from
    AWS_ENDPOINT_URL_S3, AWS_REGION, AWS_ACCESS_KEY_ID and the like, from the
    files these tools share, or from the machine's role.

    A call tries three times, half a minute at the very most each, then raises
    `ClaimStoreError`. An object's time is that of the last `put`, so a rule of
    the bucket may expire what is older than the longest retention.
    """

    def __init__(self, place: str) -> None:
        parts = urlsplit(place)
        self._place = place
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._lock = threading.Lock()
        self._made: Any = None

    def put(self, content: bytes) -> Claim:
        claim = Claim.of(content)
        try:
            # Always: what was damaged is mended so, and what is used again stays young.
            self._client().put_object(Bucket=self._bucket, Key=self._key(claim), Body=content)
        except (BotoCoreError, ClientError, ValueError) as error:
            raise self._trouble(error) from error
        return claim

    def get(self, claim: Claim) -> bytes:
        try:
            answer = self._client().get_object(Bucket=self._bucket, Key=self._key(claim))
            with answer["Body"] as body:
                # Before it is read: nobody promised that an object somebody changed fits into memory.
                if (length := int(answer["ContentLength"])) != claim.length:
                    raise ClaimChangedError(str(claim), f"{length} bytes")
                content: bytes = body.read()
        except ClientError as error:
            if _code(error) == "NoSuchKey":
                raise ClaimMissingError(str(claim), self._place) from None
            raise self._trouble(error) from error
        except (BotoCoreError, ValueError) as error:
            raise self._trouble(error) from error
        return content

    def _key(self, claim: Claim) -> str:
        name = f"{claim.digest[:2]}/{claim.digest}"
        return f"{self._prefix}/{name}" if self._prefix else name

    def _client(self) -> Any:
        """Return the client, which any thread may use; made in the first one that needs it, not on the event loop."""
        with self._lock:
            if self._made is None:
                session: Any = Session()  # its methods are not typed
                options = Config(
                    connect_timeout=_CONNECT_S,
                    read_timeout=_READ_S,
                    retries={"mode": "standard", "total_max_attempts": _TRIES},
                    max_pool_connections=32,
                    # Other stores than AWS's own know neither its newer checksums nor a bucket in the host's name. The
                    # content's hash is signed instead, so damage on the way is refused.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    s3={"payload_signing_enabled": True, "addressing_style": "path"},
                )
                region = session.get_config_variable("region") or "us-east-1"
                self._made = session.create_client("s3", region_name=region, config=options)
            return self._made

    def _trouble(self, error: Exception) -> ClaimStoreError:
        said = f"{_code(error)}: {error}" if isinstance(error, ClientError) else str(error)
        return ClaimStoreError(self._place, said.rstrip("."), _REMEDY)


def _code(error: ClientError) -> str:
    answer: Any = error.response  # what the store said, in whatever shape
    return str(answer.get("Error", {}).get("Code", ""))
