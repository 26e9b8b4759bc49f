"""docker-compose.secure.yml: by its schema, by what each name in it stands for, and by what it leaves nobody."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import issue
import pytest
import yaml
from cryptography import x509
from secure import ENVIRONMENT, merged, property_of, said_to_all

from antiphon.bus.security import Mechanism, Security
from antiphon.bus.settings import Settings

ROOT = Path(__file__).parent.parent.parent
SECURE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.secure.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = SECURE["services"]
BASE: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = [name for name, service in BASE.items() if service["image"].startswith("antiphon-demo:")]
KAFKA = merged()["kafka"]["environment"]
USERS = SERVICES["certificates"]["command"][2:]


def test_it_is_what_compose_takes() -> None:
    """By the schema that the specification publishes."""
    words = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.secure.yml"]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_of_ours_is_somebody() -> None:
    """Its user is its name; it has a certificate's authority and a password, an account, and sees nobody else's."""
    told = {name: SERVICES[name]["environment"] for name in OURS}
    assert told == {name: {"ANTIPHON_BOOTSTRAP_SERVERS": "kafka:9095", "ANTIPHON_SECURITY_USER": name} for name in OURS}
    assert set(USERS) == set(SERVICES["accounts"]["command"]) == {*OURS}
    sees = {name: SERVICES[name]["volumes"][0]["volume"]["subpath"] for name in (*OURS, "kafka")}
    assert sees == {**{name: name for name in OURS}, "kafka": "broker"}
    assert all(SERVICES[name]["env_file"] == [str(ENVIRONMENT.relative_to(ROOT))] for name in OURS)


def test_what_they_are_told_are_settings() -> None:
    """And files that issue.py makes; no secret is in it."""
    told = said_to_all()
    security = {name.removeprefix("ANTIPHON_SECURITY_").lower() for name in told if "SECURITY" in name}
    others = {name.removeprefix("ANTIPHON_").lower() for name in told if "SECURITY" not in name}
    assert (security <= {*Security.model_fields}, others <= {*Settings.model_fields}) == (True, True)
    files = {value.removeprefix("/run/antiphon/") for value in told.values() if value.startswith("/run/antiphon/")}
    assert files == {"ca.pem", "password"}
    assert told["ANTIPHON_SECURITY_MECHANISM"] in {*Mechanism}


def test_no_plain_port_leaves_the_broker() -> None:
    """What listens beyond its container wants TLS and a login, and each login has its module."""
    listeners = dict(part.split("://") for part in KAFKA["KAFKA_LISTENERS"].split(","))
    protocols = dict(part.split(":") for part in KAFKA["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    outside = {name for name, address in listeners.items() if not address.startswith("127.0.0.1:")}
    assert outside == {"OUTSIDE", "SECURE"}
    assert {protocols[name] for name in outside} == {"SASL_SSL"}
    said = {property_of(name): value for name, value in KAFKA.items()}
    mechanism = said_to_all()["ANTIPHON_SECURITY_MECHANISM"]
    assert said["sasl.enabled.mechanisms"] == mechanism
    for name in outside:
        assert "ScramLoginModule required;" in said[f"listener.name.{name}.{mechanism}.sasl.jaas.config".lower()]
    assert said["authorizer.class.name"].endswith(".StandardAuthorizer")


def test_every_port_is_the_one_that_is_asked_for() -> None:
    """Agents ask the secure listener, the accounts' service the plain one, which it shares a network with."""
    listeners = {part.split("://")[0]: part.rpartition(":")[2] for part in KAFKA["KAFKA_LISTENERS"].split(",")}
    assert {SERVICES[name]["environment"]["ANTIPHON_BOOTSTRAP_SERVERS"] for name in OURS} == {
        f"kafka:{listeners['SECURE']}"
    }
    accounts = SERVICES["accounts"]
    assert (accounts["environment"]["ANTIPHON_BOOTSTRAP_SERVERS"], accounts["network_mode"]) == (
        f"127.0.0.1:{listeners['INSIDE']}",
        "service:kafka",
    )
    assert f"localhost:{listeners['INSIDE']}" in str(BASE["kafka"]["healthcheck"])


def test_every_file_is_there_and_every_variable_has_a_default() -> None:
    """What is mounted is ours, or the volume that is declared."""
    mounted = [one for service in SERVICES.values() for one in service.get("volumes", ()) if isinstance(one, str)]
    files = [ROOT / one.split(":")[0] for one in mounted if one.startswith(".")]
    assert files
    assert [file for file in (*files, ENVIRONMENT) if not file.is_file()] == []
    assert {*SECURE["volumes"]} == {"secrets"}
    assert re.findall(r"\$\{\w+\}", (ROOT / "docker-compose.secure.yml").read_text()) == []


def test_accounts_are_those_of_the_agents_of_the_demo() -> None:
    """Rights follow from the code of every agent there is."""
    words = SERVICES["accounts"]["entrypoint"][2].partition("topics apply ")[2].split()
    agents = {BASE[name]["command"][1] for name in OURS if BASE[name].get("command", [""])[0] == "run"}
    assert {word for word in words if not word.startswith("-")} == agents
    assert "--acls" in words


def test_certificates_are_made_once(tmp_path: Path) -> None:
    """Signed by the authority, for the names that are asked for; passwords differ, and others may not read them."""
    assert issue.make(tmp_path, ["kafka", "127.0.0.1"], ["reader", "policy"])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert not issue.make(tmp_path, ["kafka"], ["reader", "policy"])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    authority = x509.load_pem_x509_certificate((tmp_path / "broker/ca.pem").read_bytes())
    [signed] = x509.load_pem_x509_certificates((tmp_path / "broker/broker.pem").read_bytes())
    signed.verify_directly_issued_by(authority)
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kafka"]
    passwords = [(tmp_path / user / "password").read_bytes() for user in ("reader", "policy")]
    assert len({*passwords}) == 2
    assert {(tmp_path / user / "password").stat().st_mode & 0o777 for user in ("reader", "policy")} == {0o600}


@pytest.mark.parametrize("name", ["certificates", "accounts"])
def test_what_runs_once_can_do_nothing_that_it_need_not(name: str) -> None:
    """As the agents."""
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"], service["user"], service["restart"]) == (
        True,
        ["ALL"],
        "10001:10001",
        "no",
    )
