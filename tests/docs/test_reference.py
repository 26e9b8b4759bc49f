"""The reference lists what there is: every command, option, error and setting, and nothing else."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import antiphon
from antiphon.bus.settings import Settings
from antiphon.cli import group, options

REFERENCE = Path(__file__).parent.parent.parent / "docs/reference"
_COMMON = {"--bootstrap-servers", "--registry", "--namespace", "--json", "--color", "--verbose", "--help"}


load: Callable[[str], Any] = group.load  # pyright: ignore[reportUnknownMemberType] - typer's own types


def sections(page: Path) -> dict[str, str]:
    """Return the text below each heading of *page*."""
    parts = re.split(r"^#+ (.*)\n", page.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands() -> dict[str, Any]:
    """Return every command by what is typed, those of groups too."""
    options.reset()
    found: dict[str, Any] = {}
    for name in group.COMMANDS:
        command: Any = load(name)
        below: dict[str, Any] = getattr(command, "commands", {})
        found |= {f"antiphon {name} {word}": leaf for word, leaf in below.items()}
        if not below or command.invoke_without_command:
            found[f"antiphon {name}"] = command
    return found


def test_every_command_is_listed_with_every_option() -> None:
    """A section each, that names its arguments' options; the common ones have a section of their own."""
    listed = sections(REFERENCE / "cli.md")
    common = listed.pop("Every command")
    assert [
        flag for flag in sorted(_COMMON) if f"`{flag}`" not in common.replace("/", "` `").replace(", ", "` `")
    ] == []
    lacking = {
        name: sorted(
            flag
            for param in command.params
            for flag in param.opts
            if flag.startswith("--") and flag not in _COMMON and f"`{flag}" not in listed.get(f"`{name}`", "")
        )
        for name, command in commands().items()
    }
    assert {name: flags for name, flags in lacking.items() if flags} == {}
    assert {heading.strip("`") for heading in listed if heading.startswith("`antiphon")} == set(commands())


def errors() -> Iterator[type[BaseException]]:
    """Yield every exception class that a package of ours defines and a user may meet."""
    for module in pkgutil.walk_packages(antiphon.__path__, "antiphon."):
        if module.name.endswith("__main__"):
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            ours = isinstance(value, type) and issubclass(value, BaseException) and value.__module__ == module.name
            if ours and not name.startswith("_"):
                yield value


def test_every_error_is_listed() -> None:
    """By name, in the table of its package, and none that is not there any more."""
    page = (REFERENCE / "errors.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)`", page, flags=re.MULTILINE))
    assert listed == {error.__name__ for error in errors()}


def test_every_setting_is_listed() -> None:
    """With its variable."""
    page = (REFERENCE / "settings.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \| `ANTIPHON_(\w+)", page, flags=re.MULTILINE))
    assert {name for name, _ in listed} == set(Settings.model_fields)
    assert all(variable.lower().startswith(name) for name, variable in listed)
