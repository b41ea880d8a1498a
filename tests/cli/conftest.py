"""What tests of several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.foreign_model import ForeignModel
from support.importing import Done, Import
from tidegate.cli.root import main


@pytest.fixture
def importing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """Import a model with some flags, as `m/1`, into an empty repository."""

    def run(model: ForeignModel | bytes, *flags: str) -> Done:
        file = tmp_path / "foreign.onnx"
        file.write_bytes(model if isinstance(model, bytes) else model.onnx)
        models = tmp_path / "models"
        with pytest.raises(SystemExit) as caught:
            main(["models", "import", str(file), "--name", "m", "--models", str(models), *flags])
        captured = capsys.readouterr()
        return Done(caught.value.code, captured.out, captured.err, models)

    return run


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; gives exit code, stdout and stderr."""

    def run(*args: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["evaluate", *(str(arg) for arg in args)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run
