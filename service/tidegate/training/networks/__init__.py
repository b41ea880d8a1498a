"""The forecasting network in small modules: raw values in, quantiles of what comes next in the same units out.

Nothing happens outside the graph, and what is carried from step to step is state. Only operators that
ONNX Runtime computes bit-identically alone and batched are used, hence Exp where Softplus would do, and
sums spelled out where ReduceSum or CumSum would do.

A module that needs a recursion over time beside the cells, or that looks at long windows, is exported
one step at a time (`Forecaster.steps_alone`); all others keep their time axis.

Shapes, here and below: B rows, T steps, F features, of which C are columns of the data and the others
come from the calendar; M targets, K horizons, Q quantile levels, W steps of a window.
"""

from tidegate.training.networks.anomaly import AnomalyScore
from tidegate.training.networks.calendar import CalendarBins
from tidegate.training.networks.changes import Changes, WindowChanges
from tidegate.training.networks.forecaster import Forecaster, Made, Parts, SingleStep
from tidegate.training.networks.head import BlendedHead, Head, QuantileHead, Quantiles
from tidegate.training.networks.linear import LinearBase, LinearWeights
from tidegate.training.networks.missing import Missing
from tidegate.training.networks.scaling import Scaling
from tidegate.training.networks.shared import SharedCells
from tidegate.training.networks.units import ChangeUnit, FixedUnit, LevelUnit, Memory, Unit

__all__ = [
    "AnomalyScore",
    "BlendedHead",
    "CalendarBins",
    "ChangeUnit",
    "Changes",
    "FixedUnit",
    "Forecaster",
    "Head",
    "LevelUnit",
    "LinearBase",
    "LinearWeights",
    "Made",
    "Memory",
    "Missing",
    "Parts",
    "QuantileHead",
    "Quantiles",
    "Scaling",
    "SharedCells",
    "SingleStep",
    "Unit",
    "WindowChanges",
]
