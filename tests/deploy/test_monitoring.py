"""The dashboard and the alerts: Prometheus' own tool takes them, and they ask for nothing that is not exported."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon.cli import group, options

load: Callable[[str], Any] = group.load  # pyright: ignore[reportUnknownMemberType] - typer's own types

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
RULE_TESTS = ROOT / "deploy/prometheus/alerts_test.yml"
DASHBOARD = ROOT / "deploy/grafana/antiphon.json"
# Tests hold these tables to what is exported.
REFERENCES = [ROOT / "docs/reference/telemetry.md", ROOT / "docs/reference/tracer.md"]
_OWN = {"le", "instance", "job"}
"""Labels that Prometheus gives, and a histogram's."""


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' tool that checks its files."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("no promtool here; Debian and Ubuntu: apt-get install prometheus")
    return found


def run(promtool: str, *arguments: str) -> None:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def exported() -> dict[str, set[str]]:
    """Every metric that workers and the tracer export, with its labels."""
    rows = [
        row
        for page in REFERENCES
        for row in re.findall(r"^\| `(antiphon_\w+)` \| (\w+) \|([^|]*)\|", page.read_text(), re.MULTILINE)
    ]
    found: dict[str, set[str]] = {}
    for name, kind, labels in rows:
        names = [name + end for end in ("_bucket", "_sum", "_count")] if kind == "histogram" else [name]
        found |= {one: set(re.findall(r"`(\w+)`", labels)) for one in names}
    return found


def of_rules() -> list[str]:
    return re.findall(r"^ +expr: (.*)$", RULES.read_text(), re.MULTILINE)


def of_dashboard() -> list[str]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", [])]


@pytest.mark.parametrize("expression", [*of_rules(), *of_dashboard()])
def test_what_is_asked_for_is_exported(expression: str) -> None:
    """Each metric by its name, and by labels that it has."""
    known = exported()
    asked = re.findall(r"\b(antiphon_\w+)", expression)
    assert asked
    assert [name for name in asked if name not in known] == []
    labels = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in re.split(r",\s*", group)}
    labels |= {label for group in re.findall(r"\{([^}]*)\}", expression) for label in re.findall(r"(\w+)[!=]", group)}
    assert all(labels <= known[name] | _OWN for name in asked)


def test_prometheus_takes_the_rules(promtool: str) -> None:
    """As they stand, and each does what its test says."""
    run(promtool, "check", "rules", str(RULES))
    run(promtool, "test", "rules", str(RULE_TESTS))


def test_every_alert_is_tested_to_be_heard_and_to_be_silent() -> None:
    """An alert that cannot be heard is worse than none."""
    text = RULE_TESTS.read_text()
    alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
    silent = re.findall(r"alertname: (\w+), eval_time: \w+, exp_alerts: \[\]", text)
    heard = re.findall(r"- alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:\n", text)
    assert (sorted({*heard}), sorted({*silent})) == (sorted(alerts), sorted(alerts))


def test_prometheus_can_read_every_question_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    """As rules: its tool reads expressions in no other place."""
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$agent", ".*")}
        for number, expression in enumerate(of_dashboard())
    ]
    path = tmp_path / "dashboard.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))  # JSON is YAML
    run(promtool, "check", "rules", str(path))


def test_what_a_remedy_says_to_type_can_be_typed() -> None:
    """Whoever is woken by an alert has no patience for a command that is not there."""
    options.reset()
    asked = {words for text in re.findall(r'remedy: "(.*)"', RULES.read_text()) for words in _typed(text)}
    assert asked
    for name, word in asked:
        assert name in group.COMMANDS
        command: Any = load(name)
        below: dict[str, Any] = getattr(command, "commands", {})
        alone = not below or getattr(command, "invoke_without_command", False)
        assert alone or word in below


def _typed(remedy: str) -> list[tuple[str, str]]:
    return re.findall(r"\bantiphon ([a-z]+)(?: ([a-z]+))?", remedy)


def test_the_dashboard_answers_the_five_questions() -> None:
    """A row each, one about canaries and one about the mesh itself; every panel has its own place."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == [
        "Which agents work now, on what, since when?",
        "How long does a workflow take?",
        "Where does it fail?",
        "What do model calls cost?",
        "Which agents are unsure?",
        "Does a canary do worse than what it would replace?",
        "The mesh itself",
    ]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert taken.isdisjoint(cells)
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
