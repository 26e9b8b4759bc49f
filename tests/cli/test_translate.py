"""What the errors of the other rooms mean to somebody at a terminal: the words, and the exit code."""

from __future__ import annotations

import pytest

from antiphon.bus.errors import (
    AnswerTimeoutError,
    BrokerUnreachableError,
    MissingTopicsError,
    PartitionCountError,
    SettingsError,
    TopicCreationRefusedError,
    WorkflowFailedError,
)
from antiphon.cli import main
from antiphon.schemas.errors import RegistryError
from tests.cli.conftest import Antiphon


@pytest.mark.parametrize(
    ("error", "code", "remedy"),
    [
        (BrokerUnreachableError("a:1", "connection refused", tried_s=5), 3, "try: antiphon dev"),
        (RegistryError("the schemas on topic s", "none", "Start it"), 3, "address from: the default"),
        (TopicCreationRefusedError(["order.placed"], "TOPIC_AUTHORIZATION_FAILED"), 1, "antiphon topics apply"),
        (MissingTopicsError(["order.placed"], ["stock"]), 1, "antiphon topics apply"),
        (PartitionCountError("order.placed", 12, 3), 1, "antiphon topics plan"),
        (AnswerTimeoutError("7", ["order.placed"], timeout_s=30), 1, "antiphon trace 7"),
        (WorkflowFailedError("7", "no seats"), 1, "antiphon trace 7"),
        (SettingsError("grace", "a number", "x", "ANTIPHON_GRACE"), 2, "from ANTIPHON_GRACE"),
    ],
)
def test_each_error_has_its_exit_code_and_a_way_out(
    antiphon: Antiphon, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, remedy: str
) -> None:
    """And never a traceback, but with -v."""

    def failing(_group: object, _argv: list[str]) -> int:
        raise error

    monkeypatch.setattr(main, "_invoke", failing)
    ran = antiphon("doctor")

    assert (ran.code, ran.out) == (code, "")
    assert ran.err.startswith(f"error: {str(error).splitlines()[0]}")
    assert remedy in ran.err
    assert "Traceback" not in ran.err


def test_of_a_registry_it_is_said_where_its_address_is_from(
    antiphon: Antiphon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is none, the brokers have the schemas, and it is their address that counts."""

    def failing(_group: object, _argv: list[str]) -> int:
        raise RegistryError("a registry at http://r", "no answer", "Start it")

    monkeypatch.setattr(main, "_invoke", failing)
    monkeypatch.setenv("ANTIPHON_REGISTRY", "http://r")

    assert "registry from: ANTIPHON_REGISTRY" in antiphon("doctor").err
