"""`SystemIdentifier`: a recurrent network of linear and nonlinear states from measured records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from gloree._random import RandomState
from gloree.activations import Activation, PerUnit, get_activation
from gloree.diagnostics import IdentificationReport, emit
from gloree.engine import get_engine
from gloree.estimators._base import check_integer, optional_integer
from gloree.estimators._resume import open_checkpoint
from gloree.estimators._system_views import SystemViews
from gloree.identification import (
    FREE_POLYNOMIAL,
    IdentificationProblem,
    IdentificationSettings,
    check_records,
    find_drift,
    identify,
    messages_of_u_and_y,
    read_inputs,
    read_records,
)
from gloree.metrics import score_model
from gloree.models import IORNN, Explosions, predict_data
from gloree.sequences import Array
from gloree.sources import as_data, is_source

MOST_DIRECTIONS = 3
"""Directions that may be asked for: the time of their search grows with the third power."""


class SystemIdentifier(RegressorMixin, SystemViews):  # type: ignore[misc]
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
    random_state : None, int, numpy.random.Generator or numpy.random.RandomState
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
    feature_names_in_ : ndarray of str of shape (n_inputs,)
        Names of the inputs, if they came as data frames.

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
        random_state: RandomState = None,
        engine: object = None,
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

    def __sklearn_tags__(self) -> object:
        tags: Any = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        u: object,
        y: object = None,
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
        engine = get_engine(self.engine, verbose=self.verbose)
        data = read_records(u, y, lengths)
        check_records(data, settings)
        if checkpoint is not None:
            engine = replace(engine, checkpoint=open_checkpoint(checkpoint, self, data, {}))
        found = identify(IdentificationProblem.of(data, settings, engine, find_drift(data)))
        self.model_, self.linear_model_ = found.model, found.linear_model
        self.moments_model_, self.report_ = found.moments_model, found.report
        self._learn_columns(data)
        self._flat_outputs = data.flat_outputs
        self.report_ = self._with_residual_tests(data)
        emit(found.report.findings)
        return self

    def predict(self, u: object, *, lengths: ArrayLike | None = None) -> Any:
        """Simulate the outputs from the inputs alone, from rest.

        Parameters
        ----------
        u : array or list, as in `fit`
            Or data kept anywhere else, in every form that `fit` takes, with outputs (which are not
            used) or without.
        lengths : sequence of int, optional

        Returns
        -------
        array or list
            In the form of `u`; without channels if `fit` was given outputs without them. For data
            in several parts a list of arrays, one for each record.
        """
        check_is_fitted(self, "model_")
        with messages_of_u_and_y():
            data = as_data(u if is_source(u) else read_inputs(u), lengths=lengths)
            self._check_columns(data)
            return predict_data(
                self.model_,
                data,
                Explosions(),
                engine=self.engine,
                verbose=self.verbose,
                convert=_first_channel if self._flat_outputs else np.asarray,
            )

    def simulate(self, u: object, *, lengths: ArrayLike | None = None) -> Any:
        """Simulate (another name of `predict`, usual in system identification)."""
        return self.predict(u, lengths=lengths)

    def score(
        self, u: object, y: object = None, *, skip: int = 0, lengths: ArrayLike | None = None
    ) -> float:
        """Coefficient of determination R^2 of the free run, averaged over outputs.

        Parameters
        ----------
        u, y : array or list, as in `fit`
            Or data kept anywhere else, in every form that `fit` takes; of those only sums are kept.
        skip : int, default 0
            Samples to leave out at the start of every record, while the state forgets its start.
        lengths : sequence of int, optional

        Returns
        -------
        float
        """
        check_is_fitted(self, "model_")
        data = as_data(u, y, lengths=lengths) if is_source(u, y) else read_records(u, y, lengths)
        with messages_of_u_and_y():
            self._check_columns(data)
            return score_model(
                self.model_, data, skip=skip, engine=self.engine, verbose=self.verbose
            )

    def _settings(self) -> IdentificationSettings:
        checked = (("n_linear", 1), ("n_nonlinear", 0), ("n_directions", 1))
        n_linear, n_nonlinear, n_directions = (
            optional_integer(name, getattr(self, name), least) for name, least in checked
        )
        verbose = check_integer("verbose", self.verbose, 0)
        if n_directions and n_directions > MOST_DIRECTIONS:
            raise ValueError(
                f"`n_directions` must be at most {MOST_DIRECTIONS}, got {n_directions}"
            )
        if n_directions and n_nonlinear and n_directions > n_nonlinear:
            raise ValueError(
                f"`n_directions` is {n_directions}, but `n_nonlinear` is {n_nonlinear}: each "
                f"direction needs a unit"
            )
        seconds = self.max_seconds
        number = isinstance(seconds, (int, float, np.integer, np.floating))
        if isinstance(seconds, bool) or not number:
            raise TypeError(f"`max_seconds` must be a number, got {seconds!r}")
        if not float(seconds) > 0.0:
            raise ValueError(f"`max_seconds` must be positive, got {seconds!r}")
        free = isinstance(self.unit, str) and self.unit == "polynomial"
        try:
            unit = FREE_POLYNOMIAL if free else get_activation(self.unit)
        except ValueError as error:
            raise ValueError(f"{error} (`unit` may also be 'polynomial')") from None
        if isinstance(unit, PerUnit) or unit.degree == 1:
            raise ValueError(
                f"`unit` is {unit.name!r}, expected one nonlinear activation for all nonlinear "
                f"units; n_nonlinear=0 fits a linear model"
            )
        return IdentificationSettings(
            n_linear=n_linear,
            n_nonlinear=n_nonlinear,
            unit=unit,
            free_coefficients=free,
            n_directions=n_directions,
            max_seconds=float(seconds),
            verbose=verbose,
        )


def _first_channel(rows: Array) -> Array:
    return rows[:, 0]
