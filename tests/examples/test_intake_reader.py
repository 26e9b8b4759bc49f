"""The reader of the dependency intake: what it takes from a distribution, and what it says of a broken one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from events import LicenceFile, PackageRead, PackageSubmitted, PackageUnreadable
from installed_here import distributions
from reader import reader

MakeDistribution = Callable[[str, Mapping[str, str | bytes]], Path]

METADATA = "Metadata-Version: 2.4\nName: thing\nVersion: 1.0\n"


@pytest.fixture
def make_distribution(tmp_path: Path) -> MakeDistribution:
    """Return a function that writes a `.dist-info` directory: its METADATA, and files beside it."""

    def make(metadata: str, files: Mapping[str, str | bytes]) -> Path:
        folder = tmp_path / "thing-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(metadata, encoding="utf-8")
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    return make


def submitted(folder: Path) -> PackageSubmitted:
    return PackageSubmitted(name="thing", version="1.0", path=str(folder))


def problem(folder: Path) -> str:
    said = reader(submitted(folder))
    assert isinstance(said, PackageUnreadable)
    return said.problem


def licence_files(folder: Path) -> list[str]:
    said = reader(submitted(folder))
    assert isinstance(said, PackageRead)
    return [file.file for file in said.licence_files]


def test_what_a_distribution_says_of_itself_is_read(make_distribution: MakeDistribution) -> None:
    """Metadata, requirements and the listed licence file, where PEP 639 puts it."""
    folder = make_distribution(
        METADATA + "Summary: A thing\nLicense-Expression: MIT\nLicense-File: LICENSE\nRequires-Dist: other>=2\n",
        {"licenses/LICENSE": "Do as you like"},
    )
    assert reader(submitted(folder)) == PackageRead(
        name="thing",
        version="1.0",
        summary="A thing",
        declared="MIT",
        licence_files=[LicenceFile(file="licenses/LICENSE", text="Do as you like")],
        requirements=["other>=2"],
    )


def test_licence_files_are_found_where_they_used_to_stand(make_distribution: MakeDistribution) -> None:
    """Before PEP 639 they stood beside METADATA, and often nothing listed them."""
    files = {
        "LICENSE.txt": "",
        "LICENCE": "",
        "COPYING": "",
        "licenses/vendored/LICENSE": "",
        "RECORD": "",
        "doc/COPYING": "",
    }
    assert licence_files(make_distribution(METADATA + "License-File: doc/COPYING\n", files)) == [
        "COPYING",
        "LICENCE",
        "LICENSE.txt",
        "doc/COPYING",
        "licenses/vendored/LICENSE",
    ]


def test_a_listed_file_that_is_missing_is_passed_over(make_distribution: MakeDistribution) -> None:
    """Others may say enough; where none does, the policy asks a person."""
    assert licence_files(make_distribution(METADATA + "License-File: NOTICE\n", {})) == []


def test_nothing_outside_of_the_distribution_is_a_licence_file(
    make_distribution: MakeDistribution, tmp_path: Path
) -> None:
    """METADATA is somebody else's: it must not name a file of ours, nor link to one."""
    (tmp_path / "secret").write_text("secret")
    folder = make_distribution(METADATA + "License-File: ../secret\nLicense-File: ../../secret\n", {})
    (folder / "LICENSE").symlink_to(tmp_path / "secret")
    assert licence_files(folder) == []


def test_an_old_licence_file_may_be_latin_1(make_distribution: MakeDistribution) -> None:
    """Names of authors are the usual reason."""
    said = reader(submitted(make_distribution(METADATA, {"LICENSE": "© Müller".encode("latin-1")})))
    assert isinstance(said, PackageRead)
    assert said.licence_files == [LicenceFile(file="LICENSE", text="© Müller")]


def test_a_distribution_without_metadata_is_unreadable(make_distribution: MakeDistribution, tmp_path: Path) -> None:
    """It is an event and no error: trying again cannot help, and the others go on."""
    expected = "ValueError: expected METADATA in {}, got none that can be read"
    assert problem(tmp_path / "gone.dist-info") == expected.format("gone.dist-info")
    assert problem(make_distribution("", {})) == expected.format("thing-1.0.dist-info")


@pytest.mark.parametrize("metadata", ["\x00\x01 nonsense", "Name: thing\n", "Version: 1.0\n"])
def test_metadata_that_names_nothing_is_unreadable(make_distribution: MakeDistribution, metadata: str) -> None:
    """The email parser takes anything; without a name and a version it is not a distribution's."""
    assert "Name and Version" in problem(make_distribution(metadata, {}))


def test_metadata_that_is_not_text_is_unreadable(make_distribution: MakeDistribution) -> None:
    """METADATA is UTF-8 by its specification."""
    folder = make_distribution(METADATA, {"METADATA": b"Name: \xff\xfe"})
    assert problem(folder).startswith("UnicodeDecodeError: ")


def test_a_licence_file_that_is_not_text_makes_the_distribution_unreadable(make_distribution: MakeDistribution) -> None:
    """To leave it out would be to judge the package by half of what it ships."""
    folder = make_distribution(METADATA, {"LICENSE": b"\x7fELF\x00"})
    assert problem(folder) == "ValueError: expected LICENSE to be text, got bytes that are not"


def test_every_installed_distribution_can_be_read() -> None:
    """The real input: everything in this environment."""
    for folder in distributions():
        said = reader(submitted(folder))
        assert isinstance(said, PackageRead), said
        assert (said.name, said.version) == (PathDistribution(folder).name, PathDistribution(folder).version)
