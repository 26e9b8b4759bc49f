"""Say whether what is pinned still fits what is asked for; `make lock` makes it fit.

Whether it is complete is pip's to say: `make setup` installs with
--require-hashes and ends with `pip check`.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
_LOCKS = {
    "pyproject.toml": "requirements/dev.txt",
    "benchmarks/peers.in": "benchmarks/peers.txt",
    "tests/interop/phoenix.in": "tests/interop/phoenix.txt",
    "requirements/build.in": "requirements/build.txt",
}
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
_ADDRESS = re.compile(r"\S*://\S*|^--(?:extra-)?index-url.*|^--find-links.*", re.MULTILINE)


def problems(asked: Iterable[Requirement], lock: str) -> Iterator[str]:
    """Yield what does not fit, each with what was expected and what came."""
    pinned: dict[str, list[str]] = {}
    for name, version in _PIN.findall(lock):
        pinned.setdefault(canonicalize_name(name), []).append(version)
    for requirement in asked:
        versions = pinned.get(canonicalize_name(requirement.name), [])
        # A universal lock may pin several, each for its own interpreter or system.
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            yield f"expected {requirement}, got {' and '.join(versions) or 'nothing'}"
    if lock.count("==") and lock.count("--hash=") < len(pinned):
        yield "expected a hash for every pin, got some without"
    for found in _ADDRESS.findall(lock):
        yield f"expected no address, so that any index serves, got {found}"


def requirements(file: Path) -> Iterator[Requirement]:
    """Yield what *file* asks for: pyproject.toml to run, to build, in every extra and group; another one a line each."""
    if file.suffix != ".toml":
        lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
        yield from map(Requirement, filter(None, lines))
        return
    document = tomllib.loads(file.read_text())
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
    """Compare the files, or the two named on the command line, and say what to do."""
    named = [Path(name) for name in sys.argv[1:]]
    pairs = [(named[0], named[1])] if named else [(ROOT / asked, ROOT / lock) for asked, lock in _LOCKS.items()]
    complaints: list[str] = []
    for asked, lock in pairs:
        found = [*problems(requirements(asked), lock.read_text())]
        complaints += [f"{lock} does not fit {asked}:", *found] if found else []
    if complaints:
        sys.exit("\n".join([*complaints, "Run: make lock"]))


if __name__ == "__main__":
    main()
