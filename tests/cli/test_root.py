"""The command line as a process: what it says, and the code it exits with."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

from tidegate import __version__
from tidegate.cli.root import COMMANDS, EXTRAS

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ("onnxruntime", "torch", "onnx", "aiohttp", "prometheus_client", "matplotlib", "pydantic", "grpc")


def tidegate(
    *args: str, without: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command line, in an installation that lacks some modules."""
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({without!r})); "
        f"from tidegate.cli import main; main({list(args)!r})"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environment
    )


def test_the_version_is_told() -> None:
    done = tidegate("--version")

    assert (done.returncode, done.stdout) == (0, f"tidegate {__version__}\n")


def test_the_help_lists_every_command_and_imports_no_library() -> None:
    done = tidegate("--help", without=HEAVY)

    assert done.returncode == 0
    assert [name for name in COMMANDS if f"\n  {name} " not in done.stdout] == []


def test_every_command_is_where_the_table_says() -> None:
    commands = [getattr(import_module(target.module), target.attribute) for target in COMMANDS.values()]

    assert [type(c).__name__ for c in commands if not isinstance(c, click.Command)] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_without_any_extra(name: str) -> None:
    done = tidegate(
        name, "--help", without=tuple(module for modules in EXTRAS.values() for module in modules)
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("command", "extra", "missing"),
    [("serve", "server", ("aiohttp", "onnxruntime")), ("train", "train", ("torch", "onnx"))],
)
def test_a_command_whose_extra_is_missing_says_which(
    tmp_path: Path, command: str, extra: str, missing: tuple[str, ...]
) -> None:
    args = ("serve", "--models", str(tmp_path)) if command == "serve" else ("train", "recipe.toml")

    done = tidegate(*args, without=missing)

    assert done.returncode == 1
    assert (
        done.stderr == f"error: tidegate {command} needs the {extra} extra: pip install 'tidegate[{extra}]'\n"
    )


def test_every_library_of_an_extra_is_known_as_one_of_it() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    modules = {
        "onnxruntime_gpu": "onnxruntime",
        "grpcio_health_checking": "grpc_health",
        "grpcio_reflection": "grpc_reflection",
    }

    for extra, needed in (("server", "serving"), ("server", "server"), ("train", "train"), ("plot", "plot")):
        names = [re.split(r"[\[<>=,]", text)[0].replace("-", "_") for text in extras[needed]]
        expected = {modules.get(name, name) for name in names if name != "tidegate"}
        assert expected - set(EXTRAS[extra]) == set()


def test_an_error_is_one_line() -> None:
    done = tidegate("serve", "--grpc-port", "70000")

    assert done.returncode == 1
    assert done.stderr == "error: --grpc-port: Input should be less than or equal to 65535, got '70000'\n"


def test_an_error_shows_its_traceback_where_that_is_asked_for() -> None:
    done = tidegate("serve", "--grpc-port", "70000", TIDEGATE_DEBUG="1")

    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ConfigError: --grpc-port" in done.stderr


@pytest.mark.parametrize("args", [("nope",), ("serve", "--nope"), ("serve", "--device", "tpu")])
def test_wrong_usage_is_told_apart_from_an_error(args: tuple[str, ...]) -> None:
    done = tidegate(*args)

    assert done.returncode == 2
    assert "Usage: tidegate" in done.stderr
    assert "Traceback" not in done.stderr


def test_ctrl_c_exits_as_shells_expect() -> None:
    program = (
        "import os, signal, sys, types, click\n"
        "from tidegate.cli import root\n"
        "@click.command\n"
        "def wait(): signal.raise_signal(signal.SIGINT)\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # shells ignore it in background jobs
        "sys.modules['waiting'] = types.SimpleNamespace(wait=wait)\n"
        "root.COMMANDS['wait'] = root.Target('waiting', 'wait', 'Wait.')\n"
        "root.main(['wait'])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 130
    assert "Traceback" not in done.stderr
