"""The forecasting network in small modules: raw values in, quantiles of what comes next in the same units out.

Nothing happens outside the graph, and what is carried from step to step is state. Only operators that
ONNX Runtime computes bit-identically alone and batched are used, hence Exp where Softplus would do, and
sums spelled out where ReduceSum or CumSum would do.

A module that needs a recursion over time beside the cell, or that looks at long windows, is exported
one step at a time (`steps_alone`); all others keep their time axis.

Shapes, here and below: B rows, T steps, F features, of which C are columns of the data and the others
come from the calendar; M targets, K horizons, Q quantile levels.
"""

from tidegate.training.networks.changes import Changes
from tidegate.training.networks.forecaster import Forecaster, Made, SingleStep
from tidegate.training.networks.head import QuantileHead
from tidegate.training.networks.missing import Missing
from tidegate.training.networks.units import FixedUnit, RunningUnit
from tidegate.training.networks.scaling import Scaling
from tidegate.training.states import Carried

__all__ = [
    "Carried",
    "Changes",
    "FixedUnit",
    "Forecaster",
    "Made",
    "Missing",
    "QuantileHead",
    "RunningUnit",
    "Scaling",
    "SingleStep",
]
