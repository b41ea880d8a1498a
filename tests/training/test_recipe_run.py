"""From a recipe to a package: the same bytes each time, and what the manifest says is true."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner

from tidegate.cli.train import train as train_command
from tidegate.errors import ConfigError, PackageError
from tidegate.model.package import read_package
from tidegate.training.building import build_network
from tidegate.training.cells import CellName
from tidegate.training.data import read_series, split_series
from tidegate.training.epoch_log import Epoch
from tidegate.training.forecasting import forecast_rows
from tidegate.training.loss import quantile_loss
from tidegate.training.recipe import read_recipe
from tidegate.training.recipe_run import run_recipe
from tidegate.training.train import Watcher, train


def change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_the_same_recipe_gives_the_same_bytes(recipe_path: Path, tmp_path: Path) -> None:
    file = read_recipe(recipe_path)

    one = run_recipe(file, tmp_path / "one").path
    other = run_recipe(file, tmp_path / "other").path

    assert (one / "model.onnx").read_bytes() == (other / "model.onnx").read_bytes()
    assert (one / "manifest.toml").read_bytes() == (other / "manifest.toml").read_bytes()


def test_another_seed_gives_other_bytes(recipe_path: Path, tmp_path: Path) -> None:
    one = run_recipe(read_recipe(recipe_path), tmp_path / "one").path
    change(recipe_path, "seed = 3", "seed = 4")

    other = run_recipe(read_recipe(recipe_path), tmp_path / "other").path

    assert (one / "model.onnx").read_bytes() != (other / "model.onnx").read_bytes()


@pytest.mark.parametrize("cell", get_args(CellName))
def test_every_cell_makes_an_exact_package(recipe_path: Path, tmp_path: Path, cell: CellName) -> None:
    change(recipe_path, 'cell = "lstm"', f'cell = "{cell}"\nnum_layers = 2')

    package = read_package(run_recipe(read_recipe(recipe_path), tmp_path / "models").path)

    operators = {n.op_type for n in onnx.load_from_string(package.onnx).graph.node}
    assert package.manifest.batch_exact is True
    assert package.manifest.has_time_axis is (cell != "rnn")
    assert package.manifest.outputs[0].step_shape == (3, 3)
    assert operators & {"LSTM", "GRU", "RNN", "Loop", "Scan"} == ({cell.upper()} - {"RNN"})
    assert operators >= ({"MatMul", "Tanh"} if cell == "rnn" else {cell.upper()})


def test_the_manifest_says_where_the_model_comes_from(recipe_path: Path, tmp_path: Path) -> None:
    made = run_recipe(read_recipe(recipe_path), tmp_path / "models")

    manifest = read_package(made.path).manifest
    data = recipe_path.with_name("tiny.csv").read_bytes()
    assert manifest.provenance["recipe_sha256"] == hashlib.sha256(recipe_path.read_bytes()).hexdigest()
    assert manifest.provenance["data_sha256"] == hashlib.sha256(data).hexdigest()
    assert manifest.provenance["recipe"]["training"]["seed"] == 3
    assert manifest.provenance["torch"] == torch.__version__.split("+")[0]
    mae = manifest.provenance["metrics"]["test"]["targets"]["level"]["mae"]["1"]
    assert mae == pytest.approx(made.held_out.up_to.of_target(0)["mae"][0], rel=1e-5)
    assert manifest.inputs[0].features == ("level",)
    assert manifest.time.column == "day"


def test_rows_of_the_held_out_part_do_not_reach_the_weights(recipe_path: Path, tmp_path: Path) -> None:
    file = read_recipe(recipe_path)
    data = recipe_path.with_name("tiny.csv")
    lines = data.read_text().splitlines()
    held_out = next(k for k, line in enumerate(lines) if line.startswith("2020-05-15"))
    changed = lines[:held_out] + [f"{line.split(',')[0]},99" for line in lines[held_out:]]
    other_data = tmp_path / "other.csv"
    other_data.write_text("\n".join(changed) + "\n")

    one = run_recipe(file, tmp_path / "one").path
    other = run_recipe(file, tmp_path / "other", data=other_data).path

    assert (one / "model.onnx").read_bytes() == (other / "model.onnx").read_bytes()
    assert (one / "manifest.toml").read_bytes() != (other / "manifest.toml").read_bytes()


def test_training_lowers_the_loss_and_stops_when_it_no_longer_falls(
    recipe_path: Path, tmp_path: Path
) -> None:
    change(recipe_path, "max_epochs = 3", "max_epochs = 60\npatience_epochs = 5")
    seen: list[Epoch] = []

    run_recipe(read_recipe(recipe_path), tmp_path / "models", watcher=Watcher(epoch_done=seen.append))

    assert seen[-1].best_loss < 0.6 * seen[0].validation_loss
    assert seen[-1].best_loss == min(p.validation_loss for p in seen)
    best_epoch = min(seen, key=lambda p: p.validation_loss).epoch
    assert len(seen) == 60 or len(seen) == best_epoch + 5


def test_the_weights_that_did_best_on_validation_are_kept(recipe_path: Path) -> None:
    change(
        recipe_path,
        "learning_rate = 0.02\nmax_epochs = 3",
        "learning_rate = 0.3\nmax_epochs = 100\npatience_epochs = 2",
    )
    recipe = read_recipe(recipe_path).recipe
    series = read_series(recipe_path.with_name("tiny.csv"), recipe.data)
    split = split_series(series, recipe)
    seen: list[Epoch] = []

    network = train(recipe, series, split, watcher=Watcher(epoch_done=seen.append))

    future, counts = (torch.from_numpy(a) for a in series.futures(3, split.validation))
    made = torch.from_numpy(forecast_rows(network, series, split.validation))
    levels = torch.tensor(recipe.forecast.quantile_levels)
    loss = quantile_loss(made, future, counts, levels, network.head.factor).item()
    assert loss == pytest.approx(seen[-1].best_loss, rel=1e-6)
    assert loss < seen[-1].validation_loss


def test_scaling_comes_from_the_training_rows_alone(recipe_path: Path) -> None:
    recipe = read_recipe(recipe_path).recipe
    series = read_series(recipe_path.with_name("tiny.csv"), recipe.data)
    split = split_series(series, recipe)

    network = build_network(recipe, series, split)

    train = series.target[split.train]
    weekly = train[7:] - train[:-7]
    assert network.changes.offset[1].item() == pytest.approx(weekly.mean(), rel=1e-4)
    assert 1 / network.changes.factor[1].item() == pytest.approx(weekly.std(), rel=1e-4)


def test_errors_may_be_measured_in_the_columns_own_deviation(recipe_path: Path) -> None:
    change(recipe_path, "seed = 3", 'seed = 3\nerror_unit = "column"')
    recipe = read_recipe(recipe_path).recipe
    series = read_series(recipe_path.with_name("tiny.csv"), recipe.data)
    split = split_series(series, recipe)

    network = build_network(recipe, series, split)
    unit = network.make(torch.from_numpy(series.values[None]), *network.initial_state(1)).unit

    train = series.target[split.train].astype(np.float64)
    expected = [np.sqrt(np.mean((train[k:] - train[:-k]) ** 2)) for k in (1, 2, 3)]
    assert unit.tolist() == pytest.approx(expected, rel=0.01)


def test_the_quantile_loss_is_least_at_the_quantile() -> None:
    values = torch.arange(101.0)
    counts = torch.ones(101, 1, dtype=torch.bool)

    def loss(q: float) -> float:
        made = torch.full((101, 1, 1), q)
        return quantile_loss(made, values[:, None], counts, torch.tensor([0.9]), torch.ones(1)).item()

    assert min(range(101), key=loss) == 90


def test_the_command_trains_and_prints_the_folder(recipe_path: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"

    result = CliRunner().invoke(train_command, [str(recipe_path), "--models", str(models), "--version", "7"])

    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == str(models / "tiny" / "7")
    assert re.match(r"tiny/7: \d+ rows to train on, \d+ to validate by, \d+ held out\n", result.stderr)
    assert "repeat last" in result.stderr
    assert read_package(models / "tiny" / "7").manifest.version == "7"


def test_the_command_names_data_that_are_not_there(recipe_path: Path, tmp_path: Path) -> None:
    arguments = [str(recipe_path), "--models", str(tmp_path / "models"), "--data", str(tmp_path / "none.csv")]

    with pytest.raises(ConfigError, match=r"none\.csv: No such file or directory"):
        CliRunner().invoke(train_command, arguments, catch_exceptions=False)


def test_the_command_writes_the_log_where_it_is_asked_to(recipe_path: Path, tmp_path: Path) -> None:
    arguments = [str(recipe_path), "--models", str(tmp_path / "models"), "--log", str(tmp_path / "log.csv")]

    result = CliRunner().invoke(train_command, arguments)

    assert result.exit_code == 0
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 1 + 3
    assert [path.name for path in (tmp_path / "models" / "tiny").iterdir()] == ["1"]


def test_the_command_finds_the_file_in_the_data_folder(
    recipe_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "tiny.csv").rename(tmp_path / "data" / "tiny.csv")
    monkeypatch.setenv("TIDEGATE_DATA", str(tmp_path / "data"))

    result = CliRunner().invoke(train_command, [str(recipe_path), "--models", str(tmp_path / "models")])

    assert result.exit_code == 0


def test_a_version_that_is_there_is_made_again_byte_for_byte(recipe_path: Path, tmp_path: Path) -> None:
    file = read_recipe(recipe_path)
    first = run_recipe(file, tmp_path).path
    before = (first / "manifest.toml").stat()

    again = run_recipe(file, tmp_path).path

    assert again == first
    assert (again / "manifest.toml").stat() == before


def test_a_version_of_another_recipe_is_refused_before_it_is_trained(
    recipe_path: Path, tmp_path: Path
) -> None:
    run_recipe(read_recipe(recipe_path), tmp_path)
    change(recipe_path, "seed = 3", "seed = 4")
    seen: list[Epoch] = []

    with pytest.raises(
        PackageError, match="tiny/1: exists with another recipe_sha256: choose the next version"
    ):
        run_recipe(read_recipe(recipe_path), tmp_path, watcher=Watcher(epoch_done=seen.append))

    assert seen == []


def test_what_lies_at_the_version_and_is_no_package_is_named_before_training(
    recipe_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "models" / "tiny" / "1").mkdir(parents=True)
    seen: list[Epoch] = []

    with pytest.raises(PackageError, match=r"tiny/1/manifest\.toml: No such file"):
        run_recipe(read_recipe(recipe_path), tmp_path / "models", watcher=Watcher(epoch_done=seen.append))

    assert seen == []


def test_a_version_of_other_data_is_refused_before_it_is_trained(recipe_path: Path, tmp_path: Path) -> None:
    file = read_recipe(recipe_path)
    run_recipe(file, tmp_path)
    other = tmp_path / "other.csv"
    other.write_text((tmp_path / "tiny.csv").read_text() + "2020-06-29,12\n")
    seen: list[Epoch] = []

    with pytest.raises(PackageError, match="exists with another data_sha256"):
        run_recipe(file, tmp_path, data=other, watcher=Watcher(epoch_done=seen.append))

    assert seen == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(recipe_path: Path, tmp_path: Path) -> None:
    change(recipe_path, "seed = 3", 'seed = 3\ndevice = "cuda"')

    with pytest.raises(ConfigError, match=r"training\.device: expected 'cpu' or 'auto'.*got 'cuda'"):
        run_recipe(read_recipe(recipe_path), tmp_path / "models")


def test_any_device_will_do_where_none_is_named(recipe_path: Path, tmp_path: Path) -> None:
    change(recipe_path, "seed = 3", 'seed = 3\ndevice = "auto"')

    assert read_package(run_recipe(read_recipe(recipe_path), tmp_path / "models").path).manifest.batch_exact
