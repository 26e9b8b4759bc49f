"""List what an image holds, and under which licence, from its CycloneDX bill of materials: `licences.py SBOM`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def lines(sbom: dict[str, Any]) -> list[str]:
    """Return a line a component: name, version, licences. One that says none is listed too, as `unknown`."""
    components: list[dict[str, Any]] = sbom.get("components", [])
    rows = sorted((str(one["name"]), str(one.get("version", "")), _licences(one)) for one in components)
    return [f"{name} {version}  {licences}" for name, version, licences in rows]


def _licences(component: dict[str, Any]) -> str:
    said: list[str] = []
    for entry in component.get("licenses", []):
        licence = entry.get("license", {})
        said.append(str(entry.get("expression") or licence.get("id") or licence.get("name") or "unknown"))
    return "; ".join(dict.fromkeys(said)) or "unknown"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))) + "\n")
