"""The figures that a manifest keeps, measured on the package itself: through the engine, and not in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidegate.evaluation.evaluation import Evaluation, Plan, evaluate_package
from tidegate.evaluation.figures import manifest_figures
from tidegate.evaluation.predicted import predicted
from tidegate.evaluation.series import read_series
from tidegate.evaluation.split import recipe_time
from tidegate.evaluation.streaming import load_runner
from tidegate.model.package import ModelPackage


@dataclass
class Measuring:
    """Measures a package on the validation and the held-out rows of its recipe; for `export_package`.

    Attributes:
        data: The file that the recipe means.
        found: By part, once a package was measured.
    """

    data: Path
    found: dict[str, Evaluation] = field(default_factory=dict)

    def __call__(self, package: ModelPackage) -> Mapping[str, Any]:
        """What the manifest is to keep.

        Args:
            package: Its provenance has the recipe and the hash of the data.
        """
        manifest = package.manifest
        runner = load_runner(package)
        series = read_series(self.data, manifest, predicted(manifest).targets)
        test_from = recipe_time(manifest, "test_from")
        plans = {
            "validation": Plan(first=recipe_time(manifest, "validation_from"), until=test_from),
            "test": Plan(first=test_from, until=recipe_time(manifest, "test_until")),
        }
        self.found = {part: evaluate_package(runner, series, plan) for part, plan in plans.items()}
        test = self.found["test"]
        return {
            "target_std": dict(zip(test.look.targets, test.unit.std.tolist(), strict=True)),
            "metrics": {part: manifest_figures(found) for part, found in self.found.items()},
        }
