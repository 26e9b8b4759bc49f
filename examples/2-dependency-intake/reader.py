"""The reader: opens a distribution and says what stands in it."""

import email.errors
from collections.abc import Iterator
from importlib.metadata import PathDistribution
from pathlib import Path

from antiphon import agent
from events import LicenceFile, PackageRead, PackageSubmitted, PackageUnreadable

MOST_FILES = 20
MOST_CHARACTERS = 100_000
"""Of one licence file; the longest SPDX text has 35,000."""


@agent(concurrency=4)
def reader(package: PackageSubmitted) -> PackageRead | PackageUnreadable:
    """Read METADATA and the licence files.

    What is broken stays broken however often it is read, so that is an event
    of its own and no error: the others go on, and the table shows it.
    """
    try:
        return read(package)
    except (OSError, ValueError, email.errors.MessageError) as error:
        return PackageUnreadable(name=package.name, version=package.version, problem=f"{type(error).__name__}: {error}")


def read(package: PackageSubmitted) -> PackageRead:
    """Read the distribution at *package.path*; raises `OSError` or `ValueError` where that cannot be done."""
    folder = Path(package.path)
    distribution = PathDistribution(folder)
    # Egg-info, which Debian still installs, says the same in another file.
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO")
    if text is None:
        message = f"expected METADATA in {folder.name}, got none that can be read"
        raise ValueError(message)
    metadata = distribution.metadata
    if "Name" not in metadata or "Version" not in metadata:
        message = f"expected METADATA with Name and Version in {folder.name}, got {text[:40]!r}"
        raise ValueError(message)
    return PackageRead(
        name=metadata["Name"],
        version=metadata["Version"],
        summary=(metadata.get_all("Summary") or [""])[0],
        declared=(metadata.get_all("License-Expression") or [None])[0],
        licence_files=[
            LicenceFile(file=path.relative_to(folder).as_posix(), text=text_of(path))
            for path in licence_files(folder, metadata.get_all("License-File") or [])
        ],
        requirements=metadata.get_all("Requires-Dist") or [],
    )


def licence_files(folder: Path, listed: list[str]) -> list[Path]:
    """Return the distribution's licence files: those it lists, and those that stand where they used to.

    A listed file is under `licenses/` since PEP 639 and beside METADATA before.
    Nothing outside of *folder* is a licence file, whatever METADATA says.
    """
    paths = sorted(set(_candidates(folder, listed)))
    inside = folder.resolve()
    return [path for path in paths if path.is_file() and path.resolve().is_relative_to(inside)][:MOST_FILES]


def _candidates(folder: Path, listed: list[str]) -> Iterator[Path]:
    for name in listed:
        yield folder / "licenses" / name
        yield folder / name
    for pattern in ("LICEN[CS]E*", "COPYING*", "licenses/**/*"):
        yield from folder.glob(pattern)


def text_of(path: Path) -> str:
    """Return the text of a licence file; old ones are in Latin-1."""
    content = path.read_bytes()
    if b"\0" in content:
        message = f"expected {path.name} to be text, got bytes that are not"
        raise ValueError(message)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    return text[:MOST_CHARACTERS]
