"""`antiphon config`: each setting, and where it comes from."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Antiphon


def origins(out: str) -> dict[str, str]:
    return {name: entry["from"] for name, entry in orjson.loads(out).items()}


def test_each_source_wins_over_the_next(antiphon: Antiphon, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flag, environment, .env, pyproject.toml, default."""
    (folder / "pyproject.toml").write_text(
        '[tool.antiphon]\nbootstrap_servers = "p:1"\nnamespace = "p"\nregistry = "http://p"\npartitions = 3\n'
    )
    (folder / ".env").write_text("ANTIPHON_BOOTSTRAP_SERVERS=e:1\nANTIPHON_NAMESPACE=e\nANTIPHON_REGISTRY=http://e\n")
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVERS", "v:1")
    monkeypatch.setenv("ANTIPHON_NAMESPACE", "v")

    shown = orjson.loads(antiphon("config", "--json", "-b", "f:1").out)

    assert {name: (entry["value"], entry["from"]) for name, entry in shown.items()} == {
        "bootstrap_servers": ("f:1", "--bootstrap-servers"),
        "namespace": ("v", "ANTIPHON_NAMESPACE"),
        "registry": ("http://e", ".env"),
        "partitions": (3, "[tool.antiphon] in pyproject.toml"),
        "create_topics": (True, "default"),
        "concurrency": (None, "default"),
        "grace": (30.0, "default"),
        "instance": (None, "default"),
        "pending": (2_000, "default"),
        "pending_bytes": (33_554_432, "default"),
        "in_hand": (20_000, "default"),
        "in_hand_bytes": (134_217_728, "default"),
        "on_missing_offsets": ("earliest", "default"),
        "group_protocol": (None, "default"),
        "session_timeout": (10.0, "default"),
        "give_up": (120.0, "default"),
        "max_hops": (100, "default"),
        "unreadable": ("refuse", "default"),
        "activity_logs": (0, "default"),
        "metrics_port": (0, "default"),
        "metrics_host": ("127.0.0.1", "default"),
        "claims": (None, "default"),
        "claim_threshold": (900_000, "default"),
        "processes": (1, "default"),
        "canary": ([], "default"),
        "share": (None, "default"),
        "linger": (86_400.0, "default"),
        "index": (None, "default"),
        "state_dir": (None, "default"),
        "state_memory": (67_108_864, "default"),
    }


def test_client_options_come_from_each_source(
    antiphon: Antiphon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell has no dots in names, so underscores stand for them."""
    (folder / "pyproject.toml").write_text('[tool.antiphon.client]\n"security.protocol" = "SASL_SSL"\n')
    monkeypatch.setenv("ANTIPHON_CLIENT_SASL_MECHANISM", "PLAIN")

    assert {name: place for name, place in origins(antiphon("config", "--json").out).items() if "client" in name} == {
        "client.security.protocol": "[tool.antiphon] in pyproject.toml",
        "client.sasl.mechanism": "ANTIPHON_CLIENT_SASL_MECHANISM",
    }


def test_secrets_are_masked(antiphon: Antiphon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen is shared, a log is kept."""
    monkeypatch.setenv("ANTIPHON_CLIENT_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("ANTIPHON_REGISTRY", "https://me:hunter2@registry:8081/path")

    for flags in ([], ["--json"]):
        out = antiphon("config", *flags).out
        assert "hunter2" not in out
        assert "https://***@registry:8081/path" in out


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ANTIPHON_PARTITIONS", "many", "expected partitions to be a whole number, got 'many'"),
        ("ANTIPHON_PARTITIONS", "0", "expected partitions to be at least 1, got '0'"),
        ("ANTIPHON_CREATE_TOPICS", "perhaps", "expected create_topics to be true or false, got 'perhaps'"),
        ("ANTIPHON_GRACE", "-1", "expected grace to be at least 0, got '-1'"),
        ("ANTIPHON_GROUP_PROTOCOL", "new", "expected group_protocol to be consumer or classic, got 'new'"),
        (
            "ANTIPHON_NAMESPACE",
            "a b",
            "expected namespace to be letters, digits, dots, dashes and underscores, starting with a letter or digit, "
            "got 'a b'",
        ),
    ],
)
def test_a_wrong_value_says_what_came_from_where(
    antiphon: Antiphon, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    """Expected, got, from where."""
    monkeypatch.setenv(variable, value)

    assert antiphon("config") == (2, "", f"error: {said} (from {variable})\n")


def test_a_broken_pyproject_is_named(antiphon: Antiphon, folder: Path) -> None:
    """A file that is no TOML must not look like a fault of ours."""
    (folder / "pyproject.toml").write_text("[tool.antiphon\n")

    code, _, err = antiphon("config")

    assert code == 2
    assert err.startswith("error: expected settings to be TOML, got")
    assert "(from pyproject.toml)" in err


def test_a_name_that_is_no_setting_is_warned_of(
    antiphon: Antiphon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a slip in a name is a default that nobody notices."""
    (folder / "pyproject.toml").write_text("[tool.antiphon]\npartitons = 3\n")
    monkeypatch.setenv("ANTIPHON_BOOTSTRAP_SERVER", "x:1")

    code, _, err = antiphon("config")

    assert code == 0
    assert err == (
        "warning: ANTIPHON_BOOTSTRAP_SERVER names no setting; did you mean ANTIPHON_BOOTSTRAP_SERVERS?\n"
        "warning: partitons in [tool.antiphon] names no setting; did you mean partitions?\n"
    )


def test_the_login_of_an_index_is_not_shown(antiphon: Antiphon, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where it is, nor where it is nowhere; one that is no place is refused."""
    monkeypatch.setenv("ANTIPHON_INDEX", "postgresql://me:se@cr/et@127.0.0.1:1/mesh?password=hidden")
    shown = antiphon("config", "--json")
    refused = antiphon("tracer", "status")
    assert orjson.loads(shown.out)["index"]["value"] == "postgresql://***@127.0.0.1:1/mesh?password=***"
    assert (refused.code, "***@127.0.0.1:1/mesh" in refused.err) == (1, True)
    for said in (*shown[1:], *refused[1:]):
        assert "cr/et" not in said
        assert "hidden" not in said
    monkeypatch.setenv("ANTIPHON_INDEX", "mysql://here")
    assert "expected index to be a path, or postgresql://user@host/database" in antiphon("tracer", "status").err


def test_a_command_line_holds_no_login(antiphon: Antiphon) -> None:
    """Everybody on the machine can read it."""
    code, out, err = antiphon("config", "--registry", "https://me:hunter2@registry:8081")
    assert (code, out) == (2, "")
    assert err.startswith("error: expected --registry without a login")
    assert "hunter2" not in err
