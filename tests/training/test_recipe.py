"""A recipe that cannot be is refused by key, before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tidegate.errors import ConfigError
from tidegate.training.data import read_series, split_series
from tidegate.training.data_recipe import DataRecipe
from tidegate.training.recipe import read_recipe


def change(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_a_recipe_is_read_with_its_text(recipe_path: Path) -> None:
    file = read_recipe(recipe_path)

    assert file.recipe.network.lags == (1, 7)
    assert file.text == recipe_path.read_text()


@pytest.mark.parametrize("moment", ["2020-04-01", "2020-04-01T00:00:00", "2020-04-01T06:30:00+02:00"])
def test_a_moment_is_the_same_in_toml_and_in_a_manifest(recipe_path: Path, moment: str) -> None:
    data = read_recipe(change(recipe_path, "2020-04-01", moment)).recipe.data

    kept = DataRecipe.model_validate(data.model_dump(mode="json"))

    assert str(data.validation_from) == moment.replace("T", " ")
    assert kept == data


def test_the_version_can_be_chosen(recipe_path: Path) -> None:
    assert read_recipe(recipe_path, version="2").recipe.version == "2"


def test_the_seed_can_be_chosen(recipe_path: Path) -> None:
    written = read_recipe(recipe_path)

    chosen = read_recipe(recipe_path, seed=4)

    assert chosen.recipe.training == written.recipe.training.model_copy(update={"seed": 4})
    assert chosen.text == written.text


def test_a_chosen_seed_needs_no_table_and_must_be_possible(recipe_path: Path) -> None:
    text = recipe_path.read_text().partition("[training]")[0]
    recipe_path.write_text(text)

    assert read_recipe(recipe_path, seed=4).recipe.training.seed == 4
    with pytest.raises(
        ConfigError, match=r"training\.seed: Input should be greater than or equal to 0, got -1"
    ):
        read_recipe(recipe_path, seed=-1)
    recipe_path.write_text("training = 5\n" + text)
    with pytest.raises(ConfigError, match="training: Input should be a valid dictionary"):
        read_recipe(recipe_path, seed=4)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("seed = 3", "sead = 3", "training.sead: there is no such key, got 3"),
        ('version = "1"', 'version = "v1"', "version: String should match pattern"),
        ('cell = "lstm"', 'cell = "transformer"', "network.cell: Input should be 'lstm', 'gru' or 'rnn'"),
        ("hidden_size = 8", "hidden_size = 0", "network.hidden_size: Input should be greater than or equal to 1"),
        ("lags = [1, 7]", "lags = [7, 1]", "network.lags: expected ascending lags"),
        ("lags = [1, 7]", "lags = []", "network.lags: Tuple should have at least 1 item"),
        ('target = "level"', 'target = "depth"', "data: targets: expected one of ['level'], got 'depth'"),
        ('[{ name = "level", unit = "m" }]', '[{ name = "level" }, { name = "level" }]', "data: columns: names must differ"),
        ("2020-05-15", "2020-04-01", "data: test_from: expected a time after 2020-04-01, got 2020-04-01"),
        ("2020-05-15", '"soon"', "data.test_from"),
        ("[data.time]", "test_until = 2020-05-15\n[data.time]", "data: test_until: expected a time after 2020-05-15, got 2020-05-15"),
        ("[data.time]", "test_until = 0001-01-01\n[data.time]", "data: expected a year from 2 to 9998, got 1"),
        ('column = "day"\n', "", "data: time.column: required"),
        ('target = "level"', 'target = "level"\ntargets = ["level"]', "data: target: expected either target or targets, got both"),
        ('target = "level"', 'targets = ["level", "level"]', "data: targets: names must differ"),
        ('target = "level"', "targets = []", "data.targets: Tuple should have at least 1 item"),
        ("lags = [1, 7]", "lags = [1]\nmeans = [7, 3]", "network.means: expected ascending means"),
        ("lags = [1, 7]", 'lags = [1]\nnormalise = "always"', "network.normalise: Input should be 'fixed', 'running' or 'frozen'"),
        ("lags = [1, 7]", "lags = [1]\nnormalise_steps = 1", "network.normalise_steps: Input should be greater than or equal to 2"),
        ("lags = [1, 7]", 'lags = [1]\nsees_level = true\nnormalise = "running"\nnormalise_by = "change"', "network: sees_level: needs normalise_by = 'level'"),
        ("lags = [1, 7]", "lags = [1]\ncalendar_bins = true", "network.calendar_bins: needs data.time.calendar"),
        ("lags = [1, 7]", "lags = [1]\nlinear = { window = 1 }", "network.linear.window: Input should be greater than or equal to 2"),
        ("lags = [1, 7]", "lags = [1]\nlinear = { window = 9, cell_share = 1.0 }", "network.linear.cell_share: Input should be less than 1"),
        ("season_steps = 7", 'season_steps = 7\nmode = "oracle"', "forecast.mode: Input should be 'direct' or 'rollout'"),
        ("season_steps = 7", "season_steps = 7\nquantile_levels = [0.5]\n[anomaly]", "anomaly: needs at least three forecast.quantile_levels"),
        ("season_steps = 7", "season_steps = 7\nquantile_levels = [0.9, 0.5, 0.1]", "quantile_levels: expected ascending levels around 0.5"),
        ("season_steps = 7", "season_steps = 7\nquantile_levels = [0.1, 0.9]", "quantile_levels: expected ascending levels around 0.5"),
        ("season_steps = 7", "season_steps = 7\nquantile_levels = [0.0, 0.5, 0.9]", "quantile_levels.0"),
        ("learning_rate = 0.02", "learning_rate = -1", "training.learning_rate: Input should be greater than 0, got -1"),
        ("seed = 3", 'device = "gpu"', "training.device: Input should be 'cpu', 'cuda' or 'auto', got 'gpu'"),
        ("seed = 3", 'optimiser = "lbfgs"', "training.optimiser: Input should be 'adamw' or 'sgd', got 'lbfgs'"),
        ("seed = 3", 'schedule = "steps"', "training.schedule: Input should be 'cosine' or 'constant', got 'steps'"),
        ("seed = 3", "cold_share = 1.5", "training.cold_share: Input should be less than or equal to 1, got 1.5"),
        ("learning_rate = 0.02", "learning_rate = inf", "training.learning_rate: Input should be less than or equal to 1000, got inf"),
        ("learning_rate = 0.02", "learning_rate = 1e300", "training.learning_rate: Input should be less than or equal to 1000"),
        ("learning_rate = 0.02", "learning_rate = nan", "training.learning_rate: Input should be"),
        ("learning_rate = 0.02", "learning_rate = true", "training.learning_rate: Input should be a valid number, got True"),
        ("batch_size = 4", "batch_size = 10_000_000_000", "training.batch_size: Input should be less than or equal to 65536"),
        ("max_epochs = 3", "max_epochs = true", "training.max_epochs: Input should be a valid integer, got True"),
        ("seed = 3", 'seed = "3"', "training.seed: Input should be a valid integer, got '3'"),
        ("hidden_size = 8", 'hidden_size = "8"', "network.hidden_size: Input should be a valid integer, got '8'"),
        ("hidden_size = 8", "hidden_size = 8\nshared = 1", "network.shared: Input should be a valid boolean, got 1"),
        ("hidden_size = 8", "hidden_size = 8\nnormalise_steps = 1_000_000", "network.normalise_steps: Input should be less than or equal to 100000"),
        ("lags = [1, 7]", 'lags = ["1"]', "network.lags.0: Input should be a valid integer, got '1'"),
        ("season_steps = 7", 'season_steps = 7\ncalibrate = "yes"', "forecast.calibrate: Input should be a valid boolean, got 'yes'"),
        ("2020-04-01", "20200401", "data.validation_from: expected a date or a date and time, as in 2000-01-01T12:00:00, got 20200401"),
        ("2020-04-01", '"April"', "data.validation_from: expected a date or a date and time, as in 2000-01-01T12:00:00, got 'April'"),
        ("2020-04-01", "12:00:00", "data.validation_from: expected a date or a date and time"),
        ("[training]", "[trainig]", "trainig: there is no such key"),
        ("[data]", "[data", "not TOML"),
    ],
)  # fmt: skip
def test_a_wrong_recipe_is_refused_by_key(recipe_path: Path, old: str, new: str, problem: str) -> None:
    change(recipe_path, old, new)

    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        read_recipe(recipe_path)

    assert str(caught.value).startswith(f"{recipe_path}: ")


def test_a_rollout_of_a_part_of_the_columns_is_refused(recipe_path: Path) -> None:
    change(recipe_path, '{ name = "level", unit = "m" }', '{ name = "level" }, { name = "flow" }')
    change(recipe_path, "season_steps = 7", 'season_steps = 7\nmode = "rollout"')

    with pytest.raises(ConfigError, match="so all must be targets; 'flow' is none"):
        read_recipe(recipe_path)


def test_a_single_target_may_be_named_alone(recipe_path: Path) -> None:
    alone = read_recipe(recipe_path).recipe
    change(recipe_path, 'target = "level"', 'targets = ["level"]')

    assert read_recipe(recipe_path).recipe == alone


def test_a_recipe_with_the_byte_order_mark_of_some_editors_is_read(recipe_path: Path) -> None:
    plain = read_recipe(recipe_path)
    recipe_path.write_bytes(b"\xef\xbb\xbf" + recipe_path.read_bytes())

    assert read_recipe(recipe_path) == plain


def test_a_recipe_that_is_not_utf8_is_named(recipe_path: Path) -> None:
    recipe_path.write_bytes(recipe_path.read_bytes().replace(b"tiny", b"t\xefny", 1))

    with pytest.raises(ConfigError, match=r"recipe\.toml: not TOML, which is UTF-8: .*0xef"):
        read_recipe(recipe_path)


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: No such file or directory"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("day,depth\n2020-01-01,1\n", "column 'level': no such column; got day, depth"),
        ("date,level\n2020-01-01,1\n", "time column 'day': no such column; got date, level"),
        ("day,level\n2020-01-01,1\n2020-01-02,x\n", "row 2: column 'level': expected a number, got 'x'"),
        ("day,level\n2020-01-02,1\n2020-01-01,1\n", "row 2: time 2020-01-01 goes back behind 2020-01-02"),
    ],
)
def test_data_that_do_not_fit_are_refused_by_file_and_row(recipe_path: Path, text: str, problem: str) -> None:
    data = recipe_path.with_name("tiny.csv")
    data.write_text(text)

    with pytest.raises(ConfigError, match=re.escape(problem)) as caught:
        read_series(data, read_recipe(recipe_path).recipe.data)

    assert str(data) in str(caught.value)


def test_a_part_without_a_measured_future_is_named(recipe_path: Path) -> None:
    recipe = read_recipe(change(recipe_path, "2020-05-15", "2020-06-20")).recipe
    data = recipe_path.with_name("tiny.csv")
    lines = data.read_text().splitlines()
    cut = next(k for k, line in enumerate(lines) if line.startswith("2020-06-21"))
    data.write_text("\n".join(lines[:cut] + [f"{line.split(',')[0]}," for line in lines[cut:]]))

    series = read_series(data, recipe.data)

    with pytest.raises(ConfigError, match="test split: expected measured values 1 steps ahead, got none"):
        split_series(series, recipe)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("2020-04-01", "2020-01-15", "train split: expected at least 31 rows, got 14"),
        ("2020-05-15", "2020-04-03", "validation split: expected at least 4 rows, got 2"),
        ("2020-05-15", "2021-01-01", "test split: expected at least 4 rows, got 0"),
    ],
)
def test_a_part_that_is_too_short_is_named(recipe_path: Path, old: str, new: str, problem: str) -> None:
    recipe = read_recipe(change(recipe_path, old, new)).recipe
    series = read_series(recipe_path.with_name("tiny.csv"), recipe.data)

    with pytest.raises(ConfigError, match=re.escape(problem)):
        split_series(series, recipe)


def test_a_season_that_is_longer_than_the_series_is_refused(recipe_path: Path) -> None:
    recipe = read_recipe(change(recipe_path, "season_steps = 7", "season_steps = 136")).recipe
    series = read_series(recipe_path.with_name("tiny.csv"), recipe.data)

    with pytest.raises(
        ConfigError, match=r"forecast\.season_steps: expected at most 135, the rows before .*, got 136"
    ):
        split_series(series, recipe)


def test_a_column_that_was_never_measured_is_named(recipe_path: Path) -> None:
    change(recipe_path, 'missing = "repeat-last"', 'missing = "mask"')
    change(recipe_path, '[{ name = "level", unit = "m" }]', '[{ name = "level" }, { name = "flow" }]')
    data = recipe_path.with_name("tiny.csv")
    header, *lines = data.read_text().splitlines()
    data.write_text("\n".join([f"{header},flow", *(f"{line}," for line in lines)]))
    recipe = read_recipe(recipe_path).recipe

    with pytest.raises(ConfigError, match="train split: column 'flow': expected measured values, got none"):
        split_series(read_series(data, recipe.data), recipe)
