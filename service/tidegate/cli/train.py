"""`tidegate train`: from a recipe and a CSV file to a checked package."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from tidegate.cli.figure_tables import kept_figures, print_tables
from tidegate.cli.packages import into_repository

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("recipe", type=_FILE)
@into_repository
@click.option("--data", type=_FILE, help="CSV file to train on instead of the recipe's.")
@click.option("--version", help="Version to write instead of the recipe's.")
@click.option("--seed", type=int, help="Train with this seed instead of the recipe's.")
@click.option(
    "--log",
    type=_FILE,
    help="CSV file that takes a row per epoch.  [default: training-VERSION.csv beside the package]",
)
@click.option(
    "--restart", is_flag=True, help="Begin anew instead of resuming a training that was interrupted."
)
def train(
    recipe: Path,
    models: Path,
    data: Path | None,
    version: str | None,
    seed: int | None,
    log: Path | None,
    restart: bool,
) -> None:
    """Train the model that RECIPE describes and write its package.

    The exported graph is checked against PyTorch before anything is written. A recipe gives the same bytes
    every time on the same machine, also when training is interrupted: the same command resumes it after the
    last whole epoch. A version that exists with other bytes is never overwritten.
    """
    from tidegate.cli.training_progress import TrainingProgress
    from tidegate.evaluation.figures import manifest_figures
    from tidegate.training.recipe import read_recipe
    from tidegate.training.recipe_run import run_recipe

    file = read_recipe(recipe, version=version, seed=seed)
    console = Console(stderr=True)
    with TrainingProgress(file.recipe, console) as progress:
        made = run_recipe(file, models, data=data, log=log, restart=restart, watcher=progress.watcher)
    print_tables(kept_figures({"metrics": {"held-out": manifest_figures(made.held_out)}}), err=True)
    click.echo(made.path)
