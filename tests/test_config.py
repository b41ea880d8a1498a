"""Where settings come from, and how bad ones are refused."""

from pathlib import Path

import pytest

from tidegate.config import CONFIG_VARIABLE, ServerSettings, load_settings
from tidegate.errors import ConfigError


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*ServerSettings.model_fields, "config"]:
        monkeypatch.delenv(f"TIDEGATE_{name.upper()}", raising=False)


def settings_file(folder: Path, text: str) -> Path:
    path = folder / "tidegate.toml"
    path.write_text(text)
    return path


def test_without_anything_the_defaults_hold() -> None:
    settings = load_settings({})

    assert (settings.grpc_host, settings.grpc_port, settings.http_port) == ("127.0.0.1", 8001, 8002)


def test_flags_beat_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = settings_file(tmp_path, "grpc_port = 1\nhttp_port = 1\nmax_sessions = 1\n")
    monkeypatch.setenv("TIDEGATE_GRPC_PORT", "2")
    monkeypatch.setenv("TIDEGATE_HTTP_PORT", "2")

    settings = load_settings({"grpc_port": "3"}, path)

    assert (settings.grpc_port, settings.http_port, settings.max_sessions) == (3, 2, 1)


def test_the_environment_can_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(settings_file(tmp_path, "grpc_port = 1\n")))

    assert load_settings({}).grpc_port == 1


def test_the_file_of_the_flag_beats_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "missing.toml"))

    assert load_settings({}, settings_file(tmp_path, "grpc_port = 1\n")).grpc_port == 1


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("grpc_port", "abc", "--grpc-port: Input should be a valid integer"),
        ("grpc_port", "65536", "--grpc-port: Input should be less than or equal to 65535, got '65536'"),
        ("device", "tpu", "--device: Input should be 'auto', 'cpu' or 'cuda', got 'tpu'"),
        ("drain_grace_s", "0", "--drain-grace-s: Input should be greater than 0"),
        ("store", "redis://x", "--store: String should match pattern"),
    ],
)
def test_a_bad_flag_is_named_as_it_was_written(name: str, value: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({name: value})

    assert str(caught.value).startswith(text)
    assert "\n" not in str(caught.value)


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEGATE_MAX_SESSIONS", "0")

    with pytest.raises(
        ConfigError, match=r"^TIDEGATE_MAX_SESSIONS: Input should be greater than or equal to 1"
    ):
        load_settings({})


def test_a_bad_key_of_the_file_is_named_with_the_file(tmp_path: Path) -> None:
    path = settings_file(tmp_path, "max_sessions = 0\n")

    with pytest.raises(ConfigError) as caught:
        load_settings({}, path)

    assert str(caught.value).startswith(f"{path}: max_sessions: Input should be greater than or equal to 1")


def test_an_unknown_key_of_the_file_is_refused(tmp_path: Path) -> None:
    path = settings_file(tmp_path, "grpc_prot = 1\n")

    with pytest.raises(ConfigError) as caught:
        load_settings({}, path)

    assert str(caught.value).startswith(f"{path}: grpc_prot: there is no such key")


@pytest.mark.parametrize(
    ("content", "text"),
    [(b"grpc_port = \n", "not TOML: "), (b"\xff", "not UTF-8: ")],
)
def test_a_file_that_is_not_toml_is_refused(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "tidegate.toml"
    path.write_bytes(content)

    with pytest.raises(ConfigError) as caught:
        load_settings({}, path)

    assert str(caught.value).startswith(f"{path}: {text}")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml: no such settings file$"):
        load_settings({}, tmp_path / "missing.toml")


def test_other_variables_of_ours_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_settings({})
    monkeypatch.setenv("TIDEGATE_DEBUG", "1")

    assert load_settings({}).model_dump() == before.model_dump()


def test_every_setting_has_a_text() -> None:
    fields = ServerSettings.model_fields.items()

    assert [name for name, field in fields if not (field.description or "").endswith(".")] == []
