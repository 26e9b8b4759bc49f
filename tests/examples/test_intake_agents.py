"""The agents of the dependency intake, called as the functions they are."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from identify.vendor.licenses import LICENSES

from antiphon.testing.context import context
from catalogue import approve, release, reserve
from events import (
    LicenceFile,
    PackageApproved,
    PackageRead,
    PackageRefused,
    PackageReleased,
    PackageReserved,
    PackageSubmitted,
    PackageUnreadable,
    ReviewRequested,
)
from installed_here import distributions
from licence import licence
from policy import settle
from reader import read
from reporter import line

TEXTS = dict(LICENSES)


def package(*files: tuple[str, str], declared: str | None = None) -> PackageRead:
    return PackageRead(
        name="thing",
        version="1.0",
        summary="",
        declared=declared,
        licence_files=[LicenceFile(file=file, text=text) for file, text in files],
        requirements=[],
    )


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The catalogue's file; empty."""
    path = tmp_path / "catalogue.db"
    monkeypatch.setenv("INTAKE_CATALOGUE", str(path))
    return path


def rows(database: Path) -> list[tuple[str, str, str]]:
    with sqlite3.connect(database) as connection:
        found = list(connection.execute("SELECT workflow, name, state FROM packages ORDER BY workflow"))
    connection.close()
    return found


APPROVED = PackageApproved(name="thing", version="1.0", licence="MIT", confidence=1.0, reason="permissive")
RESERVED = PackageReserved(name="thing", version="1.0")


def test_a_package_is_provisional_until_it_is_approved(database: Path) -> None:
    """Each workflow has a row of its own, though two may ask for one package."""
    assert reserve(package(), context(correlation_id="w1")) == RESERVED
    reserve(package(), context(correlation_id="w2"))
    approve(APPROVED, context(correlation_id="w2"))
    assert rows(database) == [("w1", "thing", "provisional"), ("w2", "thing", "approved")]


def test_undoing_a_reservation_deletes_its_row_alone(database: Path) -> None:
    """What another workflow asked for stays."""
    reserve(package(), context(correlation_id="w1"))
    reserve(package(), context(correlation_id="w2"))
    assert release(RESERVED, context(correlation_id="w1")) == PackageReleased(name="thing", version="1.0")
    assert rows(database) == [("w2", "thing", "provisional")]


def test_the_catalogue_may_hear_everything_twice(database: Path) -> None:
    """SQLite is outside of Kafka's transactions: after a crash an event is handled again."""
    for _ in range(2):
        reserve(package(), context(correlation_id="w1"))
        approve(APPROVED, context(correlation_id="w1"))
    reserve(package(), context(correlation_id="w1"))
    assert rows(database) == [("w1", "thing", "approved")]
    for _ in range(2):
        release(RESERVED, context(correlation_id="w1"))
    assert rows(database) == []


def test_the_licence_agent_reports_how_sure_it_is() -> None:
    """In its event, for the policy, and to the mesh, for `antiphon confidence`."""
    made = context()
    said = licence(package(("LICENSE", TEXTS["MIT"]), declared="MIT"), made)
    assert (said.licence, said.confidence, said.file, said.agrees) == ("MIT", 1.0, "LICENSE", True)
    assert made.reported_confidence == 1.0


def test_vendored_licences_do_not_outvote_the_package_s_own() -> None:
    """They stand in folders further down."""
    own = TEXTS["MIT"].replace("furnished", "supplied")
    said = licence(package(("licenses/LICENSE", own), ("licenses/vendored/LICENSE", TEXTS["Apache-2.0"])), context())
    assert (said.licence, said.file) == ("MIT", "licenses/LICENSE")
    assert [found.licence for found in said.found] == ["MIT", "Apache-2.0"]


def test_a_package_without_texts_is_no_error() -> None:
    """Nothing is known of its licence, and that is said."""
    said = licence(package(declared="MIT"), context())
    assert (said.licence, said.file, said.confidence, said.agrees) == (None, None, 0.0, False)


@pytest.mark.parametrize(
    ("text", "outcome"),
    [(TEXTS["MIT"], PackageApproved), (TEXTS["GPL-3.0"], PackageRefused), ("Ask us", ReviewRequested)],
)
async def test_the_policy_s_verdict_is_an_event(text: str, outcome: type[object]) -> None:
    """One of three; a refusal fails the workflow, which is what undoes the reservation."""
    said = await settle(RESERVED, licence(package(("LICENSE", text)), context()))
    assert isinstance(said, outcome)
    assert said.__event__.fails == (outcome is PackageRefused)


def test_the_reporter_s_lines() -> None:
    """One a package."""
    assert line(APPROVED) == "approved   thing 1.0  MIT 1.00  permissive"
    assert line(PackageUnreadable(name="thing", version="1.0", problem="gone")) == "unreadable thing 1.0  gone"


def test_how_often_the_licence_agent_agrees_with_what_is_declared_here(capsys: pytest.CaptureFixture[str]) -> None:
    """On every distribution in this environment; which ones differ is printed."""
    read_here = [read(PackageSubmitted(name="", version="", path=str(folder))) for folder in distributions()]
    judged = [licence(said, context()) for said in read_here if said.declared and said.licence_files]
    differ = [f"{one.name}: {one.declared}, got {one.licence} ({one.confidence})" for one in judged if not one.agrees]
    with capsys.disabled():
        print(f"\nagrees with {len(judged) - len(differ)} of {len(judged)} declared expressions; not: {differ}")  # noqa: T201 - worth seeing
    assert len(judged) > 10
    assert len(differ) <= len(judged) // 10
