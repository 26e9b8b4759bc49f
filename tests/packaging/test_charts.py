"""The Helm charts, rendered for each agent of the examples and checked against what Kubernetes takes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from antiphon.bus.security import Mechanism, Protocol, Security
from antiphon.bus.settings import Settings
from antiphon.cli.demo.example import PROCESSES

# It has neither types nor stubs.
kubernetes_validate: Any = import_module("kubernetes_validate")

ROOT = Path(__file__).parent.parent.parent
CHARTS = ROOT / "deploy/helm"
KUBERNETES = "1.31.0"
# Schemas of these are their operators' own, and not among Kubernetes'.
OPERATORS = {"ServiceMonitor", "ScaledObject"}
# Every switch on, as far as they go together.
ALL: dict[str, Any] = {
    "keda": {"enabled": True, "topics": ["package.read"], "authentication": "kafka"},
    "metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}},
    "state": {"enabled": True, "storageClass": "fast"},
    "registry": "https://registry:8081",
    "preStopSeconds": 2,
    "security": {
        "mechanism": "SCRAM-SHA-512",
        "user": "triage",
        "ca": {"secret": "kafka-ca"},
        "certificate": {"secret": "triage-tls"},
        "password": {"secret": "triage", "key": "password"},
    },
    "canary": {"where": "triage=/app/triage_v2.py:triage,answer=support2:answer", "share": "0.5%"},
    "env": {"INTAKE_POLICY": "/app/policy.toml"},
    "networkPolicy": {"egress": [{"ports": [{"port": 443}]}], "brokers": {"to": [{"podSelector": {}}]}},
}


def found(tool: str) -> str | None:
    """Return where *tool* is: on the path, or where `go install` puts it."""
    return shutil.which(tool) or shutil.which(tool, path=os.environ.get("GOBIN") or str(Path.home() / "go/bin"))


@pytest.fixture(scope="module")
def helm() -> str:
    """The program; `go install helm.sh/helm/v3/cmd/helm@v3.19.0` builds it."""
    program = found("helm")
    if program is None:
        pytest.skip("no helm: go install helm.sh/helm/v3/cmd/helm@v3.19.0")
    return program


@pytest.fixture(scope="module")
def charts(helm: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the charts, the platform's with what it depends on."""
    copy = tmp_path_factory.mktemp("charts") / "helm"
    shutil.copytree(CHARTS, copy)
    subprocess.run([helm, "dependency", "build", str(copy / "platform")], check=True, capture_output=True)
    return copy


def rendered(helm: str, chart: Path, values: dict[str, Any], folder: Path, name: str = "triage") -> str:
    """Render a release; raises `CalledProcessError` where helm does not."""
    (folder / "values.json").write_text(json.dumps(values))
    words = [helm, "template", name, str(chart), "--kube-version", KUBERNETES, "--values", str(folder / "values.json")]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def objects(text: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(text) if one]


def by_kind(text: str) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in objects(text)}


def environment(container: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def refused(found: Iterable[dict[str, Any]]) -> list[str]:
    """Return what Kubernetes would not take, strictly: a name that it does not know is a mistake."""
    said: list[str] = []
    for one in found:
        if one["kind"] in OPERATORS:
            continue
        try:
            kubernetes_validate.validate(one, "1.31", strict=True)
        except kubernetes_validate.ValidationError as error:
            said.append(f"{one['kind']}: {error.message}")
    return said


@pytest.mark.parametrize("chart", ["agent", "platform"])
def test_helm_finds_nothing_wrong(helm: str, charts: Path, chart: str) -> None:
    """By its own lint, warnings included."""
    words = [helm, "lint", "--strict", "--kube-version", KUBERNETES, str(charts / chart)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("agent", PROCESSES)
@pytest.mark.parametrize("more", [{}, ALL], ids=["as it is", "all of it"])
def test_kubernetes_takes_every_agent_of_the_demo(
    helm: str, charts: Path, tmp_path: Path, agent: str, more: dict[str, Any]
) -> None:
    """With the values as they are, and with every switch on."""
    values = {"image": {"repository": "antiphon-demo", "tag": "0.1.0"}, "run": [PROCESSES[agent]], **more}
    text = rendered(helm, charts / "agent", values, tmp_path, name=agent)
    assert refused(objects(text)) == []


def test_kubernetes_takes_the_platform(helm: str, charts: Path, tmp_path: Path) -> None:
    """Coordinator, tracer, and the job that makes topics and grants rights."""
    topics = {"enabled": True, "agents": ["support", "compensation"], "secret": "kafka-admin", "files": ["kafka-ca"]}
    text = rendered(helm, charts / "platform", {"topics": topics}, tmp_path, name="mesh")
    assert refused(objects(text)) == []
    started = {
        one["metadata"]["name"]: one["spec"]["template"]["spec"]["containers"][0]["args"]
        for one in objects(text)
        if one["kind"] in {"Deployment", "StatefulSet", "Job"}
    }
    assert started == {
        "antiphon-compensation": ["run", "compensation"],
        "antiphon-tracer": ["tracer", "run", "--index", "/var/lib/antiphon/index.db", "--keep", "30d"],
        "mesh-topics": ["topics", "apply", "support", "compensation", "--acls", "--principal", "User:{agent}"],
    }


def test_kubeconform_agrees(helm: str, charts: Path, tmp_path: Path) -> None:
    """By the same schemas, as it fetches others from the network."""
    program = found("kubeconform")
    if program is None:
        pytest.skip("no kubeconform: go install github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0")
    text = rendered(helm, charts / "agent", ALL, tmp_path)
    source = Path(kubernetes_validate.__file__).parent / f"kubernetes-json-schema/v{KUBERNETES}-local-strict"
    definitions = _standing_alone(source / "_definitions.json")["$defs"]
    for file in source.glob("*-v1.json"):
        (tmp_path / file.name).write_text(json.dumps({**_standing_alone(file), "$defs": definitions}))
    words = [program, "-strict", "-kubernetes-version", KUBERNETES, "-skip", ",".join(sorted(OPERATORS))]
    place = f"{tmp_path}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    done = subprocess.run([*words, "-schema-location", place], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _standing_alone(file: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(file.read_text().replace("/api/_definitions.json#", "#"))
    return document


def test_a_pod_has_longer_than_its_agent_takes(helm: str, charts: Path, tmp_path: Path) -> None:
    """To drain; what stands before SIGTERM counts too."""
    values = {"graceSeconds": 60, "preStopSeconds": 5, "drainMarginSeconds": 20}
    pod = by_kind(rendered(helm, charts / "agent", values, tmp_path))["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert (pod["terminationGracePeriodSeconds"], environment(container)["ANTIPHON_GRACE"]) == (85, "60")
    assert "sleep(5)" in container["lifecycle"]["preStop"]["exec"]["command"][-1]


def test_a_pod_can_do_nothing_that_it_need_not(helm: str, charts: Path, tmp_path: Path) -> None:
    """Not root, nothing to write to but /tmp, no rights in Kubernetes."""
    pod = by_kind(rendered(helm, charts / "agent", {}, tmp_path))["Deployment"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (pod["securityContext"]["runAsNonRoot"], pod["automountServiceAccountToken"]) == (True, False)


def test_its_variables_are_settings(helm: str, charts: Path, tmp_path: Path) -> None:
    """Secrets come as the paths of files; none is in a value."""
    workload = by_kind(rendered(helm, charts / "agent", ALL, tmp_path))["StatefulSet"]
    said = environment(workload["spec"]["template"]["spec"]["containers"][0])
    ours = {name.removeprefix("ANTIPHON_").lower() for name in said if name.startswith("ANTIPHON_")}
    security = {name.removeprefix("security_") for name in ours if name.startswith("security_")}
    assert security == {"mechanism", "user", "ca", "certificate", "key", "password_file"}
    assert security <= {*Security.model_fields}
    assert {name for name in ours if not name.startswith("security_")} <= {*Settings.model_fields}
    canaries = ("triage=/app/triage_v2.py:triage,answer=support2:answer", "0.5%")
    assert (said["ANTIPHON_CANARY"], said["ANTIPHON_SHARE"]) == canaries


def test_its_words_are_ours() -> None:
    """What the values' schema takes as a protocol or mechanism, the settings take."""
    schema = json.loads((CHARTS / "agent/values.schema.json").read_text())["properties"]["security"]["properties"]
    assert (schema["protocol"]["enum"], schema["mechanism"]["enum"]) == (["", *Protocol], ["", *Mechanism])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"replicas": "two"}, "replicas"),
        ({"graceSeconds": "30s"}, "graceSeconds"),
        ({"image": {"repository": "antiphon", "tag": "latest"}}, "tag"),
        ({"replica": 2}, "replica"),
        ({"bootstrapServers": "kafka"}, "bootstrapServers"),
        ({"namespace": "my mesh"}, "namespace"),
        ({"registry": "https://me:secret@registry"}, "registry"),
        ({"env": {"DATABASE_PASSWORD": "hunter2"}}, "DATABASE_PASSWORD"),
        ({"security": {"mechanism": "GSSAPI"}}, "mechanism"),
        ({"security": {"mechanism": "PLAIN"}}, "expected security.user to be set"),
        ({"canary": {"where": "triage=./v2.py:triage"}}, "expected canary.share to be set"),
        ({"canary": {"where": "./v2.py:triage", "share": "10%"}}, "where"),
        ({"canary": {"where": "triage=./v2.py:triage", "share": "10"}}, "share"),
        ({"canary": {"where": "triage=./v2.py:triage", "share": "101%"}}, "share"),
        ({"keda": {"enabled": True}}, "expected keda.topics to name what the agent hears"),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(
    helm: str, charts: Path, tmp_path: Path, values: dict[str, Any], named: str
) -> None:
    """Before anything is installed, by its name."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        rendered(helm, charts / "agent", values, tmp_path)
    assert named in caught.value.stderr
    assert "hunter2" not in caught.value.stderr


def test_keda_looks_at_the_agents_own_group(helm: str, charts: Path, tmp_path: Path) -> None:
    """Under the mesh's namespace."""
    values = {"namespace": "box", "run": ["support:triage"], "keda": {"enabled": True, "topics": ["ticket.opened"]}}
    scaled = by_kind(rendered(helm, charts / "agent", values, tmp_path))["ScaledObject"]
    [trigger] = scaled["spec"]["triggers"]
    assert (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"]) == ("box.triage", "box.ticket.opened")
    assert scaled["spec"]["scaleTargetRef"] == {"kind": "Deployment", "name": "triage"}
