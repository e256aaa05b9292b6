"""`SystemIdentifier`: a recurrent network of linear and nonlinear states from measured records."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from gloree._parameters import check_integer
from gloree._random import RandomState
from gloree.activations import Activation
from gloree.diagnostics import IdentificationReport, emit
from gloree.engine import get_engine
from gloree.estimators._identification import checked_settings
from gloree.estimators._resume import open_checkpoint
from gloree.estimators._scoring import refuse_scorers_of_rows
from gloree.estimators._system_views import SystemViews
from gloree.identification import (
    IdentificationProblem,
    check_records,
    identify,
    messages_of_u_and_y,
    read_inputs,
    read_measured,
    read_records,
    screen_records,
    start_of_records,
    suited_to,
)
from gloree.metrics import score_model
from gloree.models import IORNN, Explosions, Start, predict_data
from gloree.sequences import Array, Data, Sequences
from gloree.sources import as_data, is_source


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
    unit : str or Activation, default "auto"
        Activation of the nonlinear units. Bounded ones ("tanh") keep the network stable whatever
        the input is. With "polynomial" every unit is a cubic polynomial whose coefficients are
        fitted like any other weight (see Notes); a `Polynomial` or "cubic" stays as it is. "auto"
        takes tanh, unless such polynomials are better by a margin and do not explode on
        inputs somewhat larger than those of the fit.
    n_directions : int or None, default None
        Linear combinations of [h_{t-1}, u_t] that nonlinearities see, up to 3, and among which the
        units are shared at the start: one for each static nonlinearity of the system. None takes
        two where held-out data can tell that they are better than one.
    detrend : {None, "constant", "linear"}, default None
        What is taken from the inputs and outputs of every record before the fit: nothing; its mean,
        so far as it differs from that of all records; or its straight line, but for that mean.
        `predict` does nothing of the kind: it neither takes a trend from its inputs nor adds
        one to its outputs, which are around the mean of the outputs of the fit. A drift that the
        input does not cause is named by a warning where `detrend` is None.
    initial : {"auto", "equilibrium", "rest"} or array, default "auto"
        State of `predict` and `score` before the first row where they are not told otherwise. In
        the fit, the initial state of every record is free. "auto" takes the mean of these where a
        pole of the model is so slow (an integrator) that inputs tell nothing of the state.
    max_seconds : float, default 60
        Limit on the time for the whole fit. What is tried is counted, not timed: two fits that end
        before are equal, and where time is up a note in the report says so.
    dt : float, optional
        Time between two samples, in seconds: for poles, time constants and responses in units of
        time. One sample by default.
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
    initial_states_ : ndarray of shape (n_records, n_state)
        States of `model_` before the first row of each record, as they were fitted:
        ``predict(u, state=est.initial_states_)`` is the fit of the training records.
    report_ : IdentificationReport
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (n_inputs,)
        Names of the inputs, if they came as data frames.

    Notes
    -----
    A keyboard interrupt during the refinement keeps the best network so far, unless there is a
    checkpoint, from which the fit can go on. There is neither `warm_start` nor `partial_fit`:
    sizes and starts are chosen on blocks that are left out of all records, which sums at one set
    of weights cannot tell. Fit old and new records together.

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
    >>> est = SystemIdentifier(n_linear=1, n_nonlinear=1).fit(u, y)
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
        unit: str | Activation = "auto",
        *,
        n_directions: int | None = None,
        detrend: str | None = None,
        initial: object = "auto",
        max_seconds: float = 60,
        dt: float | None = None,
        random_state: RandomState = None,
        engine: object = None,
        verbose: int = 0,
    ) -> None:
        self.n_linear = n_linear
        self.n_nonlinear = n_nonlinear
        self.unit = unit
        self.n_directions = n_directions
        self.detrend = detrend
        self.initial = initial
        self.max_seconds = max_seconds
        self.dt = dt
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
        settings = checked_settings(self)
        engine = get_engine(self.engine, verbose=self.verbose)
        data = read_records(u, y, lengths=lengths, gaps=True)
        check_records(data, settings)
        screened = screen_records(data, settings.detrend)
        n_counted = int(screened.counted.sum())
        check_records(data, settings, n_counted)
        settings, few = suited_to(data, settings, n_counted)
        screened = replace(screened, findings=(*few, *screened.findings))
        if checkpoint is not None:
            engine = replace(engine, checkpoint=open_checkpoint(checkpoint, self, data, {}))
        found = identify(IdentificationProblem.of(screened, settings, engine))
        self.model_, self.linear_model_ = found.model, found.linear_model
        self.initial_states_ = found.initial_states
        self.moments_model_, self.report_ = found.moments_model, found.report
        self._learn_columns(data)
        self._flat_outputs = data.flat_outputs
        self._look_at_residuals(screened.known)
        slowest = float(np.abs(found.report.poles).max(initial=0.0))
        self._never_rests = slowest > 1.0 - 1.0 / int(data.lengths.max())
        emit(found.report.findings)
        return self

    def predict(
        self,
        u: object,
        y: object = None,
        *,
        n_init: int = 0,
        state: object = None,
        return_state: bool = False,
        initial: object = None,
        lengths: ArrayLike | None = None,
    ) -> Any:
        """Simulate the outputs from the inputs: a free run from a state before the first row.

        Parameters
        ----------
        u : array or list, as in `fit`
            Or data kept anywhere else, in every form that `fit` takes, with outputs (which only
            `n_init` uses) or without.
        y : array or list alike, optional
            Measured outputs of the first `n_init` rows at least; later rows are not used. NaN
            stands for an output that is missing.
        n_init : int, default 0
            Rows of every record from whose outputs its state is estimated (see
            `gloree.identification.estimate_state`). Predictions for these rows are the model's own
            fit of them, not forecasts.
        state : ndarray of shape (n_state,) or (n_records, n_state), optional
            State before the first row, of every record or one for all: what `return_state` gave for
            the rows before.
        return_state : bool, default False
            Whether to return the states after the last rows too.
        initial : {"auto", "equilibrium", "rest"} or ndarray, optional
            State without a `state` and without measurements (with `n_init`, the centre of the
            prior). "equilibrium": at rest at the first input of a record. "rest": zeros, which are
            at rest at the mean of the inputs of the fit as far as linear units are concerned (the
            inputs before, which dead times let in, are zeros too). An array: a state. "auto": the
            equilibrium where the inputs stand still at first, else the state expected after
            inputs that moved before the record as they do in it; of an integrator, of whose state
            inputs tell nothing, the mean of `initial_states_`. None takes the parameter of the
            estimator.
        lengths : sequence of int, optional

        Returns
        -------
        predictions : array or list
            In the form of `u`; without channels if `fit` was given outputs without them. For data
            in several parts a list of arrays, one for each record.
        state : ndarray of shape (n_state,) or (n_records, n_state)
            With `return_state`; a vector for a single record.

        Raises
        ------
        TypeError, ValueError
            If arguments do not fit together; the message says what to do.

        Notes
        -----
        A record that is cut anywhere, and gone on with from the state that was returned, equals the
        whole record from the same start to rounding: a given state, "rest", or "equilibrium", which
        looks at the first input alone. "auto", the default, looks at the inputs of the whole
        record, and so does the prior of `n_init`: a first part that is given alone starts from
        another state than the whole, and differs until the network has forgotten it. With
        "equilibrium", a network that has no stable one at a first input starts from zeros there,
        with a warning.
        """
        check_is_fitted(self, "model_")
        n_init = check_integer("n_init", n_init, 0)
        if n_init and y is not None and not is_source(u, y):
            data: Data = read_measured(u, y, lengths=lengths, n_init=n_init)
        else:
            with messages_of_u_and_y():
                # of a source, outputs may be beside the inputs in a file of their own
                beside = y if n_init and is_source(u) else None
                data = as_data(u if is_source(u) else read_inputs(u), beside, lengths=lengths)
        if isinstance(data, Sequences):
            refuse_scorers_of_rows(data.form, flat_outputs=self._flat_outputs)
        with messages_of_u_and_y():
            self._check_columns(data)
            return predict_data(
                self.model_,
                data,
                Explosions(),
                engine=self.engine,
                verbose=self.verbose,
                convert=_first_channel if self._flat_outputs else np.asarray,
                start=self._start(data, n_init, state, initial),
                return_state=return_state,
            )

    simulate = predict
    """Another name of `predict`, usual in system identification."""

    def score(
        self,
        u: object,
        y: object = None,
        *,
        skip: int = 0,
        n_init: int = 0,
        state: object = None,
        initial: object = None,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Coefficient of determination R^2 of the free run, averaged over outputs.

        Parameters
        ----------
        u, y : array or list, as in `fit`
            Or data kept anywhere else, in every form that `fit` takes; of those only sums are kept.
            Outputs that are NaN do not count.
        skip : int, default 0
            Samples to leave out at the start of every record, while the state forgets its start.
        n_init : int, default 0
            Rows from whose outputs the state of every record is estimated. They do not count: what
            counts begins at row max(skip, n_init).
        state, initial
            As in `predict`.
        lengths : sequence of int, optional

        Returns
        -------
        float
        """
        check_is_fitted(self, "model_")
        if is_source(u, y):
            data = as_data(u, y, lengths=lengths)
        elif y is None:
            raise ValueError("`y` is missing: score needs outputs")
        else:
            data = read_measured(u, y, lengths=lengths)
        with messages_of_u_and_y():
            self._check_columns(data)
            start = self._start(data, n_init, state, initial)
            if n_init:
                skip = max(check_integer("skip", skip, 0), n_init)
            if n_init >= data.longest:
                raise ValueError(f"`n_init`={n_init} leaves no rows to score: lower it")
            return score_model(
                self.model_,
                data,
                skip=skip,
                engine=self.engine,
                verbose=self.verbose,
                start=start,
            )

    def _start(self, data: Data, n_init: int, state: object, initial: object) -> Start:
        """States before the records; estimates of them follow outputs no closer than the fit."""
        return start_of_records(
            self.model_,
            data,
            n_init=n_init,
            state=state,
            initial=initial if state is not None else self._initial(initial),
            noise=self._output_noise,
        )


def _first_channel(rows: Array) -> Array:
    return rows[:, 0]
