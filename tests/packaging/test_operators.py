"""ServiceMonitor and ScaledObject, checked by the schemas that their operators install.

The schemas come with the operators' own Go modules, at a fixed version, through
the Go module proxy; nothing of them is kept here. What an operator asks beyond its
schema, in CEL or in code, only a cluster can say.
"""

from __future__ import annotations

import copy
import json
import subprocess
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from antiphon.cli.demo.example import PROCESSES
from tests.packaging.test_charts import ALL, OPERATORS, charts, found, helm, objects, rendered

__all__ = ["charts", "helm"]

# It has types, and no stubs for them.
jsonschema: Any = import_module("jsonschema")

# The newest that the module proxy and its checksum database both have.
MODULES = {
    "ServiceMonitor": (
        "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    ),
    "ScaledObject": ("github.com/kedacore/keda/v2@v2.18.0", "config/crd/bases/keda.sh_scaledobjects.yaml"),
}


def fetched(module: str) -> Path | str:
    """Return the folder of a Go module, fetched once, or why it cannot be had."""
    go = found("go")
    if go is None:
        return "no go, which fetches the operators' schemas"
    words = [go, "mod", "download", "-json", module]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    except subprocess.TimeoutExpired:
        return f"{module} could not be fetched within 300 s"
    said: dict[str, str] = json.loads(done.stdout or "{}")
    return Path(said["Dir"]) if "Dir" in said else f"{module} could not be fetched: {said.get('Error', done.stderr)}"


@pytest.fixture(scope="module")
def schemas() -> Mapping[str, dict[str, Any]]:
    """By kind, the schema of its definition, made as strict as Kubernetes is: a name that it does not know is a mistake."""
    strict: dict[str, dict[str, Any]] = {}
    for kind, (module, path) in MODULES.items():
        folder = fetched(module)
        if isinstance(folder, str):
            pytest.skip(folder)
        definition = yaml.safe_load((folder / path).read_text())
        [version] = [one for one in definition["spec"]["versions"] if one["storage"]]
        assert definition["spec"]["names"]["kind"] == kind
        strict[kind] = _strict(version["schema"]["openAPIV3Schema"])
    return strict


def _strict(node: Any) -> Any:
    """Return a schema that takes no property that it does not name; Kubernetes' own part, `metadata`, is not told in it."""
    if isinstance(node, list):
        return [_strict(one) for one in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    schema: dict[str, Any] = {name: _strict(part) for name, part in cast("dict[str, Any]", node).items()}
    properties: Any = schema.get("properties")
    if isinstance(properties, dict):
        if "metadata" in properties and "apiVersion" in properties:
            properties["metadata"] = {"type": "object"}
        if "additionalProperties" not in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
    return schema


def theirs(text: str) -> list[dict[str, Any]]:
    return [one for one in objects(text) if one["kind"] in OPERATORS]


def problems(one: dict[str, Any], schemas: Mapping[str, dict[str, Any]]) -> list[str]:
    validator = jsonschema.Draft202012Validator(schemas[one["kind"]])
    return [f"{one['kind']}: {error.json_path}: {error.message}" for error in validator.iter_errors(one)]


@pytest.mark.parametrize("agent", PROCESSES)
def test_their_operators_take_every_agent_of_the_demo(
    helm: str, charts: Path, tmp_path: Path, agent: str, schemas: Mapping[str, dict[str, Any]]
) -> None:
    """With every switch on: both kinds are there, and nothing in them is unknown or of another type."""
    values = {"image": {"repository": "antiphon-demo", "tag": "0.1.0"}, "run": [PROCESSES[agent]], **ALL}
    made = theirs(rendered(helm, charts / "agent", values, tmp_path, name=agent))
    assert {one["kind"] for one in made} == {*MODULES} == OPERATORS
    assert [problem for one in made for problem in problems(one, schemas)] == []


def test_a_mistake_would_be_found(
    helm: str, charts: Path, tmp_path: Path, schemas: Mapping[str, dict[str, Any]]
) -> None:
    """A name that is misspelt, and a value of another type: the check is one."""
    for one in theirs(rendered(helm, charts / "agent", ALL, tmp_path)):
        misspelt, mistyped = copy.deepcopy(one), copy.deepcopy(one)
        misspelt["spec"]["endpoint"] = []
        part = mistyped["spec"].get("triggers") or mistyped["spec"]["endpoints"]
        part[0]["metadata" if "metadata" in part[0] else "path"] = 7
        assert len(problems(misspelt, schemas)) == len(problems(mistyped, schemas)) == 1


def test_kubeconform_finds_them_in_order_too(
    helm: str, charts: Path, tmp_path: Path, schemas: Mapping[str, dict[str, Any]]
) -> None:
    """By the same schemas."""
    program = found("kubeconform")
    if program is None:
        pytest.skip("no kubeconform: go install github.com/yannh/kubeconform/cmd/kubeconform@v0.7.0")
    for kind, schema in schemas.items():
        (tmp_path / f"{kind.lower()}.json").write_text(json.dumps(schema))
    text: str = yaml.safe_dump_all(theirs(rendered(helm, charts / "agent", ALL, tmp_path)))  # pyright: ignore[reportUnknownMemberType] - half typed
    words = [program, "-strict", "-summary", "-schema-location", f"{tmp_path}/{{{{.ResourceKind}}}}.json"]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 resources found" in done.stdout
    assert "Valid: 2" in done.stdout
