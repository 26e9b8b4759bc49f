"""What the demo takes in: the distributions installed in this environment."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from antiphon.cli.errors import UsageError, did_you_mean


@dataclasses.dataclass(frozen=True, order=True)
class Distribution:
    """One installed distribution, by what its directory is called where its own METADATA cannot be read."""

    name: str
    version: str
    path: Path


def installed(search: Sequence[str] | None = None) -> list[Distribution]:
    """Return what is installed, each name once, by name; with *search*, what stands in those directories.

    Where a name stands twice, the first on the path counts, as in an import.
    """
    found = importlib.metadata.distributions() if search is None else importlib.metadata.distributions(path=[*search])
    by_name: dict[str, Distribution] = {}
    for one in found:
        distribution = _distribution(one)
        by_name.setdefault(normalised(distribution.name), distribution)
    return [by_name[name] for name in sorted(by_name)]


def chosen(distributions: Sequence[Distribution], names: Iterable[str]) -> list[Distribution]:
    """Return those of *distributions* that *names* name, all where there are no names."""
    wanted = {normalised(name): name for name in names}
    by_name = {normalised(one.name): one for one in distributions}
    for name in wanted.keys() - by_name.keys():
        raise UsageError(
            f"no distribution {wanted[name]!r} is installed here", did_you_mean(name, by_name, what="distributions")
        )
    return [one for name, one in by_name.items() if not wanted or name in wanted]


def normalised(name: str) -> str:
    """Return *name* as PyPI compares it.

    >>> normalised("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def _distribution(one: importlib.metadata.Distribution) -> Distribution:
    # There is no public name for the directory; `files` has it, but not where RECORD is missing.
    path = Path(str(getattr(one, "_path", one.locate_file(""))))
    stem_name, _, stem_version = path.stem.partition("-")
    name, version = _declared(one)
    return Distribution(name or stem_name, version or stem_version or "?", path)


def _declared(one: importlib.metadata.Distribution) -> tuple[str | None, str | None]:
    try:
        metadata = one.metadata
        return (metadata.get_all("Name") or [None])[0], (metadata.get_all("Version") or [None])[0]
    except (OSError, ValueError):
        # The reader will say what is wrong with it; here it only has to be listed.
        return None, None
