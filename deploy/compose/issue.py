"""Certificates and passwords for docker-compose.secure.yml, made once: an authority, the broker's certificate, a password a user.

    python issue.py FOLDER HOST USER...

Each gets a folder of its own, and is shown no other: `broker` with what a broker
needs, and for each user the authority's certificate and a password. For a demo on one
machine: the authority's key is thrown away, so nothing can be added to it later.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALID = timedelta(days=365)
DONE = "complete"


def make(folder: Path, hosts: list[str], users: list[str]) -> bool:
    """Make what is not there yet; returns whether anything was. Others than who runs this may read the broker's alone."""
    if (folder / DONE).exists():
        return False
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("antiphon demo", "antiphon demo", key, key, ca=True)
    pem = authority.public_bytes(serialization.Encoding.PEM)
    broker = ec.generate_private_key(ec.SECP256R1())
    signed = _certificate("kafka", "antiphon demo", broker, key, hosts=hosts)
    private = broker.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # The broker of the image is another user.
    _write(folder / "broker" / "broker.pem", private + signed.public_bytes(serialization.Encoding.PEM), mode=0o644)
    _write(folder / "broker" / "ca.pem", pem, mode=0o644)
    for user in users:
        _write(folder / user / "ca.pem", pem)
        _write(folder / user / "password", secrets.token_urlsafe(24).encode())
    (folder / DONE).touch()
    return True


def _certificate(
    subject: str,
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    *,
    hosts: list[str] | None = None,
    ca: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(subject))
        .issuer_name(_named(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=0 if ca else None), critical=True)
        .add_extension(usage, critical=True)
    )
    if hosts:
        names = [x509.IPAddress(ipaddress.ip_address(one)) if one[0].isdigit() else x509.DNSName(one) for one in hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = builder.add_extension(purpose, critical=False)
    return builder.sign(by, hashes.SHA256())


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Never readable by others, not for a moment either.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    path.chmod(mode)


if __name__ == "__main__":
    place, host, *users = sys.argv[1:]
    made = make(Path(place), [*host.split(",")], users)
    sys.stderr.write(
        f"{'made' if made else 'there are'} certificates and passwords for {', '.join(users)} in {place}\n"
    )
