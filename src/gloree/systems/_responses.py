"""Step and impulse responses with bands, and prediction intervals of the free run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from gloree._brief import Brief
from gloree._parameters import check_integer
from gloree.diagnostics import check_level
from gloree.models import IORNN
from gloree.sequences import Array, record_windows
from gloree.systems._channels import Channels
from gloree.systems._frequency import require_same_model
from gloree.systems._sensitivities import FreeRun, equilibrium, free_run, layout_of
from gloree.systems._state_space import require_linear
from gloree.systems._uncertainty import Uncertainty

SETTLING = 6.0  # time constants that a response is shown for, where nobody says how long
MORE = 4  # rows for each state that an input is held for, where weights are not determined
LEAST_STEPS, MOST_STEPS = 20, 2000


@dataclass(frozen=True)
class TimeResponse(Brief):
    """Step or impulse response of a linear model, from rest.

    Attributes
    ----------
    times : ndarray of shape (n,)
        In `channels.time_unit`; the input moves at 0.
    response, errors : ndarray of shape (n, n_outputs, n_inputs)
        Response of each output to each input, and its standard errors (NaN where not known).
    quantile, level : float
        Standard errors to either side of a band, and its level at each time for itself.
    kind : {"step", "impulse"}
    channels : Channels
    """

    times: Array
    response: Array
    errors: Array = field(repr=False)
    quantile: float
    level: float
    kind: Literal["step", "impulse"]
    channels: Channels

    def band(self) -> tuple[Array, Array]:
        """Lower and upper end, each in the shape of the response."""
        half = self.quantile * self.errors
        return self.response - half, self.response + half


def time_response(
    model: IORNN,
    n_steps: int | None = None,
    *,
    kind: Literal["step", "impulse"] = "step",
    uncertainty: Uncertainty | None = None,
    channels: Channels | None = None,
    level: float = 0.95,
) -> TimeResponse:
    """Response of a linear network to a unit step, or impulse, of each input.

    Parameters
    ----------
    model : IORNN
        With linear units.
    n_steps : int, optional
        By default six of the longest time constant, from 20 to 2,000 steps.
    kind : {"step", "impulse"}, default "step"
        The impulse is one for a single sample.
    uncertainty : Uncertainty, optional
        Of this model; without it there are no bands.
    channels : Channels, optional
    level : float, default 0.95

    Returns
    -------
    TimeResponse

    Raises
    ------
    ValueError
        If the network is not linear, the uncertainty is that of another one, or `kind` is neither.
    """
    require_linear(model)
    check_level(level)
    if kind not in ("step", "impulse"):
        raise ValueError(f"`kind` is {kind!r}, expected 'step' or 'impulse'")
    if uncertainty is not None:
        require_same_model(model, uncertainty)
    n = _settled(model) if n_steps is None else check_integer("n_steps", n_steps, 1)
    layout = layout_of(model) if uncertainty is None else uncertainty.layout
    # deviations: without biases; those of the weights have no part in a response
    bare = model.replace(hidden_bias=None, output_bias=None)
    biases = np.concatenate(
        [layout.indices[name].ravel() for name in ("hidden_bias", "output_bias")]
    )
    shape = (n, model.n_outputs, model.n_inputs)
    response, errors = np.empty(shape), np.full(shape, np.nan)
    for j in range(model.n_inputs):
        u = np.zeros((n, model.n_inputs))
        u[: n if kind == "step" else 1, j] = 1.0
        windows = record_windows(u, model.lags)
        run = free_run(bare, windows, np.zeros(model.n_hidden), layout)
        response[:, :, j] = run.outputs
        if uncertainty is not None:
            run.jacobian[:, :, biases] = 0.0
            errors[:, :, j] = uncertainty.errors(run.jacobian)
    channels = channels or Channels.numbered(model.n_inputs, model.n_outputs)
    quantile = np.nan if uncertainty is None else uncertainty.quantile(level)
    times = np.asarray(np.arange(n) * channels.step, dtype=np.float64)
    return TimeResponse(times, response, errors, quantile, level, kind, channels)


def _settled(model: IORNN) -> int:
    radius = float(np.abs(np.linalg.eigvals(model.recurrent_weights)).max(initial=0.0))
    if radius >= 1.0:
        return MOST_STEPS
    wanted = SETTLING / -np.log(radius) if radius > 0 else 0.0
    return int(np.clip(np.ceil(wanted) + model.lags, LEAST_STEPS, MOST_STEPS))


@dataclass(frozen=True)
class PredictionIntervals(Brief):
    """Free run of one record, with intervals.

    Attributes
    ----------
    mean, lower, upper : ndarray of shape (n_rows, n_outputs)
        Simulated outputs, and the ends of intervals that hold a measured output (or, asked without
        noise, the output of the system itself) with probability `level`, each row for itself.
    model_errors : ndarray of shape (n_rows, n_outputs)
        Standard errors of the simulated outputs, from those of the weights.
    noise_size : ndarray of shape (n_outputs,)
        Standard deviation of the noise.
    level : float
    """

    mean: Array
    lower: Array
    upper: Array
    model_errors: Array = field(repr=False)
    noise_size: Array
    level: float


def prediction_intervals(
    uncertainty: Uncertainty,
    u: ArrayLike,
    level: float = 0.95,
    *,
    initial: str | ArrayLike = "equilibrium",
    noise: bool = True,
) -> PredictionIntervals:
    r"""Simulate a record, with intervals for what will be measured.

    .. math::
        \hat y_t \pm q \sqrt{J_t \, \mathrm{cov}(\hat\theta) \, J_t^T + \sigma^2}

    with J_t the derivative of the free run in the weights at step t, and sigma that of the noise.

    Parameters
    ----------
    uncertainty : Uncertainty
        Of the network that is simulated.
    u : array of shape (n_rows,) or (n_rows, n_inputs)
        Inputs of one record.
    level : float, default 0.95
    initial : {"equilibrium", "rest"} or array of shape (n_state,), default "equilibrium"
        Where the record starts: at the equilibrium of its first input, at states of zero, or at
        this state, which is taken to be exact: [h, inputs before, newest first].
    noise : bool, default True
        Whether intervals are those of measurements; False gives those of the system's own output.

    Returns
    -------
    PredictionIntervals

    Raises
    ------
    ValueError
        If the inputs are not those of the model, or there is no equilibrium.

    Notes
    -----
    It tells what noise in the training data did to the weights. It does not tell that the class of
    the model is too small, nor what becomes of inputs unlike those of the training data.
    """
    check_level(level)
    model, layout = uncertainty.model, uncertainty.layout
    inputs = np.asarray(u, dtype=np.float64)
    inputs = inputs[:, None] if inputs.ndim == 1 else inputs
    if inputs.ndim != 2 or inputs.shape[1] != model.n_inputs or not inputs.shape[0]:
        raise ValueError(
            f"`u` has shape {inputs.shape}, expected (n_rows, {model.n_inputs}): one record"
        )
    if not np.all(np.isfinite(inputs)):
        raise ValueError("`u` holds NaN or infinity: a free run needs every input")
    state, past, slope = _start(uncertainty, inputs[0], initial)
    run = free_run(model, record_windows(inputs, model.lags, past), state, layout, slope)
    errors = np.linalg.norm(run.jacobian @ uncertainty.root, axis=-1)
    if uncertainty.loose.size:
        # a few rows more tell changes of the weights from changes of the start
        more = np.vstack((inputs, np.repeat(inputs[-1:], MORE * model.n_hidden, axis=0)))
        longer = free_run(model, record_windows(more, model.lags, past), state, layout, slope)
        moves = _apart_from_start(longer, uncertainty)[: len(errors)]
        errors = np.where(uncertainty.is_open(errors, moves), np.inf, errors)
    size = np.sqrt(np.diag(uncertainty.noise.covariance))
    half = uncertainty.quantile(level) * np.hypot(errors, size if noise else 0.0)
    return PredictionIntervals(
        run.outputs, run.outputs - half, run.outputs + half, errors, size, level
    )


def _apart_from_start(run: FreeRun, uncertainty: Uncertainty) -> Array:
    """Moves of the outputs along what data do not determine, less what other starts would do.

    Changes of the scale of a unit, or of its place on the axis, leave outputs as they are if states
    change along with them, and these are not what a record leaves open.
    """
    n, p, _ = run.jacobian.shape
    size = np.sqrt(np.maximum(np.diag(uncertainty.noise.covariance), 1e-300))[:, None]
    moves = (run.jacobian @ uncertainty.loose / size).reshape(n * p, -1)
    starts = (run.from_state / size).reshape(n * p, -1)
    left = moves - starts @ np.linalg.lstsq(starts, moves, rcond=None)[0]
    return np.asarray(left.reshape(n, p, -1) * size)


def _start(
    uncertainty: Uncertainty, first: Array, initial: str | ArrayLike
) -> tuple[Array, Array, Array | None]:
    """State before a record, the inputs before it, and the derivative of the state."""
    model = uncertainty.model
    kept = (model.lags - 1) * model.n_inputs
    if isinstance(initial, str):
        if initial == "rest":
            return np.zeros(model.n_hidden), np.zeros(kept), None
        if initial != "equilibrium":
            raise ValueError(
                f"`initial` is {initial!r}, expected 'equilibrium', 'rest' or a state of "
                f"{model.n_hidden + kept} numbers"
            )
        state, slope = equilibrium(model, np.tile(first, model.lags), uncertainty.layout)
        return state, np.tile(first, model.lags - 1), slope
    given = np.asarray(initial, dtype=np.float64)
    if given.shape != (model.n_hidden + kept,):
        raise ValueError(
            f"`initial` has shape {given.shape}, expected ({model.n_hidden + kept},): states, then "
            f"the inputs before, newest first"
        )
    return given[: model.n_hidden], given[model.n_hidden :], None
