"""`SystemIdentifier`: a recurrent network of linear and nonlinear states from measured records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from gloree._arrays import without_tensors
from gloree.activations import Activation, PerUnit, Polynomial, get_activation
from gloree.diagnostics import GloreeWarning, IdentificationReport, TooFewSamplesError
from gloree.engine import get_engine
from gloree.estimators._base import check_integer
from gloree.estimators._identification import IdentifierSettings, run_identification
from gloree.estimators._resume import open_checkpoint
from gloree.identification._lag_tensors import MOMENT_SPAN
from gloree.metrics import score_rows
from gloree.models import IORNN
from gloree.sequences import Sequences, as_sequences
from gloree.sources import as_data, in_memory, is_source

MOST_DIRECTIONS = 3
"""Directions that may be asked for: the time of their search grows with the third power."""

FEWEST_SAMPLES = 60
"""Samples below which no record says anything about a system."""

MOST_CHANNELS = 20
"""A record with at most so many rows and more columns than rows is taken to lie on its side."""

POLYNOMIAL = Polynomial((0.0, 1.0, 1.0 / 2.0, 1.0 / 6.0))
"""Start of a unit with free coefficients, exp z - 1 to third order: with even and odd powers, a
single unit can begin to follow either kind of curve."""

FEWEST_OF_A_MEAN = 5
"""Samples of a mean and a spread that are compared for drift, at least."""

DRIFT = 3.0
"""Distance of the means of the first and the last fifth of an output, in units of the standard
deviation within them, from which a warning speaks of drift."""


class SystemIdentifier(BaseEstimator):  # type: ignore[misc]
    r"""Nonlinear state-space model of a dynamic system, from records of input and output.

    .. math:: h_t = f(A_1 u_t + U h_{t-1} + b), \qquad y_t = A_2^T h_t + c + D^T u_t

    with linear units first and nonlinear ones after them. The linear states come from first-order
    moments (ridge regression, Ho-Kalman), the direction that the nonlinearity sees from moments of
    order two and three of what the linear model leaves, its injection from linear least squares;
    Levenberg-Marquardt on the simulation error then refines all weights together. Errors are those
    of a free run: only the input is given.

    Parameters
    ----------
    n_linear : int or None, default None
        Linear states; None chooses the order by the held-out error of realisations.
    n_nonlinear : int or None, default None
        Nonlinear units; None tries up to five and keeps what held-out data prefer; 0 fits a
        linear model.
    unit : str or Activation, default "tanh"
        Activation of the nonlinear units. Bounded ones (tanh) keep the network stable whatever
        the input is. With "polynomial" every unit is a cubic polynomial whose coefficients are
        fitted like any other weight (see Notes); a `Polynomial` or "cubic" stays as it is.
    n_directions : int or None, default None
        Linear combinations of [h_{t-1}, u_t] that nonlinearities see, up to 3, and among which the
        units are shared at the start: one for each static nonlinearity of the system. None takes
        two where held-out data can tell that they are better than one.
    max_seconds : float, default 60
        Time for the whole fit, about.
    random_state : None or int
        Kept for the interface; nothing is drawn.
    engine : None, "threads", "serial", "dask", distributed.Client or Engine
        Where passes run. A search visits a record some hundred times, in batches of half of it, so
        the cores of one machine suit it best.
    verbose : int, default 0
        1 shows the stages with the current error.

    Attributes
    ----------
    model_ : IORNN
        On inputs and outputs as they were given. It is never worse than `linear_model_` on the
        held-out last fifth of the data: where the nonlinearity gains nothing there, it is the
        linear model, and the report says so.
    linear_model_, moments_model_ : IORNN
        The linear model of least simulation error, and the network before any refinement.
    report_ : IdentificationReport
    n_features_in_ : int

    Notes
    -----
    A keyboard interrupt during the refinement keeps the best network so far, unless there is a
    checkpoint, from which the fit can go on.

    Units with fitted coefficients are f_i(z) = c_1 z + c_2 z^2 + c_3 z^3, in `model_` as
    `activations.PerUnit` of `activations.Polynomial`. There is no constant term: the biases do
    what it would do. All three coefficients are free, though scales of rows and columns could
    replace one or two of them: a fixed one would forbid units that lack its power. One such unit
    is any cubic nonlinearity of one signal; ``n_nonlinear`` of 1 or 2 is often enough.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree import SystemIdentifier
    >>> rng = np.random.default_rng(0)
    >>> u = rng.standard_normal(3000)
    >>> y = np.zeros(3000)
    >>> for t in range(1, 3000):
    ...     y[t] = 0.7 * y[t - 1] + np.tanh(u[t - 1])
    >>> est = SystemIdentifier(max_seconds=3).fit(u, y)
    >>> est.score(u, y, skip=50) > 0.99
    True
    """

    model_: IORNN
    linear_model_: IORNN
    moments_model_: IORNN
    report_: IdentificationReport

    def __init__(
        self,
        n_linear: int | None = None,
        n_nonlinear: int | None = None,
        unit: str | Activation = "tanh",
        *,
        n_directions: int | None = None,
        max_seconds: float = 60,
        random_state: Any = None,
        engine: Any = None,
        verbose: int = 0,
    ) -> None:
        self.n_linear = n_linear
        self.n_nonlinear = n_nonlinear
        self.unit = unit
        self.n_directions = n_directions
        self.max_seconds = max_seconds
        self.random_state = random_state
        self.engine = engine
        self.verbose = verbose

    def fit(
        self,
        u: Any,
        y: Any = None,
        *,
        lengths: ArrayLike | None = None,
        checkpoint: str | Path | None = None,
    ) -> SystemIdentifier:
        """Identify a system.

        Parameters
        ----------
        u, y : array of shape (n_samples,) or (n_samples, n_channels), or a list of such records
            Input and output. Several records of one system go into lists, or flat with `lengths`.
            In place of both: what a function of `gloree.sources` gives, the path of a directory
            of shards, a Dask bag, or a list of delayed values; the records are gathered in memory.
        lengths : sequence of int, optional
        checkpoint : str or Path, optional
            File in which the result of every pass over the data is kept, and the time. A fit that
            was interrupted goes on where it ended when it is called again with the same data,
            parameters and file, with the time that it had left.

        Returns
        -------
        SystemIdentifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            If parameters or data are not usable; the message says what to do.
        TooFewSamplesError
            If the records are too short for any model.
        CheckpointError
            If the checkpoint belongs to another fit, or cannot be written.
        """
        settings = self._settings()
        if is_source(u, y):
            with _in_our_words():
                data = in_memory(as_data(u, y, lengths=lengths))
        else:
            data = _records(u, y, lengths)
        if data.n_rows < max(FEWEST_SAMPLES, 20 * data.n_inputs):
            raise TooFewSamplesError(
                f"{data.n_rows} samples are too few to identify a system of {data.n_inputs} "
                f"inputs: at least {max(FEWEST_SAMPLES, 20 * data.n_inputs)} are needed, and some "
                f"thousand for a nonlinear one"
            )
        wanted = settings.n_linear or 0
        if wanted and data.n_rows < 5 * wanted * (data.n_inputs + data.n_outputs):
            raise TooFewSamplesError(
                f"{data.n_rows} samples are too few for `n_linear`={wanted}: give more data, or "
                f"lower it"
            )
        if settings.n_nonlinear != 0:
            _check_records(data)
        if checkpoint is not None:
            log = open_checkpoint(checkpoint, self, data, {})
            settings = replace(settings, engine=replace(settings.engine, checkpoint=log))
        drift = _drifting(data)
        model, linear, moments, report = run_identification(data, settings)
        if drift is not None:
            report.warn(
                GloreeWarning,
                f"output {drift} drifts over the record: detrend it if that is not the doing of "
                f"the input, or the model will explain it by a very slow pole",
            )
        self.model_, self.linear_model_, self.moments_model_ = model, linear, moments
        self.report_ = report
        self.n_features_in_ = data.n_inputs
        self._flat_outputs = data.flat_outputs
        return self

    def predict(self, u: Any, *, lengths: ArrayLike | None = None) -> Any:
        """Simulate the outputs from the inputs alone, from rest.

        Parameters
        ----------
        u : array or list, as in `fit`
        lengths : sequence of int, optional

        Returns
        -------
        array or list
            In the form of `u`; without channels if `fit` was given outputs without them.
        """
        check_is_fitted(self, "model_")
        _check_orientation("u", u)
        with _in_our_words():
            outputs = self.model_.predict(_with_channels(u), lengths=lengths)
        if not self._flat_outputs:
            return outputs
        if isinstance(outputs, list):
            return [part[..., 0] for part in outputs]
        return outputs[..., 0]

    def simulate(self, u: Any, *, lengths: ArrayLike | None = None) -> Any:
        """Simulate (another name of `predict`, usual in system identification)."""
        return self.predict(u, lengths=lengths)

    def score(self, u: Any, y: Any, *, skip: int = 0, lengths: ArrayLike | None = None) -> float:
        """Coefficient of determination R^2 of the free run, averaged over outputs.

        Parameters
        ----------
        u, y : array or list, as in `fit`
        skip : int, default 0
            Samples to leave out at the start of every record, while the state forgets its start.
        lengths : sequence of int, optional

        Returns
        -------
        float
        """
        check_is_fitted(self, "model_")
        data = _records(u, y, lengths)
        outputs = self.model_.predict(data.X, lengths=data.lengths)
        return score_rows(data, outputs, skip)

    def _settings(self) -> IdentifierSettings:
        checked = (("n_linear", 1), ("n_nonlinear", 0), ("n_directions", 1), ("verbose", 0))
        for name, least in checked:
            value = getattr(self, name)
            if value is not None or name == "verbose":
                check_integer(name, value, least)
        if self.n_directions and self.n_directions > MOST_DIRECTIONS:
            raise ValueError(
                f"`n_directions` must be at most {MOST_DIRECTIONS}, got {self.n_directions}"
            )
        if self.n_directions and self.n_nonlinear and self.n_directions > self.n_nonlinear:
            raise ValueError(
                f"`n_directions` is {self.n_directions}, but `n_nonlinear` is "
                f"{self.n_nonlinear}: each direction needs a unit"
            )
        seconds = self.max_seconds
        number = isinstance(seconds, (int, float, np.integer, np.floating))
        if isinstance(seconds, bool) or not number:
            raise TypeError(f"`max_seconds` must be a number, got {seconds!r}")
        if not float(seconds) > 0.0:
            raise ValueError(f"`max_seconds` must be positive, got {seconds!r}")
        free = isinstance(self.unit, str) and self.unit == "polynomial"
        try:
            unit = POLYNOMIAL if free else get_activation(self.unit)
        except ValueError as error:
            raise ValueError(f"{error} (`unit` may also be 'polynomial')") from None
        if isinstance(unit, PerUnit) or unit.degree == 1:
            raise ValueError(
                f"`unit` is {unit.name!r}, expected one nonlinear activation for all nonlinear "
                f"units; n_nonlinear=0 fits a linear model"
            )
        return IdentifierSettings(
            self.n_linear,
            self.n_nonlinear,
            unit,
            float(seconds),
            get_engine(self.engine, verbose=self.verbose),
            self.verbose,
            free,
            self.n_directions,
        )


def _with_channels(values: Any) -> Any:
    """Records of one channel given as vectors, as columns; tensors as arrays."""
    values = without_tensors(values)
    if isinstance(values, (list, tuple)) and len(values) and np.ndim(values[0]) == 1:
        return [np.asarray(part)[:, None] for part in values]
    return np.asarray(values)[:, None] if np.ndim(values) == 1 else values


def _records(u: Any, y: Any, lengths: ArrayLike | None) -> Sequences:
    if y is None:
        raise ValueError("`y` is missing: an output record is needed")
    for name, values in (("u", u), ("y", y)):
        _check_orientation(name, values)
    listed = isinstance(y, (list, tuple)) and len(y) > 0 and np.ndim(y[0]) > 0
    flat = bool(np.ndim(y[0] if listed else y) == 1)
    with _in_our_words():
        data = as_sequences(_with_channels(u), _with_channels(y), lengths=lengths)
    return Sequences(data.X, data.Y, data.lengths, data.form, flat)


def _check_records(data: Sequences) -> None:
    """Refuse records that are shorter than the lags that have to be seen in them."""
    longest = int(data.lengths.max())
    if longest < MOMENT_SPAN:
        raise TooFewSamplesError(
            f"the longest record has {longest} samples, and the nonlinear part is found from "
            f"moments over {MOMENT_SPAN} neighbouring samples: give one record of that length at "
            f"least, set n_nonlinear=0 for a linear model, or fit many short sequences with "
            f"SpectralRNNRegressor"
        )


@contextmanager
def _in_our_words() -> Iterator[None]:
    """Let the messages of the reader, which speak of X and Y, speak of u and y."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if type(error) not in (TypeError, ValueError):
            raise
        text = str(error).replace("`X", "`u").replace("`Y", "`y")
        raise type(error)(text) from None


def _check_orientation(name: str, values: Any) -> None:
    """Refuse records with channels first."""
    parts = values if isinstance(values, (list, tuple)) else [values]
    for part in parts:
        shape = np.shape(part)
        if len(shape) == 2 and shape[0] <= MOST_CHANNELS and shape[1] > 3 * MOST_CHANNELS:
            raise ValueError(
                f"`{name}` has shape {shape}: {shape[0]} samples of {shape[1]} channels? Samples "
                f"come first: transpose it"
            )


def _drifting(data: Sequences) -> int | None:
    """Output whose mean moves along the longest record, if there is one and it can be told."""
    longest = int(np.argmax(data.lengths))
    assert data.Y is not None
    y = np.asarray(data.Y[data.starts[longest] : data.starts[longest + 1]], dtype=np.float64)
    fifth = y.shape[0] // 5
    if fifth < FEWEST_OF_A_MEAN:
        return None
    first, last = y[:fifth], y[-fifth:]
    spread = np.sqrt((first.var(axis=0) + last.var(axis=0)) / 2)
    moved = np.abs(last.mean(axis=0) - first.mean(axis=0)) > DRIFT * spread
    return int(np.flatnonzero(moved)[0]) if moved.any() else None
