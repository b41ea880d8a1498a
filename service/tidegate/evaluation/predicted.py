"""What a model's output predicts: of which columns, how far ahead, and with which quantiles.

Everything comes from the manifest. Answers of all layouts become one: `[n, M, K, Q]`, with M targets, K
horizons and Q quantile levels, or Q = 1 for a model that answers with one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from tidegate.errors import InvalidRequest, Unsupported
from tidegate.model.forecast import FeedbackRules
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec
from tidegate.tensor import Array, format_shape


@dataclass(frozen=True)
class Predicted:
    """An output whose predictions can be held against a file.

    Attributes:
        position: Of the output among the manifest's.
        targets: Columns that are predicted, M.
        units: Theirs; "" for a number without one.
        horizon_steps: How many steps ahead the answer to one step looks, ascending, K.
        levels: Quantile levels, ascending, Q; empty for a model that answers with one number.
        is_rolled: Steps further ahead are to be had by feeding answers back.
    """

    position: int
    targets: tuple[str, ...]
    units: tuple[str, ...]
    horizon_steps: tuple[int, ...]
    levels: tuple[float, ...]
    is_rolled: bool

    @property
    def point(self) -> int:
        """Which of the quantiles is the forecast in one number: the median, or the nearest to it."""
        distances = [abs(level - 0.5) for level in self.levels] or [0.0]
        return distances.index(min(distances))

    def laid_out(self, answers: Array) -> Array:
        """Answers to n steps, `[n, step_shape...]`, as `[n, M, K, Q]`."""
        return answers.reshape(
            len(answers), len(self.targets), len(self.horizon_steps), max(1, len(self.levels))
        )


def predicted(manifest: Manifest, output: str = "") -> Predicted:
    """The output that is to be evaluated.

    Args:
        manifest: Of the package.
        output: Name of an output; "": the first of those that `[forecast]` names or, where there is none, the
            first that looks ahead.

    Raises:
        InvalidRequest: There is no such output.
        Unsupported: The manifest does not say what the output predicts.
    """
    spec = _chosen(manifest, output)
    rules = manifest.forecast
    is_fed_back = isinstance(rules, FeedbackRules) and spec.name in [pair.output for pair in rules.pairs]
    is_rolled = is_fed_back and spec.horizon_steps in ((), (1,))
    if not spec.horizon_steps and not is_rolled:
        raise Unsupported(
            f"{manifest.label}: output {spec.name!r} has no horizon_steps, so nothing says what it looks ahead to "
            "(docs/model-package.md)"
        )
    targets = spec.features or _fed_features(manifest, spec)
    horizons = (1,) if is_rolled else spec.horizon_steps
    found = Predicted(
        position=[o.name for o in manifest.outputs].index(spec.name),
        targets=targets,
        units=spec.units or ("",) * len(targets),
        horizon_steps=horizons,
        levels=spec.quantile_levels,
        is_rolled=is_rolled,
    )
    _check_shape(manifest, spec, found)
    _check_order(manifest, spec)
    return found


def _chosen(manifest: Manifest, name: str) -> OutputSpec:
    outputs = {o.name: o for o in manifest.outputs}
    if name and name not in outputs:
        raise InvalidRequest(f"output: expected one of {', '.join(outputs)}, got {name!r}")
    rules = manifest.forecast
    if name:
        return outputs[name]
    if rules is not None:
        return outputs[rules.pairs[0].output if isinstance(rules, FeedbackRules) else rules.outputs[0]]
    looking_ahead = [o for o in manifest.outputs if o.horizon_steps]
    if not looking_ahead:
        raise Unsupported(
            f"{manifest.label}: no output has horizon_steps, so there is no forecast to evaluate "
            "(docs/model-package.md)"
        )
    return looking_ahead[0]


def _fed_features(manifest: Manifest, spec: OutputSpec) -> tuple[str, ...]:
    """Names for an output that gives none: of what it is fed into, or of the model's only feature."""
    rules = manifest.forecast
    inputs = {i.name: i for i in manifest.inputs}
    if isinstance(rules, FeedbackRules):
        pairs = [pair for pair in rules.pairs if pair.output == spec.name]
        if len(pairs) == 1:
            return (pairs[0].input_feature,) if pairs[0].input_feature else _names(inputs[pairs[0].input])
    names = [name for i in manifest.inputs for name in _names(i)]
    names = [name for name in names if name not in manifest.time.computed_features]
    if len(names) == 1:
        return tuple(names)
    raise Unsupported(
        f"{manifest.label}: output {spec.name!r}: features: expected the names of the columns that it predicts"
    )


def _names(spec: InputSpec) -> tuple[str, ...]:
    return spec.features or (spec.name,)


def _check_shape(manifest: Manifest, spec: OutputSpec, found: Predicted) -> None:
    """The axes that the manifest tells of must be all that there are."""
    wanted = len(found.targets) * len(found.horizon_steps) * max(1, len(found.levels))
    if prod(spec.step_shape) != wanted or np.dtype(spec.dtype.numpy).kind != "f":
        raise Unsupported(
            f"{manifest.label}: output {spec.name!r}: expected real numbers for {len(found.targets)} features, "
            f"{len(found.horizon_steps)} horizons and {len(found.levels) or 'no'} quantiles, "
            f"got {spec.dtype} {format_shape(spec.step_shape)}"
        )


def _check_order(manifest: Manifest, spec: OutputSpec) -> None:
    """An interval goes from the first quantile to the last, and windows up to a horizon."""
    for key, values in (("horizon_steps", spec.horizon_steps), ("quantile_levels", spec.quantile_levels)):
        if any(after <= before for before, after in pairwise(values)):
            raise Unsupported(
                f"{manifest.label}: output {spec.name!r}: {key}: expected ascending ones, got {list(values)}"
            )
