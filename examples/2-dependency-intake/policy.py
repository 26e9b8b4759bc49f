"""The policy agent: decides by the policy file, and asks a person where that does not say enough.

`decide` is the whole decision, a function of the file and of what was found.
"""

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from antiphon import Agent
from events import LicenceIdentified, PackageApproved, PackageRefused, PackageReserved, ReviewRequested
from expressions import licences_in, weigh

policy = Agent("policy")


class Verdict(IntEnum):
    """The worse the greater: of two licences that hold together the greater verdict counts."""

    ALLOWED = 0
    REVIEW = 1
    REFUSED = 2


class Ruling(NamedTuple):
    """A verdict and why."""

    verdict: Verdict
    reason: str


class Group(BaseModel):
    """Licences that are treated alike."""

    model_config = ConfigDict(extra="forbid")
    because: str
    licences: list[str]


class Exemption(BaseModel):
    """What holds for one package, whatever its licence."""

    model_config = ConfigDict(extra="forbid")
    verdict: str = Field(pattern="^(allowed|review|refused)$")
    because: str


class Policy(BaseModel):
    """The policy file."""

    model_config = ConfigDict(extra="forbid")
    confidence: float = Field(ge=0, le=1)
    allowed: list[Group] = []
    review: list[Group] = []
    refused: list[Group] = []
    exceptions: dict[str, Exemption] = {}
    """By the package's name as PyPI normalises it: lower case, with hyphens."""

    @model_validator(mode="after")
    def _each_licence_once(self) -> Self:
        counted = Counter(licence for _, group in self.groups() for licence in group.licences)
        twice = sorted(licence for licence, count in counted.items() if count > 1)
        if twice:
            message = f"expected each licence in one group, got {', '.join(twice)} in several"
            raise ValueError(message)
        return self

    def groups(self) -> Iterator[tuple[Verdict, Group]]:
        """Yield every group with its verdict."""
        for verdict, groups in zip(Verdict, (self.allowed, self.review, self.refused), strict=True):
            yield from ((verdict, group) for group in groups)

    def on(self, licence: str) -> Ruling:
        """Say what the file says about one licence."""
        for verdict, group in self.groups():
            if licence in group.licences:
                return Ruling(verdict, f"{group.because} ({licence})")
        return Ruling(Verdict.REVIEW, f"the policy does not mention {licence}")


def decide(policy: Policy, package: LicenceIdentified) -> Ruling:
    """Decide about *package*: an exception first, then doubt, then the licences themselves."""
    exemption = policy.exceptions.get(re.sub(r"[-_.]+", "-", package.name).lower())
    if exemption:
        return Ruling(Verdict[exemption.verdict.upper()], f"exception: {exemption.because}")
    doubt = _doubt(policy, package)
    if doubt:
        return Ruling(Verdict.REVIEW, doubt)
    if package.declared is None:
        return _undeclared(policy, package)
    return weigh(package.declared, policy.on) or Ruling(Verdict.REVIEW, f"cannot read {package.declared!r}")


def _doubt(policy: Policy, package: LicenceIdentified) -> str | None:
    """Say why a machine should not decide about *package*."""
    if package.file is None:
        return "ships no licence text"
    if package.licence is None:
        return f"{package.file} is no licence text we know"
    if package.confidence < policy.confidence:
        return f"not sure: {package.file} looks like {package.licence} ({package.confidence:.2f})"
    if package.agrees is False:
        return f"declares {package.declared}, but {package.file} is {package.licence}"
    return None


def _undeclared(policy: Policy, package: LicenceIdentified) -> Ruling:
    """Several texts and no word on how they go together: a machine may decide only where that makes no difference."""
    found = {one.licence for one in package.found if one.licence and one.confidence >= policy.confidence}
    rulings = {policy.on(_current(licence)) for licence in found}
    if len({ruling.verdict for ruling in rulings}) > 1:
        return Ruling(Verdict.REVIEW, f"several licences, none declared: {', '.join(sorted(found))}")
    return max(rulings)


def _current(licence: str) -> str:
    """Return today's SPDX id for one that has been renamed: GPL-2.0 is GPL-2.0-only."""
    return next(iter(licences_in(licence)), licence)


def load(path: Path) -> Policy:
    """Read the policy file; raises `ValueError` that names the field where it is not one."""
    return Policy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))


OUTCOMES: dict[Verdict, type[PackageApproved] | type[ReviewRequested] | type[PackageRefused]] = {
    Verdict.ALLOWED: PackageApproved,
    Verdict.REVIEW: ReviewRequested,
    Verdict.REFUSED: PackageRefused,
}

# Read when the agent starts: with a broken policy it is better not to start.
POLICY = load(Path(os.environ.get("INTAKE_POLICY", Path(__file__).with_name("policy.toml"))))


@policy.on(PackageReserved, LicenceIdentified, join=True)
async def settle(
    reserved: PackageReserved, identified: LicenceIdentified
) -> PackageApproved | PackageRefused | ReviewRequested:
    """Say what becomes of the package, once it has its row and its licence is known."""
    ruling = decide(POLICY, identified)
    return OUTCOMES[ruling.verdict](
        name=reserved.name,
        version=reserved.version,
        licence=identified.declared if identified.agrees else identified.licence,
        confidence=identified.confidence,
        reason=ruling.reason,
    )
