"""`antiphon new`: a project with one agent, its test, a Dockerfile."""

from __future__ import annotations

import importlib.util
import keyword
import re
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from antiphon.cli import output
from antiphon.cli.errors import UsageError
from antiphon.cli.options import given

TEMPLATES = {
    "agent.py.template": "{module}.py",
    "test_agent.py.template": "test_{module}.py",
    "pyproject.toml.template": "pyproject.toml",
    "Dockerfile.template": "Dockerfile",
    "README.md.template": "README.md",
}
"""Template to the name of the file it becomes."""

_LEGAL = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_TICKET = '{"ticket_id": "7", "body": "refund?"}'


def new(name: Annotated[str, typer.Argument(help="Name of the project, and of its folder.")]) -> None:
    """Make a project: one agent, its test, a Dockerfile.

    Example:
      antiphon new helpdesk
    """
    _check(name)
    folder = Path(name)
    if folder.exists():
        raise UsageError(f"expected no folder {name!r} here, got one", "give another name, or remove it first")
    made = write(folder, name)
    commands = next_commands(name)
    if given().json:
        output.document({"made": [str(path) for path in made], "next": commands})
        return
    for path in made:
        output.result(f"made {path}")
    output.result()
    output.result("next:")
    for command in commands:
        output.result(f"  {command}")


def write(folder: Path, name: str) -> list[Path]:
    """Write the project *name* into *folder*, which may not exist yet, and return the files."""
    module = name.replace("-", "_")
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    for template, target in TEMPLATES.items():
        text = files("antiphon.cli").joinpath("templates", "project", template).read_text(encoding="utf-8")
        path = folder / target.format(module=module)
        path.write_text(text.replace("{{name}}", name).replace("{{module}}", module), encoding="utf-8")
        made.append(path)
    return made


def next_commands(name: str) -> list[str]:
    """Return what to type next, in the new project."""
    module = name.replace("-", "_")
    has_pytest = importlib.util.find_spec("pytest") is not None
    return [
        f"cd {name}",
        f"antiphon try {module}.py ticket.opened --data {shlex.quote(_TICKET)}",
        "python -m pytest" if has_pytest else "pip install pytest && python -m pytest",
    ]


def _check(name: str) -> None:
    if _LEGAL.fullmatch(name) is None:
        near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")
        raise UsageError(
            f"expected a name of lower-case letters, digits, dashes and underscores, starting with a letter, got {name!r}",
            f"try: antiphon new {near or 'helpdesk'}",
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in sys.stdlib_module_names or _is_installed(module):
        raise UsageError(
            f"expected a name that no module has, got {name!r}",
            f"{module}.py would hide Python's or an installed module {module!r}",
            f"try: antiphon new {name}-agent",
        )


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    here = Path.cwd() / module
    # A folder of that name in this directory is found too, and is told apart by `new` itself.
    return spec is not None and str(here) not in [*(spec.submodule_search_locations or ())]
