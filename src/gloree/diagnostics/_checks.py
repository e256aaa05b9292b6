"""Checks before a fit: is the activation one that moments recover, are sizes and data enough."""

from __future__ import annotations

import numpy as np

from gloree.activations import Activation, PerUnit, Polynomial
from gloree.decomposition import degrees_of_freedom
from gloree.diagnostics._findings import IdentifiabilityError, TooFewSamplesError
from gloree.sequences import Array

LARGEST_SIZE, SMALLEST_SIZE = 1e20, 1e-20
"""Standard deviations of inputs and outputs that a fit computes with: it takes their twelfth powers
(the variance of a moment of degree six), which float64 holds up to 1e308."""

CONDITION_LIMIT = 1e6
"""Condition number of the input covariance from which errors twice the optimum were measured."""


def recoverable_degree(activation: Activation) -> tuple[int, float]:
    """Degree and leading coefficient where the moment of that order gives the units.

    A ValueError for all but polynomials of degree 2 and 3.
    """
    if not isinstance(activation, Polynomial):
        raise ValueError(
            f"`activation`={activation.name!r} is no polynomial of degree 2 or 3, whose units the "
            f"moment of that order gives: use 'quadratic' or 'cubic'"
        )
    if activation.degree == 1:
        raise ValueError(
            "`activation`='linear': a linear network is determined only up to a similarity of its "
            "states, and its realisation is not implemented yet. Use 'quadratic' with "
            "direct=True for a linear path beside the units"
        )
    if activation.degree > 3:
        raise ValueError(
            f"`activation` has degree {activation.degree}: the moment of that order can be "
            f"estimated from data of ordinary size for degrees 2 and 3"
        )
    return activation.degree, activation.leading


GRID = np.linspace(-4.0, 4.0, 801)
"""Drives at which activations are looked at: units with inputs of unit variance see these."""
GRID.setflags(write=False)

STEPS, SINGLE_STEP = (1e-5, 1e-4), 3e-3
"""Steps of differences that check a first derivative, and of functions of single precision."""

KINK = 0.05
"""Share of the grid where a derivative may differ from the quotients of differences: at kinks."""


def check_activation(activation: Activation) -> None:
    """Raise a ValueError or TypeError unless a fit can use the activation.

    Its values have to be finite and neither constant nor linear, and the first derivative that it
    gives has to be that of its values, by differences.
    """
    name = f"`activation`={activation.name!r:.100}"
    if isinstance(activation, PerUnit):
        raise ValueError(
            f"{name} has a function for each unit, and which unit is which is not known before a "
            f"fit: give one activation for all units"
        )
    if activation.degree == 1:
        recoverable_degree(activation)
    if isinstance(activation, Polynomial):
        return
    drives = GRID.copy()
    with np.errstate(all="ignore"):
        values, slopes = activation(drives), activation.derivative(drives, 1)
        if not np.array_equal(drives, GRID):
            raise ValueError(
                f"{name} writes to its argument, which is needed for its derivative: let it return "
                f"an array of its own"
            )
        single = np.array_equal(values, np.float32(values), equal_nan=True)
        quotients = {
            step: (activation(GRID + step) - activation(GRID - step)) / (2 * step)
            for step in (*STEPS, *[SINGLE_STEP] * single)
        }
    for what, found in (("value", values), ("derivative", slopes)):
        if np.shape(found) != GRID.shape:
            raise ValueError(
                f"{name} gives a {what} of shape {np.shape(found)} for arguments of shape "
                f"{GRID.shape}, expected the same: it has to work elementwise"
            )
        if not np.isfinite(found).all():
            where = GRID[~np.isfinite(found)][0]
            raise ValueError(
                f"{name} is not finite: its {what} at {where:.3g} is "
                f"{found[~np.isfinite(found)][0]}. Use one that is defined for all numbers"
            )
    spread = float(np.ptp(values))
    if spread <= 1e-12 * max(float(np.abs(values).max()), 1e-300):
        raise ValueError(f"{name} is constant: it carries nothing from inputs to outputs")
    line = np.polyval(np.polyfit(GRID, values, 1), GRID)
    if float(np.abs(values - line).max()) <= 1e-9 * spread:
        raise ValueError(
            f"{name} is linear on [-4, 4]: use activation='linear', which is fitted so"
        )
    off = np.min([np.abs(slopes - each) for each in quotients.values()], axis=0)
    wrong = off > 1e-4 * (np.abs(slopes) + spread)
    if wrong.mean() > KINK:
        place = int(np.argmax(off))
        raise ValueError(
            f"{name} has a wrong first derivative: at {GRID[place]:.3g} it gives "
            f"{slopes[place]:.6g}, and differences of its values give "
            f"{quotients[SINGLE_STEP if single else STEPS[0]][place]:.6g}"
        )


def check_identifiable(
    n_inputs: int, n_hidden: int, n_outputs: int, degree: int, *, recurrent: bool
) -> bool:
    """Raise an `IdentifiabilityError` if these sizes leave the weights undetermined.

    Returns whether the units are determined (False: only up to a rotation, see `RotationWarning`).
    """
    if degree == 2 and n_outputs == 1:
        if recurrent:
            raise IdentifiabilityError(
                "one output and a quadratic activation determine the hidden units only up to a "
                "rotation, which a recurrence does not share. Use more outputs (labels of two "
                "classes are one), activation='cubic' or 'tanh', or recurrence=None (predictions "
                "are then unaffected)"
            )
        if n_hidden > n_inputs:
            raise IdentifiabilityError(
                f"`n_hidden`={n_hidden} exceeds n_inputs={n_inputs}: with one output and a "
                f"quadratic activation at most {n_inputs} units can be told apart"
            )
        return False
    freedom = degrees_of_freedom(n_outputs, n_inputs, n_hidden, degree)
    if freedom < 0:
        largest = degrees_of_freedom(n_outputs, n_inputs, 0, degree) // (n_inputs + n_outputs - 1)
        raise IdentifiabilityError(
            f"`n_hidden`={n_hidden} is too large for {n_inputs} inputs, {n_outputs} outputs and "
            f"degree {degree}: the first moment has {-freedom} entries too few to determine the "
            f"units under noise. At most {largest} can be recovered; lower `n_hidden` or use "
            f"more outputs"
        )
    return True


def rows_for(n_inputs: int) -> int:
    """Steps without which nothing is found out about so many inputs."""
    return 10 * (n_inputs + 1)


def check_samples(n_rows: int, n_outputs: int, n_parameters: int, n_inputs: int) -> None:
    """Raise a `TooFewSamplesError` unless there are clearly more numbers than unknowns."""
    needed = max(2 * n_parameters // n_outputs, rows_for(n_inputs))
    if n_rows < needed:
        raise TooFewSamplesError(
            f"{n_rows} steps of {n_outputs} outputs for {n_parameters} unknown weights and "
            f"{n_inputs} inputs: at least {needed} steps are needed, and some hundred for each "
            f"hidden unit to be accurate. Give more data or lower `n_hidden`"
        )


def check_covariance(
    covariance: Array, mean: Array | None = None, *, allow_singular: bool = False
) -> float:
    """Check that inputs vary, in all directions: condition number of their correlation matrix.

    A ValueError if a column is constant, or (unless `allow_singular`) columns are dependent.
    """
    variances = np.diag(covariance)
    check_size("X", covariance)
    rounding = 0.0 if mean is None else (1e-13 * np.abs(mean)) ** 2
    constant = np.flatnonzero(variances <= rounding)
    if constant.size:
        raise ValueError(
            f"`X` is constant in column(s) {', '.join(map(str, constant[:10]))}: leave constant "
            f"inputs out (biases are fitted without them)"
        )
    check_size("X", variances, small=False)
    scale = np.sqrt(variances)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    condition = float(values[-1] / values[0]) if values[0] > 0 else np.inf
    if values[0] < 1e-12 * values[-1] and not allow_singular:
        involved = np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)
        raise ValueError(
            f"`X` has linearly dependent columns, among {', '.join(map(str, involved[:10]))} "
            f"(condition number {condition:.1e}): leave one of them out, or project the inputs on "
            f"fewer directions. One-hot columns are fitted as they are where `n_hidden` is set, "
            f"and `moment`, `recurrence` and `refine` are not"
        )
    return condition


def check_size(name: str, squares: Array, *, small: bool = True) -> None:
    """Raise a ValueError if these mean squares are those of numbers too large to compute with.

    Or too small, unless `small` numbers may be among them.
    """
    what = "inputs" if name in "Xu" else "outputs"
    sizes = np.sqrt(np.abs(squares))
    if not np.all(sizes <= LARGEST_SIZE):
        raise ValueError(
            f"`{name}` holds values so large (of the order of {sizes.max():.0e}) that powers of "
            f"them overflow: bring the {what} to a scale near 1"
        )
    if not small and not np.all(sizes >= SMALLEST_SIZE):
        raise ValueError(
            f"`{name}` holds values so small (they vary by {sizes.min():.0e}) that powers of them "
            f"vanish: bring the {what} to a scale near 1"
        )


def check_level(level: float) -> None:
    """Refuse a level of intervals that is no probability.

    Parameters
    ----------
    level : float

    Raises
    ------
    ValueError
        Unless 0 < `level` < 1.

    Examples
    --------
    >>> from gloree.diagnostics import check_level
    >>> check_level(0.95)
    """
    if not (isinstance(level, (int, float, np.floating)) and 0.0 < level < 1.0):
        raise ValueError(
            f"`level` is {level!r:.100}, expected a number between 0 and 1, such as 0.95"
        )
