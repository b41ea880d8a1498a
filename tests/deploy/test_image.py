"""What the Dockerfile promises, read from the Dockerfile; building it is left to `make image`."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from tidegate.config import CONFIG_VARIABLE, ENV_PREFIX, ServerSettings

DEFAULTS = {name: field.default for name, field in ServerSettings.model_fields.items()}


@pytest.fixture
def lines(root: Path) -> list[str]:
    """Instructions of the Dockerfile, one a line, without comments."""
    text = re.sub(r"^\s*#.*\n", "", (root / "Dockerfile").read_text(), flags=re.MULTILINE)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def arguments(lines: list[str], instruction: str) -> list[str]:
    return [line.removeprefix(instruction).strip() for line in lines if line.startswith(instruction + " ")]


def environment(lines: list[str]) -> dict[str, str]:
    return dict(pair.split("=", 1) for text in arguments(lines, "ENV") for pair in text.split())


def test_the_settings_of_the_image_exist(lines: list[str]) -> None:
    ours = {
        name.removeprefix(ENV_PREFIX).lower() for name in environment(lines) if name.startswith(ENV_PREFIX)
    }

    assert ours == {"grpc_host", "http_host", "models", "store"}
    assert ours <= set(DEFAULTS)


def test_the_image_listens_on_all_addresses_at_the_default_ports(lines: list[str]) -> None:
    (exposed,) = arguments(lines, "EXPOSE")

    assert [int(port) for port in exposed.split()] == [DEFAULTS["grpc_port"], DEFAULTS["http_port"]]
    assert environment(lines)["TIDEGATE_GRPC_HOST"] == environment(lines)["TIDEGATE_HTTP_HOST"] == "0.0.0.0"


def test_the_health_check_asks_readyz_at_the_default_port(lines: list[str]) -> None:
    (check,) = arguments(lines, "HEALTHCHECK")
    command = json.loads(check.partition("CMD")[2])

    assert command[:3] == ["python", "-I", "-c"]
    assert "'/readyz'" in command[3]
    assert f"'TIDEGATE_HTTP_PORT', '{DEFAULTS['http_port']}'" in command[3]


def test_the_image_runs_as_a_numbered_user_and_leaves_the_signal_to_the_server(lines: list[str]) -> None:
    (user,) = arguments(lines, "USER")
    uid, gid = (int(part) for part in user.split(":"))

    assert uid >= 10000
    assert gid >= 10000
    # A shell in between would keep the signal to itself.
    assert arguments(lines, "ENTRYPOINT") == ['["tidegate"]']
    assert arguments(lines, "CMD") == ['["serve"]']
    assert arguments(lines, "STOPSIGNAL") == ["SIGTERM"]


def test_the_extras_that_the_image_installs_exist_and_bring_no_torch(root: Path, lines: list[str]) -> None:
    extras = tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = re.findall(r"\w+\) echo (\w+) ;;", "\n".join(lines))

    assert installed == ["server", "gpu"]
    for extra in installed:
        assert [r for r in extras[extra] + extras["serving"] if r.startswith(("torch", "onnx>"))] == []


def test_everything_that_the_image_copies_is_let_into_the_build(root: Path, lines: list[str]) -> None:
    copied = [path for text in arguments(lines, "COPY") if "--from" not in text for path in text.split()[:-1]]
    ignore = (root / ".dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignore if line.startswith("!")}

    assert "*" in ignore
    assert {Path(path).parts[0] for path in copied} == allowed
    assert [path for path in copied if not (root / path).exists()] == []


def test_every_variable_named_beside_the_image_is_a_setting(root: Path) -> None:
    files = [
        root / "Dockerfile",
        root / "SECURITY.md",
        root / "docs/operations.md",
        *(root / "deploy").rglob("*.y*ml"),
    ]
    named = {name for file in files for name in re.findall(r"\bTIDEGATE_[A-Z_]+[A-Z]", file.read_text())}

    assert "TIDEGATE_DRAIN_GRACE_S" in named
    assert named - {ENV_PREFIX + name.upper() for name in DEFAULTS} - {CONFIG_VARIABLE} == set()
