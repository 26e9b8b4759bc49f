"""One set of names for who a client is, whatever client: what fits together, what does not, and that no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from certificates import Authority, Pair

from antiphon.bus.connect import kafka_config
from antiphon.bus.errors import SettingsError
from antiphon.bus.security import Identity, Mechanism, Protocol, Security, client_options, identity, registry_options
from antiphon.bus.settings import Settings, explain, load

SECRET = "hunter2"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.sign("stock")


def test_nothing_said_is_nothing_told() -> None:
    """The client's own defaults hold: plain text."""
    assert client_options(Security()) == {}


def test_mutual_tls(authority: Authority, pair: Pair) -> None:
    """Certificates go by the paths of their files."""
    security = Security(ca=str(authority.certificate), certificate=str(pair.certificate), key=str(pair.key))
    assert client_options(security) == {
        "security.protocol": "SSL",
        "ssl.ca.location": str(authority.certificate),
        "https.ca.location": str(authority.certificate),
        "ssl.certificate.location": str(pair.certificate),
        "ssl.key.location": str(pair.key),
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_a_password_is_never_sent_in_plain_text_unasked(mechanism: str) -> None:
    """A login alone means TLS; who wants none says so."""
    said = {"mechanism": mechanism, "user": "stock", "password": SECRET}
    login = {"sasl.mechanism": mechanism, "sasl.username": "stock", "sasl.password": SECRET}
    assert client_options(Security.model_validate(said)) == {"security.protocol": "SASL_SSL", **login}
    open_ = Security.model_validate({**said, "protocol": "sasl_plaintext"})
    assert client_options(open_) == {"security.protocol": "SASL_PLAINTEXT", **login}


def test_tokens(tmp_path: Path) -> None:
    """OAUTHBEARER, the secret from a file whose last line is ended."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    security = Security(
        user="stock", password_file=str(tmp_path / "secret"), token_url="https://login/token", token_scope="kafka"
    )
    assert client_options(security) == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.method": "oidc",
        "sasl.oauthbearer.client.id": "stock",
        "sasl.oauthbearer.client.secret": SECRET,
        "sasl.oauthbearer.token.endpoint.url": "https://login/token",
        "sasl.oauthbearer.scope": "kafka",
    }


def test_the_registry_has_a_login_of_its_own(authority: Authority) -> None:
    """And the same authorities."""
    security = Security.model_validate(
        {"ca": str(authority.certificate), "registry_user": "stock", "registry_password": SECRET}
    )
    assert registry_options(security) == {
        "ssl.ca.location": str(authority.certificate),
        "basic.auth.user.info": f"stock:{SECRET}",
    }


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"user": "stock", "password": SECRET}, "expected security.mechanism to be set, as connections are SASL_SSL"),
        ({"mechanism": "PLAIN", "password": SECRET}, "expected security.user to be set, as it logs in by PLAIN"),
        ({"mechanism": "PLAIN", "user": "stock"}, "expected security.password to be set, as 'stock' logs in by PLAIN"),
        (
            {"mechanism": "PLAIN", "user": "stock", "password": SECRET, "password_file": "f"},
            "expected security.password to be in one place, as ANTIPHON_SECURITY_PASSWORD_FILE is set too",
        ),
        (
            {"mechanism": "PLAIN", "user": "stock", "password_file": "/nowhere"},
            "expected security.password_file to be the path of a readable file, got '/nowhere (no such file or directory)'",
        ),
        (
            {"protocol": "PLAINTEXT", "password": SECRET},
            "expected security.protocol to be another one, as password is given",
        ),
        ({"protocol": "SSL", "user": "stock"}, "expected security.protocol to be another one, as user is given"),
        ({"ca": "/nowhere"}, "expected security.ca to be the path of a readable file"),
        ({"ca": f"-----BEGIN {SECRET}"}, "expected security.ca to be the path of a PEM file, got 'its content'"),
        ({"certificate": "c.pem"}, "expected security.key to be set, as there is a certificate, c.pem"),
        (
            {"registry_user": "stock"},
            "expected security.registry_password to be set, as ANTIPHON_SECURITY_REGISTRY_USER is stock",
        ),
    ],
)
def test_what_does_not_fit_together(said: dict[str, object], expected: str) -> None:
    """Said before any client is made, with the variable to set and without what is secret."""
    security = Security.model_validate(said)
    with pytest.raises(SettingsError) as caught:
        registry_options(security) if "registry_user" in said else client_options(security)
    assert str(caught.value).startswith(expected)
    assert "ANTIPHON_SECURITY_" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_key_of_another_certificate(authority: Authority, pair: Pair) -> None:
    """The client would say no more than that it cannot be made."""
    other = authority.sign("card")
    with pytest.raises(SettingsError, match=r"expected security.key to be a key that fits .*stock.pem, got .*mismatch"):
        client_options(Security(certificate=str(pair.certificate), key=str(other.key)))


def test_a_file_that_is_no_certificate(tmp_path: Path) -> None:
    """Named, before any connection is made."""
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    with pytest.raises(SettingsError, match=r"expected security.ca to be a PEM file with certificates, got .*ca.pem"):
        client_options(Security(ca=str(tmp_path / "ca.pem")))


def test_one_thing_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either by our names or by the client's."""
    monkeypatch.setenv("ANTIPHON_SECURITY_MECHANISM", "PLAIN")
    monkeypatch.setenv("ANTIPHON_SECURITY_USER", "stock")
    monkeypatch.setenv("ANTIPHON_SECURITY_PASSWORD", SECRET)
    monkeypatch.setenv("ANTIPHON_CLIENT_SASL_PASSWORD", "hunter3")
    with pytest.raises(SettingsError, match=r"expected client.sasl.password to be said once") as caught:
        kafka_config(Settings())
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("PASWORD", SECRET, "expected security.pasword to be a setting of ours; did you mean password?, got '***'"),
        (
            "MECHANISM",
            "GSSAPI",
            "expected security.mechanism to be PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, got 'GSSAPI'",
        ),
    ],
)
def test_a_name_that_is_misspelt_is_no_small_thing(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who believes to have given a password must not go on without one."""
    monkeypatch.setenv(f"ANTIPHON_SECURITY_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value).startswith(expected)
    assert f"ANTIPHON_SECURITY_{name}" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_secrets_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither in what is explained nor in any repr; where a secret is read from may be seen."""
    monkeypatch.setenv("ANTIPHON_SECURITY_MECHANISM", "PLAIN")
    monkeypatch.setenv("ANTIPHON_SECURITY_USER", "stock")
    monkeypatch.setenv("ANTIPHON_SECURITY_PASSWORD", SECRET)
    monkeypatch.setenv("ANTIPHON_SECURITY_KEY_PASSWORD_FILE", "/run/secrets/key")
    monkeypatch.setenv("ANTIPHON_SECURITY_REGISTRY_PASSWORD", SECRET)
    settings = load()
    shown = {entry.name: (entry.value, entry.origin) for entry in explain() if entry.name.startswith("security.")}
    assert shown == {
        "security.mechanism": ("PLAIN", "ANTIPHON_SECURITY_MECHANISM"),
        "security.user": ("stock", "ANTIPHON_SECURITY_USER"),
        "security.password": ("***", "ANTIPHON_SECURITY_PASSWORD"),
        "security.key_password_file": ("/run/secrets/key", "ANTIPHON_SECURITY_KEY_PASSWORD_FILE"),
        "security.registry_password": ("***", "ANTIPHON_SECURITY_REGISTRY_PASSWORD"),
    }
    assert SECRET not in f"{settings!r} {settings.security!r} {kafka_config(settings)!r}"


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As compose files and charts write it where there is none."""
    monkeypatch.setenv("ANTIPHON_SECURITY_PASSWORD", "")
    monkeypatch.setenv("ANTIPHON_SECURITY_PROTOCOL", "")
    assert load().security == Security()


@pytest.mark.parametrize(
    ("options", "who", "principal"),
    [
        ({}, "nobody in particular (PLAINTEXT)", "User:ANONYMOUS"),
        (
            {"security.protocol": "sasl_ssl", "sasl.mechanisms": "PLAIN", "sasl.username": "stock"},
            "user 'stock' (SASL_SSL, PLAIN)",
            "User:stock",
        ),
        ({"security.protocol": "SSL", "ssl.certificate.location": "c.pem"}, "c.pem (SSL)", None),
    ],
)
def test_who_a_client_is_by_its_options(options: dict[str, object], who: str, principal: str | None) -> None:
    """In the client's own words too; what a certificate is called, the broker's rules say."""
    found = identity(options)
    assert (str(found), found.principal) == (who, principal)


def test_an_identity_of_tokens() -> None:
    """Its user is the client's id."""
    options = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.oauthbearer.client.id": "stock",
    }
    assert identity(options) == Identity(Protocol.SASL_SSL, Mechanism.OAUTHBEARER, "stock")
