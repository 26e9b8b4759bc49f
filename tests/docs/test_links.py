"""No link leads nowhere, and nothing stands where nobody would find it."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def links(page: Path) -> list[str]:
    """Return where *page* points, blocks left out."""
    return _LINK.findall(_FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """Return the anchors of *page*'s headings, made as code hosts make them."""
    headings = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links within the repository: the file is there, and so is the heading."""
    dead: list[str] = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" in link:
            continue
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def test_every_page_is_linked() -> None:
    """Whoever starts at the README gets to every page of docs/."""
    seen: set[Path] = set()
    todo = [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        todo += [(page.parent / link.partition("#")[0]).resolve() for link in links(page) if "://" not in link]
    assert set(ROOT.glob("docs/**/*.md")) - seen == set()


def test_every_decision_is_listed() -> None:
    """By number, title and link."""
    listed = dict(re.findall(r"\]\((\d{4}-[\w-]+\.md)\) \| (.*) \|", (ROOT / "docs/adr/README.md").read_text()))
    found = {
        page.name: page.read_text().splitlines()[0].partition(". ")[2]
        for page in sorted((ROOT / "docs/adr").glob("[0-9]*.md"))
    }
    assert listed == found


@pytest.mark.parametrize("page", sorted((ROOT / "docs/adr").glob("[0-9]*.md")), ids=lambda page: page.stem)
def test_a_decision_says_what_would_change_it(page: Path) -> None:
    """The four parts of each, so that it can be questioned later."""
    text = page.read_text()
    parts = ["Context", "Options tried", "Decision", "What would change our mind"]
    assert [part for part in parts if f"**{part}" not in text and f"## {part}" not in text] == []


def test_every_dependency_has_its_reason() -> None:
    """What is installed with Antiphon, and nothing that is not any more."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    listed = re.findall(
        r"^\| ([\w-]+) \| (?!its work)", (ROOT / "docs/adr/0005-dependencies.md").read_text(), re.MULTILINE
    )
    assert sorted(listed) == sorted(re.split(r"[^\w-]", requirement)[0] for requirement in wanted)
