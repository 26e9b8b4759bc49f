"""One endpoint for several worker processes: it asks each of them, and gives one answer."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from antiphon.agents.health import JSON, TEXT, UNKNOWN, Answer, Listening
from antiphon.agents.metrics import CONTENT_TYPE, exposition

# Longer than a process takes to find that its own event loop does not answer.
_PATIENCE_S = 8.0
# Without the proxy that the environment may name: it knows nothing of this machine.
_asking = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Front(Listening):
    """Answers for all processes; *ports* says by instance where each is asked, None for one that is not up.

    `/livez`: 200 where each that is up is live. One that is not up is being started again: that is nobody's to mend.
    `/readyz`: 200 where all are up and ready; JSON either way.
    `/metrics`: the series of all that are up, with the label `instance`.
    """

    def __init__(self, ports: Callable[[], Mapping[str, int | None]], *, host: str, port: int) -> None:
        super().__init__(host=host, port=port)
        self._ports = ports

    def answer(self, path: str) -> Answer:
        match path.partition("?")[0]:
            case "/livez":
                return _live(self._ask("/livez"))
            case "/readyz":
                return _ready(self._ask("/readyz"))
            case "/metrics":
                return Answer(HTTPStatus.OK, CONTENT_TYPE, _together(self._ask("/metrics")))
            case _:
                return UNKNOWN

    def _ask(self, path: str) -> dict[str, Answer | None]:
        ports = self._ports()
        # At once: one that is blocked takes its time to say nothing.
        with ThreadPoolExecutor(len(ports)) as asking:
            answers = [asking.submit(_answer_of, port, path) for port in ports.values()]
            return dict(zip(ports, [answer.result() for answer in answers], strict=True))


def _answer_of(port: int | None, path: str) -> Answer | None:
    """Return what a process says; None for one that is not up."""
    if port is None:
        return None
    try:
        with _asking.open(f"http://127.0.0.1:{port}{path}", timeout=_PATIENCE_S) as answer:
            return Answer(HTTPStatus.OK, TEXT, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(HTTPStatus(error.code), TEXT, error.read())
    except ConnectionError:
        return None  # it has just ended
    except (OSError, ValueError) as error:
        return Answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"no answer: {error}\n".encode())


def _live(answers: Mapping[str, Answer | None]) -> Answer:
    dead = {
        instance: answer
        for instance, answer in answers.items()
        if answer is not None and answer.status != HTTPStatus.OK
    }
    if not dead:
        return Answer(HTTPStatus.OK, TEXT, b"ok\n")
    said = b"".join(instance.encode() + b": " + answer.body for instance, answer in dead.items())
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, said)


def _ready(answers: Mapping[str, Answer | None]) -> Answer:
    ready = all(answer is not None and answer.status == HTTPStatus.OK for answer in answers.values())
    body = json.dumps({"ready": ready, "processes": {name: _document(answer) for name, answer in answers.items()}})
    return Answer(HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE, JSON, body.encode() + b"\n")


def _document(answer: Answer | None) -> Any:
    if answer is None:
        return None
    try:
        return json.loads(answer.body)
    except ValueError:
        return None


def _together(answers: Mapping[str, Answer | None]) -> bytes:
    """Merge what all export: each family once, each series with the label `instance`."""
    families: dict[str, Metric] = {}
    for instance, answer in answers.items():
        if answer is None or answer.status != HTTPStatus.OK:
            continue
        for family in text_string_to_metric_families(answer.body.decode()):
            merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                merged.samples.append(sample._replace(labels={**sample.labels, "instance": instance}))
    return exposition([*families.values()])
