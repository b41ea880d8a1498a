"""`tidegate train`: from a recipe and a CSV file to a checked package."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tidegate.cli.figure_tables import kept_figures, print_tables
from tidegate.evaluation.figures import manifest_figures
from tidegate.training import train as training
from tidegate.training.recipe import RecipeFile, read_recipe
from tidegate.training.recipe_run import TrainedPackage, run_recipe

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.argument("recipe", type=_FILE)
@click.option(
    "--models",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    show_default=True,
    help="Model repository that takes the package.",
)
@click.option("--data", type=_FILE, help="CSV file to train on instead of the recipe's.")
@click.option("--version", help="Version to write instead of the recipe's.")
def train(recipe: Path, models: Path, data: Path | None, version: str | None) -> None:
    """Train the model that RECIPE describes and write its package.

    The exported graph is checked against PyTorch before anything is written. A recipe gives the same bytes
    every time on the same machine; a version that exists with other bytes is never overwritten.
    """
    file = read_recipe(recipe, version=version)
    console = Console(stderr=True)
    made = _train_showing_progress(file, models, data, console)
    print_tables(kept_figures({"metrics": {"held-out": manifest_figures(made.held_out)}}), err=True)
    click.echo(made.path)


def _train_showing_progress(
    file: RecipeFile, models: Path, data: Path | None, console: Console
) -> TrainedPackage:
    columns = (
        TextColumn("{task.fields[label]}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        recipe = file.recipe
        label = f"{recipe.name}/{recipe.version}"
        task = bar.add_task("", total=recipe.training.max_epochs, label=label, loss="")

        def report(progress: training.Progress) -> None:
            loss = f"loss {progress.validation_loss:.4f} best {progress.best_loss:.4f}"
            bar.update(task, completed=progress.epoch, loss=loss)

        return run_recipe(file, models, data=data, report=report)
