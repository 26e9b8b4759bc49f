"""From `support`, `support:triage` or `support.py` to the agents and sagas in it.

What goes wrong while a user's module is imported is the user's: it is shown as
Python shows it, shortened to the user's own files.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from antiphon.agents.agent import Agent, agent_of
from antiphon.agents.errors import DefinitionError
from antiphon.bus.errors import BusError
from antiphon.cli.errors import UsageError, did_you_mean, near
from antiphon.compensation.errors import SagaDefinitionError
from antiphon.compensation.orchestrator import Saga
from antiphon.schemas.errors import SchemaError
from antiphon.schemas.event import Event

_PACKAGES = ("site-packages", "dist-packages")


class Loaded(NamedTuple):
    """What was asked for, and the module it stands in."""

    module: ModuleType
    agents: tuple[Agent | Saga, ...]


def load_agents(targets: Sequence[str]) -> list[Agent | Saga]:
    """Return the agents that *targets* name, each once, in the order they are named."""
    found = {id(agent): agent for target in targets for agent in load(target).agents}
    names: dict[str, Agent | Saga] = {}
    for agent in found.values():
        if agent.name in names:
            raise UsageError(
                f"expected one agent named {agent.name!r}, got two",
                "they would be one consumer group and share its events; give one of them another name",
            )
        names[agent.name] = agent
    return [*names.values()]


def load(target: str) -> Loaded:
    """Import what *target* names: `MOD`, `MOD:AGENT`, `FILE.py` or `FILE.py:AGENT`."""
    place, _, wanted = target.partition(":")
    module = _import(place)
    agents = [*agents_in(module)]
    if not agents:
        raise UsageError(
            f"expected agents in {_shown(module)}, got none",
            "put @agent above an async function whose argument is an event, or make an Agent(...)",
        )
    if not wanted:
        return Loaded(module, tuple(agents))
    for agent in agents:
        if wanted == agent.name or _unit(getattr(module, wanted, None)) is agent:
            return Loaded(module, (agent,))
    raise UsageError(
        f"no agent {wanted!r} in {_shown(module)}",
        did_you_mean(wanted, [agent.name for agent in agents], what="agents"),
    )


def agent_at(target: str) -> Agent:
    """Return the one agent at *target*; raises `UsageError` where there are more, or none."""
    found = load(target).agents
    agents = [agent for agent in found if isinstance(agent, Agent)]
    if not agents:
        raise UsageError(
            f"expected an agent at {target!r}, got the saga {found[0].name!r}",
            "a saga has its versions beside it: previous=",
        )
    if len(agents) > 1:
        names = ", ".join(agent.name for agent in agents)
        raise UsageError(f"expected one agent at {target!r}, got {names}", f"try: {target}:NAME")
    return agents[0]


def module_of(place: str) -> ModuleType:
    """Import the module that *place* names, `MOD` or `FILE.py`; raises `UsageError` where that fails."""
    return _import(place)


def agents_in(module: ModuleType) -> Iterator[Agent | Saga]:
    """Yield the agents that *module* has names for, each once, in the order of the file."""
    seen: set[int] = set()
    for value in [*vars(module).values()]:
        agent = _unit(value)
        if agent is not None and id(agent) not in seen:
            seen.add(id(agent))
            yield agent


def _unit(found: object) -> Agent | Saga | None:
    """Return what *found* is that can be run on its own: an agent, or a saga."""
    return found if isinstance(found, Saga) else agent_of(found)


def event_classes(module: ModuleType, agents: Iterable[Agent | Saga]) -> dict[str, type[Event]]:
    """Return by type the events that *agents* hear, say or undo, and those *module* has names for."""
    found: dict[str, type[Event]] = {}
    for agent in agents:
        consumer = agent.consumer()
        found.update(consumer.hears)
        for event_class in (*(consumer.emits or ()), *consumer.undoes.values()):
            found.setdefault(event_class.__event__.type, event_class)
    for value in [*vars(module).values()]:
        if isinstance(value, type) and issubclass(value, Event) and value is not Event:
            found.setdefault(value.__event__.type, value)
    return found


def _import(place: str) -> ModuleType:
    if not place:
        raise UsageError("expected MODULE, MODULE:AGENT or FILE.py, got nothing before the colon")
    if place.endswith(".py") or "/" in place:
        return _import_file(Path(place))
    _first_on_path(Path.cwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        # The user's own imports fail the same way; only a missing target is a wrong name on the command line.
        if error.name is not None and (place == error.name or place.startswith(error.name + ".")):
            raise _no_module(place) from None
        raise _failed(place, error) from None
    except Exception as error:
        raise _failed(place, error) from None


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        here = [str(other) for other in sorted(path.parent.glob("*.py"))] if path.parent.is_dir() else []
        raise UsageError(f"no file {str(path)!r}", did_you_mean(str(path), here, what="Python files"))
    path = path.resolve()
    root, name = path.parent, path.stem
    while (root / "__init__.py").is_file():
        root, name = root.parent, f"{root.name}.{name}"
    _first_on_path(root)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    # A file may be called as an installed module is; it must not take that one's place.
    name = name if known is None and "." in name else name if known is None else f"_antiphon_{name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"expected a Python file, got {path.name!r}", "its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        if "." in name:
            importlib.import_module(name.rpartition(".")[0])
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _failed(path.name, error) from None
    return module


def _first_on_path(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _no_module(place: str) -> UsageError:
    return UsageError(
        f"no module {place!r} in {Path.cwd()} or among the installed ones",
        did_you_mean(place, _modules_here(), what="modules"),
    )


def _modules_here() -> list[str]:
    here = [path.stem for path in Path.cwd().glob("*.py")]
    return here + [path.parent.name for path in Path.cwd().glob("*/__init__.py")]


def _failed(place: str, error: Exception) -> UsageError:
    frames = _users_frames(error)
    if isinstance(error, (DefinitionError, SagaDefinitionError)):
        return UsageError(f"{_relative(error.place.file)}, line {error.place.line}: {error.problem}")
    if isinstance(error, (SchemaError, BusError)):
        where = [f"at {_relative(frame.filename)}, line {frame.lineno}: {frame.line}" for frame in frames[-1:]]
        return UsageError(*str(error).splitlines(), *where)
    shown = traceback.format_list(frames) + traceback.format_exception_only(error)
    return UsageError(f"{place} cannot be imported", "".join(shown).rstrip(), *_remedy(error))


def _remedy(error: Exception) -> list[str]:
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return []
    if likely := near(error.name, _modules_here()):
        return [f"did you mean {' or '.join(likely)}?"]
    return [f"install what provides {error.name} into the environment that antiphon is in: {sys.prefix}"]


def _users_frames(error: Exception) -> traceback.StackSummary:
    return traceback.StackSummary.extract(
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_globals.get("__name__", "").startswith(("antiphon.", "importlib"))
        and not frame.f_code.co_filename.startswith("<frozen")
        and not any(part in frame.f_code.co_filename for part in _PACKAGES)
    )


def _relative(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def _shown(module: ModuleType) -> str:
    return _relative(module.__file__) if module.__file__ else module.__name__
