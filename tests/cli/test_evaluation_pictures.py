"""What `tidegate evaluate --png` draws."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
from matplotlib.colors import to_rgb

from support.naive_models import repeating_package
from support.server import MODELS
from tidegate.cli.evaluation_pictures import MODEL, draw_excerpt
from tidegate.evaluation.evaluation import Plan, evaluate_package
from tidegate.evaluation.series import read_series
from tidegate.evaluation.streaming import load_runner
from tidegate.model.package import read_package

DEMO = MODELS / "co2-weekly"
Evaluate = Callable[..., tuple[int, str, str]]


def num_drawn(picture: Path) -> int:
    """Pixels in the colour of the model."""
    pixels = matplotlib.image.imread(picture)[..., :3]
    return int((np.abs(pixels - to_rgb(MODEL)) < 0.02).all(-1).sum())


def test_pictures_are_drawn(evaluate: Evaluate, tmp_path: Path) -> None:
    code, _, err = evaluate(DEMO, DEMO / "co2.csv", "--png", tmp_path / "new" / "pictures")

    files = sorted((tmp_path / "new" / "pictures").iterdir())
    assert code == 0
    assert [file.name for file in files] == ["calibration.png", "errors.png", "excerpt.png"]
    for file in files:
        assert str(file) in err
        # More than the legend alone has.
        assert num_drawn(file) > 300, file.name


def test_points_without_times_are_drawn_too(evaluate: Evaluate, tmp_path: Path) -> None:
    repeating_package(tmp_path / "models", ("a", "b"), 2, anomaly=True)
    data = tmp_path / "plain.csv"
    data.write_text("a,b\n" + "".join(f"{k / 50},{k % 7}\n" for k in range(50)))

    code, out, _ = evaluate("repeating", data, "--models", tmp_path / "models", "--png", tmp_path)

    assert code == 0
    assert [file.name for file in sorted(tmp_path.glob("*.png"))] == [
        "anomalies.png",
        "errors.png",
        "excerpt.png",
    ]
    assert "| 0.9 | 8.0% | 10% |" in out


def test_the_legend_of_an_excerpt_hides_no_forecast() -> None:
    package = read_package(DEMO / "1")
    series = read_series(DEMO / "co2.csv", package.manifest, ("co2_ppm",))
    found = evaluate_package(load_runner(package), series, Plan())

    figure = draw_excerpt(found)

    assert [panel.get_legend() for panel in figure.axes] == [None]
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["0.1 to 0.9", "forecast", "observed"]
    assert not legend.get_window_extent().overlaps(figure.axes[0].get_window_extent())
