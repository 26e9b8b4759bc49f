"""All agents of the intake in one module, for `antiphon try`, which needs no broker.

On a broker each is a process of its own: `antiphon run reader`, and so on.
"""

from catalogue import catalogue
from events import PackageSubmitted
from licence import licence
from policy import policy
from reader import reader
from reporter import reporter

__all__ = ["PackageSubmitted", "catalogue", "licence", "policy", "reader", "reporter"]
