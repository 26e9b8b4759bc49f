"""The reporter: tells how each package ended, a line each."""

from antiphon import agent
from events import PackageApproved, PackageRefused, PackageUnreadable, ReviewRequested


@agent
async def reporter(package: PackageApproved | PackageRefused | ReviewRequested | PackageUnreadable) -> None:
    """Print one line. A log would do as well, or a chat, or a ticket where a person is asked."""
    print(line(package))  # noqa: T201 - its work


def line(package: PackageApproved | PackageRefused | ReviewRequested | PackageUnreadable) -> str:
    """Write one package's end for a person."""
    head = f"{OUTCOMES[type(package)]:10} {package.name} {package.version}"
    if isinstance(package, PackageUnreadable):
        return f"{head}  {package.problem}"
    return f"{head}  {package.licence or '-'} {package.confidence:.2f}  {package.reason}"


OUTCOMES = {
    PackageApproved: "approved",
    PackageRefused: "refused",
    ReviewRequested: "review",
    PackageUnreadable: "unreadable",
}
