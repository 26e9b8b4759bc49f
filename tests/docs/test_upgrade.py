"""The page of upgrading promises nothing that no test shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.test_faults import written

UPGRADE = Path(__file__).parent.parent.parent / "docs/operate/upgrade.md"


def test_every_test_that_the_upgrade_guide_names_exists() -> None:
    """A promise is as good as the test that shows it."""
    named = set(re.findall(r"`([\w/]+\.py::\w+)`", UPGRADE.read_text()))
    assert named
    assert sorted(named - set(written())) == []
