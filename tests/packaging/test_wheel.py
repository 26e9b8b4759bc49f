"""What users install: built as they get it, by way of the sdist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DEMO = "examples/2-dependency-intake"
"""What `antiphon demo` runs travels with it."""
PACKAGES = {link.name for link in (ROOT / "src/antiphon").iterdir() if link.is_symlink()}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Links do not survive in an sdist, so this also fails if a package is missing from the build tables."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    [path] = dist.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_installs_one_name(wheel: zipfile.ZipFile) -> None:
    """Whatever else a worker installs, nothing of ours may land on top of it."""
    names = [Path(name).parts for name in wheel.namelist()]
    installed = {parts[0] for parts in names if not parts[0].endswith(".dist-info")}
    packages = {parts[1] for parts in names if parts[0] == "antiphon" and len(parts) > 2}
    assert installed == {"antiphon"}
    assert packages == PACKAGES | {"examples"}


def test_wheel_holds_every_file_of_the_packages(wheel: zipfile.ZipFile) -> None:
    """Templates and type markers too, not Python alone."""
    ours = {
        f"antiphon/{path.relative_to(ROOT)}"
        for folder in PACKAGES | {DEMO}
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == ours | {"antiphon/__init__.py", "antiphon/py.typed"}


def test_wheel_brings_its_licence(wheel: zipfile.ZipFile) -> None:
    """The whole text, and the expression in the metadata."""
    [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    [text] = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert "License-Expression: Apache-2.0\n" in wheel.read(metadata).decode()
    assert wheel.read(text) == (ROOT / "LICENSE").read_bytes()


def test_sdist_brings_no_tests_and_no_leftovers(dist: Path) -> None:
    """What a wheel is built from, and no more."""
    [path] = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        top = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    assert top == PACKAGES | {"examples", "src", "pyproject.toml", "README.md", "LICENSE", "PKG-INFO", ".gitignore"}


def test_wheel_runs_by_itself(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """Unpacked in an empty folder, it finds all of itself there and nothing in the checkout."""
    wheel.extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "antiphon.cli", "new", "helpdesk"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, (tmp_path / "helpdesk/helpdesk.py").is_file()) == (0, True), done.stderr


def test_version_is_the_same_everywhere(wheel: zipfile.ZipFile) -> None:
    """In pyproject.toml, in the wheel, as installed, and as the command says it."""
    said = subprocess.run(
        [sys.executable, "-m", "antiphon.cli", "--version"], capture_output=True, text=True, check=True
    )
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert wheel.filename is not None
    [built] = re.findall(r"antiphon-([^-]+)-", wheel.filename)
    assert (built, version("antiphon"), said.stdout.split()) == (wanted, wanted, ["antiphon", wanted])
