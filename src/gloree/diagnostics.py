"""What a fit found out about itself: checks before it, warnings during it, the report after it."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gloree.activations import Activation, Polynomial
from gloree.decomposition import Decomposition, degrees_of_freedom
from gloree.sequences import Array

if TYPE_CHECKING:
    from gloree.recurrence import Directions
    from gloree.refinement import RefinementStatus
    from gloree.score_functions import ScoreCheck

CONDITION_LIMIT = 1e6
"""Condition number of the input covariance from which errors twice the optimum were measured."""


class GloreeWarning(UserWarning):
    """Base of all warnings about a fit."""


class RotationWarning(GloreeWarning):
    """Units are determined only up to a rotation; predictions do not depend on it."""


class ScoreWarning(GloreeWarning):
    """The score of the fitted input law is wrong for these inputs."""


class AcceptanceWarning(GloreeWarning):
    """The decomposition does not meet its own accept rule."""


class OutlierWarning(GloreeWarning):
    """Some sequences were left out because their outputs are beyond any scale."""


class DirectionWarning(GloreeWarning):
    """The direction of some unit of a bidirectional network is not to be trusted."""


class LabelWarning(GloreeWarning):
    """Some labels were not seen in the fit."""


class ConditionWarning(GloreeWarning):
    """The inputs are nearly collinear."""


class ConvergenceWarning(GloreeWarning):
    """An iteration ended without reaching what it aims for."""


class IdentifiabilityError(ValueError):
    """The weights asked for are not determined by any amount of data of this kind."""


class TooFewSamplesError(ValueError):
    """The data hold fewer numbers than there are unknowns."""


def recoverable_degree(activation: Activation) -> tuple[int, float]:
    """Degree and leading coefficient of an activation that `fit` can recover.

    Raises
    ------
    ValueError
        If it cannot, saying what can.
    """
    if not isinstance(activation, Polynomial):
        raise ValueError(
            f"`activation`={activation.name!r}: recovery from moments is implemented for "
            f"polynomials of degree 2 and 3; networks with smooth activations can be run "
            f"(IORNN), and SystemIdentifier fits them to records of one system. Use 'quadratic' or "
            f"'cubic'"
        )
    if activation.degree == 1:
        raise ValueError(
            "`activation`='linear': a linear network is determined only up to a similarity of its "
            "states, and its realisation is not implemented yet. Use 'quadratic' with "
            "direct=True for a linear path beside the units"
        )
    if activation.degree > 3:
        raise ValueError(
            f"`activation` has degree {activation.degree}: recovery is implemented for degrees 2 "
            f"and 3, whose moments can be estimated from data of ordinary size"
        )
    return activation.degree, activation.leading


def check_identifiable(
    n_inputs: int, n_hidden: int, n_outputs: int, degree: int, *, recurrent: bool
) -> bool:
    """Check that a network of these sizes is determined by its moments.

    Returns
    -------
    bool
        Whether the units are determined (False: only up to a rotation, see `RotationWarning`).

    Raises
    ------
    IdentifiabilityError
        If the sizes leave the weights undetermined.
    """
    if degree == 2 and n_outputs == 1:
        if recurrent:
            raise IdentifiabilityError(
                "one output and a quadratic activation determine the hidden units only up to a "
                "rotation, which a recurrence does not share. Use more outputs (labels of two "
                "classes are one), activation='cubic', or recurrence=None (predictions are then "
                "unaffected)"
            )
        if n_hidden > n_inputs:
            raise IdentifiabilityError(
                f"`n_hidden`={n_hidden} exceeds n_inputs={n_inputs}: with one output and a "
                f"quadratic activation at most {n_inputs} units can be told apart"
            )
        return False
    freedom = degrees_of_freedom(n_outputs, n_inputs, n_hidden, degree)
    if freedom < 0:
        largest = n_hidden
        while largest > 0 and degrees_of_freedom(n_outputs, n_inputs, largest, degree) < 0:
            largest -= 1
        raise IdentifiabilityError(
            f"`n_hidden`={n_hidden} is too large for {n_inputs} inputs, {n_outputs} outputs and "
            f"degree {degree}: the first moment has {-freedom} entries too few to determine the "
            f"units under noise. At most {largest} can be recovered; lower `n_hidden` or use "
            f"more outputs"
        )
    return True


def check_samples(n_rows: int, n_outputs: int, n_parameters: int, n_inputs: int) -> None:
    """Check that there are clearly more numbers than unknowns.

    Raises
    ------
    TooFewSamplesError
        If not.
    """
    needed = max(2 * n_parameters // n_outputs, 10 * (n_inputs + 1))
    if n_rows < needed:
        raise TooFewSamplesError(
            f"{n_rows} steps of {n_outputs} outputs for {n_parameters} unknown weights and "
            f"{n_inputs} inputs: at least {needed} steps are needed, and some hundred for each "
            f"hidden unit to be accurate. Give more data or lower `n_hidden`"
        )


def check_covariance(
    covariance: Array, mean: Array | None = None, *, allow_singular: bool = False
) -> float:
    """Check that inputs vary, and in all directions.

    Returns
    -------
    float
        Condition number of the correlation matrix.

    Raises
    ------
    ValueError
        If a column is constant, or columns are linearly dependent (unless `allow_singular`).
    """
    variances = np.diag(covariance)
    if not np.all(np.isfinite(covariance)):
        raise ValueError(
            "`X` holds values so large that their squares overflow: bring the inputs to a scale "
            "near 1"
        )
    rounding = 0.0 if mean is None else (1e-13 * np.abs(mean)) ** 2
    constant = np.flatnonzero(variances <= rounding)
    if constant.size:
        raise ValueError(
            f"`X` is constant in column(s) {', '.join(map(str, constant[:10]))}: leave constant "
            f"inputs out (biases are fitted without them)"
        )
    scale = np.sqrt(variances)
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    condition = float(values[-1] / values[0]) if values[0] > 0 else np.inf
    if values[0] < 1e-12 * values[-1] and not allow_singular:
        involved = np.flatnonzero(np.abs(vectors[:, 0]) > 0.1)
        raise ValueError(
            f"`X` has linearly dependent columns, among {', '.join(map(str, involved[:10]))} "
            f"(condition number {condition:.1e}): leave one of them out, or project the inputs on "
            f"fewer directions"
        )
    return condition


@dataclass(frozen=True)
class Stage:
    """One stage of a fit.

    Attributes
    ----------
    name : str
    seconds : float
    detail : str
        What came out, in words and figures.
    """

    name: str
    seconds: float
    detail: str


@dataclass
class FitReport:
    """What a fit did, how well, and what to be careful about; printing it gives a table.

    Attributes
    ----------
    sizes : dict of str to int
        Data and network sizes.
    moment : str
        First moment used: "union", "xreg" or "score".
    recurrence : str
        Estimator of U used: "instrument", "least-squares", "cross", "score" or "none".
    stages : list of Stage
    score_check : ScoreCheck or None
        Stein's identity on the inputs.
    decomposition : Decomposition or None
    directions : Directions or None
        Of the units of a bidirectional network, in the order of the model (for a classifier, of
        its start).
    history : list of (str, float)
        Mean squared residual of each kept step of the moment path, on the rows that it used (a
        subsample when a refinement follows).
    moments_rmse, refined_rmse : ndarray of shape (n_outputs,) or None
        Root mean square residual with moments alone, and after refinement.
    output_std : ndarray of shape (n_outputs,)
    refinement_status : RefinementStatus or None
    refinement_steps : int
    standard_errors : dict of str to ndarray
        Of the weights of the model, in their shapes, clustered by sequence. Empty without a
        refinement, and from 1,500 weights on, where their covariance is not formed.
    predicted_errors : dict of str to float
        Relative error of each weight matrix that the standard errors imply.
    conditions : dict of str to float
        Condition numbers: inputs, components, overlap.
    accuracies : dict of str to float
        Of a labelling network: share of correct steps, by what it was measured on.
    warnings : list of str
    plan : str
        Cost and memory, as planned from the shapes.
    """

    sizes: dict[str, int]
    moment: str = ""
    recurrence: str = ""
    stages: list[Stage] = field(default_factory=list)
    score_check: ScoreCheck | None = None
    decomposition: Decomposition | None = None
    directions: Directions | None = None
    rank_reason: str | None = None
    history: list[tuple[str, float]] = field(default_factory=list)
    moments_rmse: Array | None = None
    refined_rmse: Array | None = None
    output_std: Array | None = None
    refinement_status: RefinementStatus | None = None
    refinement_steps: int = 0
    standard_errors: dict[str, Array] = field(default_factory=dict)
    predicted_errors: dict[str, float] = field(default_factory=dict)
    conditions: dict[str, float] = field(default_factory=dict)
    accuracies: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    plan: str = ""

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def warn(self, category: type[GloreeWarning], message: str) -> None:
        """Keep a warning and emit it."""
        self.warnings.append(message)
        warnings.warn(message, category, stacklevel=6)

    def __str__(self) -> str:
        lines = ["gloree fit", "  " + ", ".join(f"{k} {v:,}" for k, v in self.sizes.items())]
        lines.append(f"  first moment: {self.moment}; recurrence: {self.recurrence}")
        if self.rank_reason:
            lines.append(f"  n_hidden chosen: {self.rank_reason}")
        lines += ["", f"  {'stage':<16}{'seconds':>9}  outcome"]
        lines += [f"  {s.name:<16}{s.seconds:>9.3f}  {s.detail}" for s in self.stages]
        lines.append(f"  {'total':<16}{self.seconds:>9.3f}")
        if self.moments_rmse is not None and self.output_std is not None:
            lines += ["", f"  {'residual (RMS)':<24}{'worst output':>14}{'all outputs':>14}"]
            rows = [("outputs themselves", self.output_std), ("moments alone", self.moments_rmse)]
            if self.refined_rmse is not None:
                rows.append(("refined", self.refined_rmse))
            for name, values in rows:
                mean = float(np.sqrt(np.mean(values**2)))
                lines.append(f"  {name:<24}{values.max():>14.5g}{mean:>14.5g}")
        if self.accuracies:
            lines += ["", f"  {'accuracy':<44}"]
            lines += [f"  {name:<44}{value:>9.4f}" for name, value in self.accuracies.items()]
        if self.predicted_errors:
            lines += ["", f"  {'weights':<24}{'predicted relative error':>28}"]
            for name, error in self.predicted_errors.items():
                note = "  (not distinguishable from zero)" if error > 0.5 else ""
                lines.append(f"  {name:<24}{error:>28.2g}{note}")
        if self.conditions:
            text = ", ".join(f"{name} {value:.3g}" for name, value in self.conditions.items())
            lines += ["", f"  conditions: {text}"]
        if self.score_check is not None:
            check = self.score_check
            lines.append(
                f"  Gaussian score: Stein defect {check.defect:.2f} "
                f"(standard error {check.defect_error:.2f}), rho {check.radius:.2f}"
            )
        for message in self.warnings:
            lines.append(f"  warning: {message}")
        return "\n".join(lines)


@dataclass(frozen=True)
class OrderTrial:
    """One order of the linear model.

    Attributes
    ----------
    order : int
    singular_value : float
        Of the Hankel matrix: the last one that this order keeps.
    error : float
        Root mean square simulation error on held-out data, in units of the outputs' size.
    n_moved : int
        Unstable poles that were moved inside the unit circle.
    """

    order: int
    singular_value: float
    error: float
    n_moved: int


@dataclass
class IdentificationReport:
    """What a system identification did and how well; printing it gives a table.

    All errors are root mean squares of the simulation (free-run) error on the last fifth of the
    data, in units of the standard deviation of the outputs, unless it is said otherwise.

    Attributes
    ----------
    sizes : dict of str to int
    stages : list of Stage
    ridge : float
        Of the impulse response, relative; 0 for plain least squares.
    input_condition : float
        Condition number of the windows of inputs behind it.
    orders : list of OrderTrial
    poles : ndarray of complex
        Of the linear states of the network that was kept.
    explained : tuple of float
        Shares of the residual's second and third moments that the directions explain.
    n_directions : int
        Directions that nonlinearities were taken to see.
    linear_error, moments_error, refined_error, training_error : float
        Of the linear model, of moments alone, of the refined network on held-out and on training
        data.
    nonlinear : bool
        Whether the nonlinear network was kept.
    history : list of (float, float, float)
        Seconds, training error (of the stretch in use) and held-out error after each step.
    refinement_status : RefinementStatus or None
    refinement_steps : int
    output_size : ndarray of shape (n_outputs,)
        Standard deviation of the outputs.
    notes, warnings : list of str
    """

    sizes: dict[str, int]
    stages: list[Stage] = field(default_factory=list)
    ridge: float = 0.0
    input_condition: float = float("nan")
    orders: list[OrderTrial] = field(default_factory=list)
    poles: NDArray[np.complex128] = field(default_factory=lambda: np.zeros(0, dtype=complex))
    explained: tuple[float, float] = (float("nan"), float("nan"))
    n_directions: int = 0
    linear_error: float = float("nan")
    moments_error: float = float("nan")
    refined_error: float = float("nan")
    training_error: float = float("nan")
    nonlinear: bool = False
    history: list[tuple[float, float, float]] = field(default_factory=list)
    refinement_status: RefinementStatus | None = None
    refinement_steps: int = 0
    output_size: Array | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Time of all stages."""
        return sum(stage.seconds for stage in self.stages)

    def warn(self, category: type[GloreeWarning], message: str) -> None:
        """Keep a warning and emit it."""
        self.warnings.append(message)
        warnings.warn(message, category, stacklevel=5)

    def __str__(self) -> str:
        lines = ["gloree system identification"]
        lines.append("  " + ", ".join(f"{k} {v:,}" for k, v in self.sizes.items()))
        lines += ["", f"  {'stage':<20}{'seconds':>9}  outcome"]
        lines += [f"  {s.name:<20}{s.seconds:>9.3f}  {s.detail}" for s in self.stages]
        lines.append(f"  {'total':<20}{self.seconds:>9.3f}")
        lines += ["", f"  {'order':>7}{'singular value':>16}{'held-out error %':>18}"]
        for trial in self.orders:
            note = f"  ({trial.n_moved} unstable poles moved)" if trial.n_moved else ""
            lines.append(
                f"  {trial.order:>7}{trial.singular_value:>16.3g}{100 * trial.error:>18.4g}{note}"
            )
        lines += ["", "  held-out simulation error, % of the outputs' standard deviation"]
        for name, value in (
            ("linear model", self.linear_error),
            ("moments alone", self.moments_error),
            ("refined", self.refined_error),
            ("refined, on training data", self.training_error),
        ):
            if np.isfinite(value):
                lines.append(f"  {name:<28}{100 * value:>10.4g}")
        radius = float(np.abs(self.poles).max(initial=0.0))
        lines += ["", f"  largest modulus of the {self.poles.size} poles: {radius:.6f}"]
        ridge = f"ridge {self.ridge:g}" if self.ridge else "no ridge"
        lines.append(f"  inputs: condition number of windows {self.input_condition:.2g}, {ridge}")
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  warning: {message}" for message in self.warnings]
        return "\n".join(lines)
