"""What can happen to a package on its way in. These are all the words the agents have in common."""

from pydantic import BaseModel

from antiphon import Event


class PackageSubmitted(Event):
    """Somebody asks for an installed distribution to be taken in."""

    name: str
    version: str
    path: str
    """Its `.dist-info` directory."""


class LicenceFile(BaseModel):
    """One licence file as it stands in the distribution."""

    file: str
    """Relative to the `.dist-info` directory."""
    text: str


class PackageRead(Event):
    """What the distribution says about itself."""

    name: str
    version: str
    summary: str
    declared: str | None
    """Its SPDX expression (`License-Expression`), as it stands."""
    licence_files: list[LicenceFile]
    requirements: list[str]


class PackageUnreadable(Event, fails=True):
    """The distribution is broken: nobody can say what it is."""

    name: str
    version: str
    problem: str


class PackageReserved(Event):
    """The catalogue has a provisional row for the package."""

    name: str
    version: str


class PackageReleased(Event):
    """The row is gone again: the package was refused."""

    name: str
    version: str


class Found(BaseModel):
    """What one licence file turned out to be."""

    file: str
    licence: str | None
    """SPDX id; None where the text is no licence we know."""
    confidence: float
    opening: bool
    """Only the beginning of the file is that licence; other text follows."""


class LicenceIdentified(Event):
    """What the package's licence is, going by its texts."""

    name: str
    version: str
    licence: str | None
    """SPDX id of the text that was judged; None where it is no licence we know."""
    confidence: float
    file: str | None
    """The file that was judged, of several; None where there is none."""
    found: list[Found]
    """All of them."""
    declared: str | None
    agrees: bool | None
    """Whether `licence` is one of those declared; None where no SPDX expression is declared."""


class PackageApproved(Event):
    """The package may be used."""

    name: str
    version: str
    reason: str
    licence: str | None
    """What was decided on: the SPDX expression where the texts bear it out, else the licence of the text."""
    confidence: float


class PackageRefused(Event, fails=True):
    """The package may not be used. What was done for it is undone."""

    name: str
    version: str
    reason: str
    licence: str | None
    confidence: float


class ReviewRequested(Event):
    """A person must decide."""

    name: str
    version: str
    reason: str
    licence: str | None
    confidence: float
