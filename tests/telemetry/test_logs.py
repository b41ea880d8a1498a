"""The log, as a process writes it to its standard error."""

import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest


def log_of(code: str, level: str = "info", shape: str = "json") -> str:
    """What a process that configures its log and runs `code` writes to standard error."""
    program = (
        "import logging\n"
        "from tidegate.telemetry.logs import configure_logging\n"
        f"configure_logging({level!r}, {shape!r})\n"
        "log = logging.getLogger('tidegate.engine')\n"
        f"{code}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_a_json_line_has_message_level_logger_and_facts() -> None:
    (line,) = log_of("log.info('model loaded', extra={'model': 'co2', 'rows': 3})").splitlines()

    entry = json.loads(line)
    entry.pop("timestamp")
    assert entry == {
        "message": "model loaded",
        "level": "info",
        "logger": "tidegate.engine",
        "model": "co2",
        "rows": 3,
    }


def test_the_time_of_a_line_is_in_utc() -> None:
    before = datetime.now(UTC)
    entry = json.loads(log_of("log.info('now')"))

    logged = datetime.fromisoformat(entry["timestamp"])
    assert entry["timestamp"].endswith("Z")
    assert before <= logged <= datetime.now(UTC)


def test_an_exception_is_one_line_of_json_with_its_traceback() -> None:
    (line,) = log_of("try: 1 / 0\nexcept ZeroDivisionError: log.exception('failed')").splitlines()

    assert "ZeroDivisionError: division by zero" in json.loads(line)["exception"]


def test_arguments_are_put_into_the_message() -> None:
    assert json.loads(log_of("log.warning('%d of %s', 3, 'co2')"))["message"] == "3 of co2"


def test_messages_below_the_level_are_left_out() -> None:
    assert log_of("log.info('no')", level="warning") == ""


@pytest.mark.parametrize("library", ["grpc._cython.cygrpc", "aiohttp.access", "asyncio"])
def test_libraries_are_heard_from_a_warning_on(library: str) -> None:
    logged = log_of(
        f"l = logging.getLogger({library!r}); l.info('noise'); l.warning('trouble')", level="debug"
    )

    assert [json.loads(line)["message"] for line in logged.splitlines()] == ["trouble"]


def test_auto_is_json_where_nobody_sits_at_a_terminal() -> None:
    assert json.loads(log_of("log.info('hello')", shape="auto"))["message"] == "hello"


def test_a_console_line_is_for_people() -> None:
    logged = log_of("log.info('model loaded', extra={'model': 'co2'})", shape="console")

    assert "model loaded" in logged
    assert "model=co2" in logged
    assert "\x1b" not in logged


def test_a_traceback_on_the_console_shows_no_values_of_variables() -> None:
    code = "def f(password): raise ValueError('no')\ntry: f('hunter' + '2')\nexcept ValueError: log.exception('failed')"

    logged = log_of(code, shape="console")

    assert "ValueError: no" in logged
    assert "hunter2" not in logged


def test_configuring_twice_does_not_write_lines_twice() -> None:
    assert log_of("configure_logging('info', 'json'); log.info('once')").count("once") == 1
