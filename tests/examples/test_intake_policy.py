"""The policy agent of the dependency intake: what it decides, and what a wrong policy file is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from license_expression import get_spdx_licensing  # pyright: ignore[reportMissingTypeStubs] - it has none
from pydantic import ValidationError

from events import Found, LicenceIdentified
from policy import POLICY, Ruling, Verdict, decide, load


def package(
    *texts: tuple[str, str | None, float], declared: str | None = None, agrees: bool | None = None, name: str = "thing"
) -> LicenceIdentified:
    """A package with these licence files (name, licence, confidence), of which the first was judged."""
    file, licence, confidence = texts[0] if texts else (None, None, 0.0)
    return LicenceIdentified(
        name=name,
        version="1.0",
        licence=licence,
        confidence=confidence,
        file=file,
        found=[Found(file=file, licence=licence, confidence=sure, opening=False) for file, licence, sure in texts],
        declared=declared,
        agrees=agrees,
    )


@pytest.mark.parametrize(
    ("identified", "ruling"),
    [
        (package(("LICENSE", "MIT", 0.99)), Ruling(Verdict.ALLOWED, "permissive (MIT)")),
        (package(("LICENSE", "MPL-2.0", 0.99)), Ruling(Verdict.REFUSED, "weak copyleft (MPL-2.0)")),
        # The text of GPL-2.0 has the name GPL-2.0-only today.
        (package(("COPYING", "GPL-2.0", 1.0)), Ruling(Verdict.REFUSED, "strong copyleft (GPL-2.0-only)")),
        (package(("LICENSE", "WTFPL", 1.0)), Ruling(Verdict.REVIEW, "the policy does not mention WTFPL")),
        (package(("LICENSE", "MIT", 0.82)), Ruling(Verdict.REVIEW, "not sure: LICENSE looks like MIT (0.82)")),
        (package(("LICENSE", None, 0.1)), Ruling(Verdict.REVIEW, "LICENSE is no licence text we know")),
        (package(), Ruling(Verdict.REVIEW, "ships no licence text")),
    ],
)
def test_one_text_is_decided_by_its_licence_where_that_is_sure(identified: LicenceIdentified, ruling: Ruling) -> None:
    """What is not sure, or not mentioned, is for a person."""
    assert decide(POLICY, identified) == ruling


@pytest.mark.parametrize(
    ("declared", "ruling"),
    [
        ("MIT OR MPL-2.0", Ruling(Verdict.ALLOWED, "permissive (MIT)")),
        ("MIT AND MPL-2.0", Ruling(Verdict.REFUSED, "weak copyleft (MPL-2.0)")),
        ("Apache-2.0", Ruling(Verdict.REVIEW, "declares Apache-2.0, but LICENSE is MIT")),
    ],
)
def test_an_expression_that_the_text_bears_out_is_what_counts(declared: str, ruling: Ruling) -> None:
    """One that the text contradicts is for a person: either may be wrong."""
    assert decide(POLICY, package(("LICENSE", "MIT", 0.99), declared=declared, agrees="MIT" in declared)) == ruling


def test_several_texts_without_an_expression_are_decided_only_where_all_say_the_same() -> None:
    """Nobody said whether they hold together or the user may choose."""
    mit, mpl, bsd = (
        ("LICENSE.MIT", "MIT", 0.99),
        ("LICENSE.MPL", "MPL-2.0", 0.99),
        ("LICENSE.BSD", "BSD-3-Clause", 0.99),
    )
    assert decide(POLICY, package(mit, bsd)).verdict is Verdict.ALLOWED
    assert decide(POLICY, package(mit, mpl)) == Ruling(Verdict.REVIEW, "several licences, none declared: MIT, MPL-2.0")


def test_an_exception_stands_above_everything_else() -> None:
    """By the package's name, however it is spelled."""
    ruling = decide(POLICY, package(name="Typing_Extensions"))
    assert ruling == Ruling(Verdict.ALLOWED, "exception: PSF-2.0, compared with the original by hand")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("confidence = 2", "confidence"),
        ("confidence = 0.9\nalowed = []", "alowed"),
        ("confidence = 0.9\n[[refused]]\nlicences = ['MIT']", "because"),
        ("confidence = 0.9\n[exceptions.x]\nverdict = 'maybe'\nbecause = 'so'", "verdict"),
        (
            "confidence = 0.9\n[[allowed]]\nbecause = 'a'\nlicences = ['MIT']\n"
            "[[refused]]\nbecause = 'b'\nlicences = ['MIT']",
            "MIT",
        ),
    ],
)
def test_a_wrong_policy_file_is_refused_with_the_field_named(tmp_path: Path, text: str, field: str) -> None:
    """The agent reads it when it starts, so it does not start with one."""
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(ValidationError, match=field):
        load(path)


def test_the_policy_speaks_of_licences_that_exist() -> None:
    """A misspelt id would never match."""
    groups = [*POLICY.allowed, *POLICY.review, *POLICY.refused]
    mentioned = [licence for group in groups for licence in group.licences]
    licensing: Any = get_spdx_licensing()
    assert licensing.unknown_license_keys(" AND ".join(mentioned)) == []
