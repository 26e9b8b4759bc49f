"""The licence agent: says what a package's licence is by reading its texts, and how sure that is."""

from antiphon import Context, agent
from events import Found, LicenceIdentified, PackageRead
from expressions import names_text
from texts import identify


@agent(concurrency=2)
def licence(package: PackageRead, context: Context) -> LicenceIdentified:
    """Compare every licence file with the known texts, and judge the package by one of them.

    That is the best recognised of those nearest to the top: in folders further
    down stand the licences of vendored code.

    A plain `def`: comparing is work for the processor, so it has a thread, and
    the agent goes on taking events meanwhile. More than a few at a time would
    only take the processor from one another; to go faster, start the agent twice.
    """
    found = [judged(file.file, file.text) for file in package.licence_files]
    best = max(found, key=lambda one: (one.licence is not None, -one.file.count("/"), one.confidence), default=NOTHING)
    context.confidence(best.confidence)
    return LicenceIdentified(
        name=package.name,
        version=package.version,
        licence=best.licence,
        confidence=best.confidence,
        file=best.file or None,
        found=found,
        declared=package.declared,
        agrees=None if package.declared is None else names_text(package.declared, best.licence or ""),
    )


NOTHING = Found(file="", licence=None, confidence=0.0, opening=False)


def judged(file: str, text: str) -> Found:
    """Say what one file is."""
    match = identify(text)
    return Found(file=file, licence=match.licence, confidence=round(match.similarity, 3), opening=match.opening)
