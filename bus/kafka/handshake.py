"""Why somebody is not let in: a second look at an address, with words for what the client only calls a failure.

The client says "certificate verify failed" of a certificate that has expired,
of one for another host, and of one that nobody known has signed. So the
handshake is made once more, by Python's own TLS, which tells them apart.
"""

from __future__ import annotations

import dataclasses
import socket
import ssl
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from confluent_kafka import KafkaError

from antiphon.bus.kafka.tether import API_VERSIONS, speaks_kafka
from antiphon.bus.security import VARIABLE, Identity, Protocol

_WAIT_S = 2.0
# OpenSSL's numbers for what is wrong with a certificate.
_EXPIRED, _NOT_YET = 10, 9
_OTHER_HOST = frozenset((62, 64))
_UNKNOWN_SIGNER = frozenset((18, 19, 20, 21))

NOT_LET_IN = frozenset(
    (
        KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's own errors are spelt so
        KafkaError._SSL,  # noqa: SLF001 - as above
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.ILLEGAL_SASL_STATE,
    )
)
"""Errors of a broker that is there, and does not let this client in."""


@dataclasses.dataclass(frozen=True)
class Refusal:
    """Why, and what to do about it."""

    reason: str
    remedy: str
    is_plain: bool = True
    """However long a client tried, it would not be let in. Else it may just be that a broker begins or ends."""


_NO_TLS = Refusal(
    "it speaks no TLS at this address", f"Set {VARIABLE}PROTOCOL to PLAINTEXT or SASL_PLAINTEXT, or mend the port"
)


def look(address: str, identity: Identity, options: Mapping[str, object], *, gave_up: bool = True) -> Refusal | None:
    """Connect to *address* as a client would, and say why that goes wrong; None where it does not. Blocks for seconds.

    Unless the client *gave_up*, nothing is concluded from its having got no further.
    """
    host, _, port = address.strip().rpartition("://")[2].rpartition(":")
    host = host.strip("[]")
    if not (host and port.isdigit()):
        return None
    place = (host, int(port))
    try:
        if identity.transport.is_encrypted:
            return _look_encrypted(place, identity, options, gave_up=gave_up)
        return _look_plain(place)
    except OSError:
        return None


def shakes_hands(host: str, port: int, options: Mapping[str, object]) -> bool:
    """Say whether what answers there speaks TLS, whatever it or the client thinks of the other's certificate. Blocks for seconds."""
    try:
        with (
            socket.create_connection((host, port), timeout=_WAIT_S) as connection,
            _context(options).wrap_socket(connection, server_hostname=host),
        ):
            return True
    except ssl.SSLCertVerificationError:
        return True
    except ssl.SSLError as error:
        return "ALERT" in str(error.reason)
    except OSError:
        return False


def refused_login(error: KafkaError, identity: Identity) -> Refusal:
    """Say why a login was refused, by what the client says of it."""
    text = error.str() or ""
    if "supported mechanisms: " in text:
        offered = text.split("supported mechanisms: ")[1].split(" (after")[0]
        return Refusal(
            f"it does not take {identity.login or 'this login'}, but {offered}",
            f"Set {VARIABLE}MECHANISM to one of these",
        )
    if "token" in text.lower():
        return Refusal(
            "no token to log in with",
            f"See to {VARIABLE}TOKEN_URL, {VARIABLE}USER and {VARIABLE}PASSWORD, and what answers there",
        )
    if identity.login is None:
        return Refusal(
            "it wants a login",
            f"Set {VARIABLE}MECHANISM, {VARIABLE}USER and {VARIABLE}PASSWORD or {VARIABLE}PASSWORD_FILE",
        )
    return Refusal("wrong user or password", f"Set {VARIABLE}USER, and {VARIABLE}PASSWORD or {VARIABLE}PASSWORD_FILE")


def _look_encrypted(
    place: tuple[str, int], identity: Identity, options: Mapping[str, object], *, gave_up: bool
) -> Refusal | None:
    context = _context(options)
    with socket.create_connection(place, timeout=_WAIT_S) as connection:
        try:
            with context.wrap_socket(connection, server_hostname=place[0]) as encrypted:
                return _look_inside(encrypted, identity, gave_up=gave_up)
        except ssl.SSLCertVerificationError as error:
            return _of_its_certificate(error, place[0], options)
        except (ssl.SSLEOFError, ConnectionError, TimeoutError) as error:
            return _of_no_answer(place, error)
        except ssl.SSLError as error:
            if "ALERT" in str(error.reason):  # there may be none
                return _of_our_certificate(identity)
            return _NO_TLS


def _of_no_answer(place: tuple[str, int], error: OSError) -> Refusal:
    """Tell a port that is not for TLS from a broker that begins or ends, or a balancer before it: a broker answers to who asks it without."""
    is_mute = isinstance(error, TimeoutError)
    what = "it says nothing to a TLS handshake" if is_mute else "it closed the connection during the TLS handshake"
    if speaks_kafka(*place):
        return _NO_TLS
    return Refusal(
        f"{what} (it may speak no TLS here, or be restarting)",
        f"Try again; where it stays so: {_NO_TLS.remedy[0].lower()}{_NO_TLS.remedy[1:]}",
        is_plain=False,
    )


def _look_inside(encrypted: ssl.SSLSocket, identity: Identity, *, gave_up: bool) -> Refusal | None:
    """Ask what anybody may ask: a broker that wants another certificate says so only now."""
    try:
        encrypted.sendall(API_VERSIONS)
        answer = encrypted.recv(8)
    except TimeoutError:
        return None
    except ssl.SSLError:
        return _of_our_certificate(identity)
    except OSError:
        answer = b""
    if not answer:
        return _of_our_certificate(identity) if identity.transport is Protocol.SSL else None
    if identity.transport is Protocol.SSL and gave_up:
        # It talks to us, and yet the client got no further: that is so where a login is wanted.
        return Refusal(
            "it wants a login",
            f"Set {VARIABLE}MECHANISM, {VARIABLE}USER and {VARIABLE}PASSWORD or {VARIABLE}PASSWORD_FILE",
        )
    return None


def _look_plain(place: tuple[str, int]) -> Refusal | None:
    """Say whether what answers there waits for TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(place, timeout=_WAIT_S) as connection:
        try:
            context.wrap_socket(connection).close()
        except (ssl.SSLError, OSError):
            return None
    return Refusal("it speaks TLS at this address", f"Set {VARIABLE}PROTOCOL to SSL or SASL_SSL, and {VARIABLE}CA")


def _context(options: Mapping[str, object]) -> ssl.SSLContext:
    authorities = options.get("ssl.ca.location")
    context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
    if (certificate := options.get("ssl.certificate.location")) is not None:
        password = options.get("ssl.key.password")
        context.load_cert_chain(
            str(certificate),
            str(options.get("ssl.key.location", certificate)),
            None if password is None else str(password),
        )
    return context


def _of_its_certificate(error: ssl.SSLCertVerificationError, host: str, options: Mapping[str, object]) -> Refusal:
    if error.verify_code == _EXPIRED:
        return Refusal("its certificate has expired", "Have the brokers' certificate renewed")
    if error.verify_code == _NOT_YET:
        return Refusal("its certificate is not valid yet", "See to the clocks here and there")
    if error.verify_code in _OTHER_HOST:
        return Refusal(
            f"its certificate is not for {host!r}",
            "Use a name that it is for in ANTIPHON_BOOTSTRAP_SERVERS, or have one made for this",
        )
    authorities = options.get("ssl.ca.location", "this machine's authorities")
    if error.verify_code in _UNKNOWN_SIGNER:
        return Refusal(
            f"its certificate is signed by nobody that {authorities} knows",
            f"Set {VARIABLE}CA to the PEM file of the authority that signs the brokers' certificates",
        )
    return Refusal(f"its certificate is not good: {error.verify_message}", "Have the brokers' certificate mended")


def _of_our_certificate(identity: Identity) -> Refusal:
    if identity.certificate is None:
        return Refusal("it wants a certificate", f"Set {VARIABLE}CERTIFICATE and {VARIABLE}KEY")
    if (ended := _ended(Path(identity.certificate))) is not None:
        return Refusal(
            f"the certificate {identity.certificate} has expired ({ended:%Y-%m-%d %H:%M} UTC)", "Have it renewed"
        )
    return Refusal(
        f"it does not take the certificate {identity.certificate}",
        f"Set {VARIABLE}CERTIFICATE and {VARIABLE}KEY to one that an authority of the brokers' has signed",
    )


def _ended(certificate: Path) -> datetime | None:
    """Return when *certificate* expired, None where it has not."""
    from cryptography import x509  # noqa: PLC0415 - only this error needs it

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
    except (OSError, ValueError):
        return None
    return end if end < datetime.now(UTC) else None
