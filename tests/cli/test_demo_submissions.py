"""What the demo takes in."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from antiphon.cli.demo.submissions import Distribution, chosen, installed, normalised
from antiphon.cli.errors import UsageError


def test_every_installed_distribution_is_taken_in_once() -> None:
    """By importlib.metadata's own word."""
    expected = {normalised(one.name): one.version for one in importlib.metadata.distributions()}
    assert {normalised(one.name): one.version for one in installed()} == expected
    assert len(installed()) == len(expected)


def distribution(folder: Path, directory: str, metadata: bytes) -> Path:
    path = folder / directory
    path.mkdir(parents=True)
    (path / "METADATA").write_bytes(metadata)
    return path


def test_a_broken_distribution_is_listed_by_its_directory(tmp_path: Path) -> None:
    """What is wrong with it is for the reader to say."""
    text = distribution(tmp_path, "text-2.0.dist-info", b"Name: \xff")
    none = distribution(tmp_path, "none-3.0.dist-info", b"")
    assert installed([str(tmp_path)]) == [Distribution("none", "3.0", none), Distribution("text", "2.0", text)]


def test_of_two_with_one_name_the_first_on_the_path_counts(tmp_path: Path) -> None:
    """As in an import."""
    first = distribution(tmp_path / "a", "My_Thing-1.0.dist-info", b"Name: My_Thing\nVersion: 1.0\n")
    distribution(tmp_path / "b", "my_thing-2.0.dist-info", b"Name: my-thing\nVersion: 2.0\n")
    assert installed([str(tmp_path / "a"), str(tmp_path / "b")]) == [Distribution("My_Thing", "1.0", first)]


def test_some_can_be_chosen_by_name_however_it_is_spelled() -> None:
    """A name that nothing has is answered with near ones."""
    thing, other = Distribution("My_Thing", "1", Path("a")), Distribution("other", "1", Path("b"))
    assert chosen([thing, other], []) == [thing, other]
    assert chosen([thing, other], ["my-thing"]) == [thing]
    with pytest.raises(UsageError, match="no distribution 'my-thin' is installed here\ndid you mean my-thing"):
        chosen([thing, other], ["my-thin"])
