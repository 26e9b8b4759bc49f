"""What docker-compose.yml describes, run as processes on Apache Kafka: what Docker would start has been started."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cluster import NoKafkaError, fetch_jars
from mesh import services

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.kafka


def test_the_services_of_the_compose_file_work_together(kafka: str, namespace: str) -> None:
    """Each is ready, a package goes through all of them, and each drains when told to end."""
    environment = {**os.environ, "ANTIPHON_NAMESPACE": namespace, "ANTIPHON_PARTITIONS": "2"}
    words = [sys.executable, "deploy/mesh.py", "--check", "--bootstrap-servers", kafka]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "package.approved" in done.stdout
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert f"ended: {', '.join(f'{name} 0' for name in services(compose))}" in done.stderr


def test_they_do_so_with_logins_and_rights_of_their_own(namespace: str) -> None:
    """On a broker as docker-compose.secure.yml has it, which it starts itself: certificates, accounts and ACLs as that makes them."""
    try:
        fetch_jars()
    except (FileNotFoundError, NoKafkaError) as error:
        if os.environ.get("ANTIPHON_REQUIRE_KAFKA"):
            pytest.fail(f"Java and Maven are required here: {error}")
        pytest.skip(f"needs Java and Maven: {error}")
    environment = {**os.environ, "ANTIPHON_NAMESPACE": namespace, "ANTIPHON_PARTITIONS": "2"}
    words = [sys.executable, "deploy/mesh.py", "--secure", "--check"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "package.approved" in done.stdout
    assert f"granted  User:reader        Write  topic             literal   {namespace}.package.read" in done.stderr
