"""The runbook has a section for each alert, and each says what somebody who was woken looks for."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_links import anchors

ROOT = Path(__file__).parent.parent.parent
RUNBOOK = ROOT / "docs/operate/runbook.md"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"


def test_every_alert_has_its_section_and_every_section_its_alert() -> None:
    """In the same order, and each alert says where its own is."""
    rules = ALERTS.read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    linked = re.findall(r"runbook_url: docs/operate/runbook\.md#(\w+)$", rules, re.MULTILINE)
    assert sections == alerts
    assert linked == [alert.lower() for alert in alerts]
    assert anchors(RUNBOOK) >= {*linked}


def test_every_section_says_what_to_do_and_when_it_is_over() -> None:
    """Whoever reads it at night looks for these words."""
    parts = re.split(r"^## (\w+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert [name for name, text in sections.items() if "**Do**" not in text or "**Over**" not in text] == []
