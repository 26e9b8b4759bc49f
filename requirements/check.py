"""Say whether requirements/dev.txt still fits pyproject.toml; `make lock` makes it fit.

Whether it is complete is pip's to say: `make setup` installs with
--require-hashes and ends with `pip check`.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_ADDRESS = re.compile(r"\S*://\S*|^--(?:extra-)?index-url.*|^--find-links.*", re.MULTILINE)


def problems(pyproject: str, lock: str) -> Iterator[str]:
    """Yield what does not fit, each with what was expected and what came."""
    pinned: dict[str, list[str]] = {}
    for name, version in _PIN.findall(lock):
        pinned.setdefault(canonicalize_name(name), []).append(version)
    for requirement in requirements(pyproject):
        versions = pinned.get(canonicalize_name(requirement.name), [])
        # A universal lock may pin several, each for its own interpreter or system.
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            yield f"expected {requirement}, got {' and '.join(versions) or 'nothing'}"
    if lock.count("==") and lock.count("--hash=") < len(pinned):
        yield "expected a hash for every pin, got some without"
    for found in _ADDRESS.findall(lock):
        yield f"expected no address, so that any index serves, got {found}"


def requirements(pyproject: str) -> Iterator[Requirement]:
    """Yield what pyproject.toml asks for: to run, to build, in every extra and group."""
    document = tomllib.loads(pyproject)
    project = document["project"]
    groups = [
        project["dependencies"],
        document["build-system"]["requires"],
        *project.get("optional-dependencies", {}).values(),
        *document.get("dependency-groups", {}).values(),
    ]
    for group in groups:
        yield from map(Requirement, group)


def main() -> None:
    """Compare the files, or those named on the command line, and say what to do."""
    named = [Path(name) for name in sys.argv[1:]]
    pyproject, lock = named or (ROOT / "pyproject.toml", ROOT / "requirements/dev.txt")
    found = [*problems(pyproject.read_text(), lock.read_text())]
    if found:
        sys.exit("\n".join([f"{lock} does not fit {pyproject}:", *found, "Run: make lock"]))


if __name__ == "__main__":
    main()
