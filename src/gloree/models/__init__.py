"""Networks with frozen weights: run them, compare them, save them, hand them to PyTorch."""

from gloree._storage import FormatError
from gloree.models._blocks import BlockRun, forward_blocks
from gloree.models._brnn import BRNN
from gloree.models._equilibrium import EquilibriumError, find_equilibria
from gloree.models._forward import (
    EXPLOSION_LIMIT,
    ExplosionError,
    ExplosionWarning,
    explosion_limit,
    find_explosions,
    forward_packed,
    multiply_rows,
)
from gloree.models._iornn import IORNN
from gloree.models._network import Network
from gloree.models._onnx import ClassOutput, Precision, export_onnx, to_onnx
from gloree.models._prediction import (
    RowFunction,
    check_columns,
    predict_data,
    start_at,
    sum_predictions,
)
from gloree.models._prediction_errors import RowsWithErrors, WeightErrors, prediction_variances
from gloree.models._recursion import Explosions, Recursion
from gloree.models._states import GivenStates, Start, read_states
from gloree.models._stepper import Stepper
from gloree.models._storage import storable_spec
from gloree.models._symmetry import CanonicalUnits, canonical_units, mirror_images
from gloree.sequences import joint_windows, lag_windows

__all__ = [
    "BRNN",
    "EXPLOSION_LIMIT",
    "IORNN",
    "BlockRun",
    "CanonicalUnits",
    "ClassOutput",
    "EquilibriumError",
    "ExplosionError",
    "ExplosionWarning",
    "Explosions",
    "FormatError",
    "GivenStates",
    "Network",
    "Precision",
    "Recursion",
    "RowFunction",
    "RowsWithErrors",
    "Start",
    "Stepper",
    "WeightErrors",
    "canonical_units",
    "check_columns",
    "explosion_limit",
    "export_onnx",
    "find_equilibria",
    "find_explosions",
    "forward_blocks",
    "forward_packed",
    "joint_windows",
    "lag_windows",
    "mirror_images",
    "multiply_rows",
    "predict_data",
    "prediction_variances",
    "read_states",
    "start_at",
    "storable_spec",
    "sum_predictions",
    "to_onnx",
]
