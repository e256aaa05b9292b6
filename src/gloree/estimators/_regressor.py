"""`SpectralRNNRegressor`: an input-output RNN fitted from moments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from gloree._random import RandomState
from gloree.activations import Activation
from gloree.diagnostics import IdentificationReport, TooFewSamplesError, emit
from gloree.estimators._base import check_choice, output_metric
from gloree.estimators._going_on import RegressorGoingOn
from gloree.estimators._interface import second_argument
from gloree.estimators._prediction_errors import PredictionErrors
from gloree.fitting import BY_RESIDUALS, EQUAL, FitProblem, Regression, run_fit
from gloree.identification import (
    IdentificationProblem,
    IdentificationSettings,
    identify,
    messages_of_u_and_y,
)
from gloree.metrics import score_model
from gloree.models import Network
from gloree.moments import FirstMomentEstimator
from gloree.recurrence import RecurrenceEstimator
from gloree.refinement import GaussNewton, Loss, Solver
from gloree.sequences import Array, Sequences
from gloree.sources import as_data, in_memory


class SpectralRNNRegressor(RegressorMixin, PredictionErrors, RegressorGoingOn):  # type: ignore[misc]
    r"""Input-output recurrent network, recovered from cross-moments of outputs and inputs.

    Fits

    .. math:: h_t = f(A_1 x_t + U h_{t-1} + b), \qquad E[y_t | x] = A_2^T h_t + c + D^T x_t

    in a handful of passes over the data: the law of the inputs; the order-l moment of the outputs,
    whose decomposition gives A1 and A2 whatever U is; the recurrence from moments of two
    neighbouring steps; rounds with the residual in place of the output; one Gauss-Newton step.

    Parameters
    ----------
    n_hidden : int, pair of int or None, default None
        Hidden units; None chooses their number from split halves of the data. For a bidirectional
        network the total, whose directions are found; a pair (forward, backward) fixes the split.
    bidirectional : bool, default False
        Whether a second chain runs backward, w_t = f(B1 x_t + V w_{t+1} + b').
    activation : str or Activation, default "quadratic"
        A polynomial of degree 2 or 3, whose moments give the units; any other ("tanh", "sigmoid",
        "softplus", "relu", "leaky_relu", "gelu", "silu", a polynomial of higher degree, an object),
        whose units come from average derivatives of several orders and a descent, with a
        certificate in the report; or "linear": the network is then realised from its impulse
        response (Ho-Kalman and least squares from several starts), with a direct path, and refined
        by least squares of the simulation error (refine=None: not refined). Only the poles and the
        response of a linear network are determined; its states are, up to a similarity.
    chain : "gaussian-var", InputLaw, callable or arrays, default "gaussian-var"
        Law of the inputs: fitted (a `GaussianVAR` of order 1), or given: any law of
        `gloree.chains`, or an object with the members of `HermiteLaw` or `DerivativeLaw`, that
        declares what `moment` and `recurrence` ask for. In its place, scores of the inputs: a
        function from the inputs of one sequence to the scores of its steps, an array in the form
        of `X`, or a tuple (S_1, S_2, ..) of arrays.
    moment : str or FirstMomentEstimator, default "auto"
        First moment: the average derivative of a polynomial fit ("xreg" on the inputs, "union" on
        inputs and scores, "regression" the better one for the sizes of the data), or the paper's
        score moment ("score"). "auto" takes a regression unless its features are too many for the
        data. With other activations there is no choice, and neither are `recurrence` (None but for
        its default) and `max_rounds` used.
    direct : bool, default False
        Whether there is a linear path D from input to output beside the units.
    fit_bias : bool, default True
        Whether the hidden biases b are free. The offset c of the outputs is no hidden bias: it is
        free with them, and without them where the outputs turn out to have one.
    recurrence : str, RecurrenceEstimator or None, default "instrument"
        Estimator of U: "instrument", "least-squares", "cross" or "score" (see
        `gloree.recurrence`); None fits a network without recurrence. "instrument" switches to
        linearised least squares where the inputs are not a Gaussian chain (Stein defect above
        0.45, or rho above 0.75), and in the rounds.
    lags : int, default 1
        Each x_t becomes the window of the last `lags` inputs, most recent first.
    max_rounds : int, default 5
        Residual rounds at most; they stop by themselves.
    refine : {"one-step", "full"}, Solver or None, default "one-step"
        Gauss-Newton after the moments: enough steps to be efficient, to convergence, or none
        (a polynomial with lower terms always takes it: moments alone give its leading term).
    loss : "squared error" or Loss, default "squared error"
        What the refinement minimises. The moments are always those of least squares; another loss
        needs a solver that can do without squares, such as `gloree.refinement.LBFGS`.
    output_weights : {"residuals", "equal"} or array, default "residuals"
        How several outputs are weighed. "residuals": by the inverse covariance of their residuals
        (feasible generalised least squares), so that neither their units matter nor that noise is
        correlated; "equal": squares of the outputs as they come; an array of shape (n_outputs,) of
        positive weights, or (n_outputs, n_outputs), the metric of the residuals. For squared
        errors; other losses take the outputs as they come.
    batch_size : int or None, default None
        Rows of a batch; None plans it.
    memory_limit : int or None, default None
        Bytes a fit may take beside data in memory; a `MemoryLimitError` names the least that will
        do. Fits of linear networks cannot keep one, and refuse it.
    warm_start : bool, default False
        Whether another `fit` starts its refinement from the weights there are, without moments: for
        more data (old and new ones together), or data alike. See `partial_fit` for new data alone.
    random_state : None, int, SeedSequence, Generator or RandomState
        Seeds the decomposition's starts.
    engine : None, "threads", "serial", "dask", distributed.Client or Engine
        Where passes run; None means threads, or the running Dask client for Dask collections.
        Clones and copies share it; a pickle leaves a Dask client out (None where it is read).
    verbose : int, default 0
        1 shows the stages, 2 every pass.

    Attributes
    ----------
    model_ : IORNN or BRNN
        The network, in canonical form.
    chain_ : InputLaw or None
        The input law used (None with lag windows, which have none).
    report_ : FitReport
        Stages, times, residuals, statuses, warnings, standard errors; prints as a table (an
        `IdentificationReport` for a linear network).
    n_features_in_ : int
        Inputs seen in `fit`.
    feature_names_in_ : ndarray of str of shape (n_inputs,)
        Names of the inputs, if they came as data frames: other names, or another order, are an
        error in `predict` and `score`.

    Notes
    -----
    Time O(N d^2 (d^2 + q)) for the first moment of degree 2 on a subsample of N steps, and
    O(n_rows (d + k)(k + q)) for each further pass over all data; memory is bounded by the batch.

    References
    ----------
    .. [SA16] H. Sedghi, A. Anandkumar, "Training Input-Output Recurrent Neural Networks through
       Spectral Methods", arXiv:1603.00954.

    Examples
    --------
    >>> from gloree import SpectralRNNRegressor, datasets, metrics
    >>> X, Y, truth, _ = datasets.make_rnn(2000, 10, 6, 4, 4, random_state=0)
    >>> est = SpectralRNNRegressor(n_hidden=4, random_state=0).fit(X, Y)
    >>> metrics.weight_errors(est.model_, truth)["input_weights"] < 0.01
    True
    """

    _solvers: Mapping[str, Solver] = {
        "one-step": GaussNewton(),
        "full": GaussNewton(to_convergence=True),
    }
    _fits_linear = True

    def __init__(
        self,
        n_hidden: int | tuple[int, int] | None = None,
        *,
        bidirectional: bool = False,
        activation: str | Activation = "quadratic",
        chain: object = "gaussian-var",
        moment: str | FirstMomentEstimator = "auto",
        direct: bool = False,
        fit_bias: bool = True,
        recurrence: str | RecurrenceEstimator | None = "instrument",
        lags: int = 1,
        max_rounds: int = 5,
        refine: str | Solver | None = "one-step",
        loss: str | Loss = "squared error",
        output_weights: str | ArrayLike = BY_RESIDUALS,
        batch_size: int | None = None,
        memory_limit: int | None = None,
        warm_start: bool = False,
        random_state: RandomState = None,
        engine: object = None,
        verbose: int = 0,
    ) -> None:
        self.n_hidden, self.bidirectional, self.activation = n_hidden, bidirectional, activation
        self.chain, self.moment, self.direct, self.fit_bias = chain, moment, direct, fit_bias
        self.recurrence, self.lags, self.max_rounds = recurrence, lags, max_rounds
        self.refine, self.loss, self.output_weights = refine, loss, output_weights
        self.batch_size, self.memory_limit = batch_size, memory_limit
        self.warm_start = warm_start
        self.random_state, self.engine, self.verbose = random_state, engine, verbose

    def __sklearn_tags__(self) -> object:
        tags: Any = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def fit(
        self,
        X: object,
        Y: object = None,
        *,
        lengths: ArrayLike | None = None,
        checkpoint: str | Path | None = None,
        y: object = None,
    ) -> SpectralRNNRegressor:
        """Recover a network from inputs and outputs.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs) or (n_steps, n_inputs), or a list
            Inputs (see `gloree.sequences.as_sequences`), of NumPy or as PyTorch tensors on any
            device, where all passes over them then run; or inputs and outputs together, kept
            anywhere else: what a function of `gloree.sources` gives, the path of a directory of
            shards, a Dask bag, or any object that iterates over batches (X, Y).
        Y : array or list alike
            Outputs; one output may be given without its last axis. Both may be data frames of
            pandas or polars, whose columns keep their names.
        lengths : sequence of int, optional
            Steps of each sequence, for flat arrays.
        checkpoint : str or Path, optional
            File in which the result of every pass over the data is kept. A fit that was
            interrupted goes on where it ended when it is called again with the same data,
            parameters and file, and gives the same model.
        y : array or list
            Another name of `Y`, as scikit-learn calls it.

        Returns
        -------
        SpectralRNNRegressor
            Itself.

        Raises
        ------
        ValueError, TypeError
            If parameters or data are not usable; the message says what to do.
        IdentifiabilityError
            If sizes leave the weights undetermined by any amount of data.
        TooFewSamplesError
            If the data are too few for the unknowns.
        SourceError
            If a part of the data cannot be read, or is not the same in every pass.
        CheckpointError
            If the checkpoint belongs to another fit, or cannot be written.
        """
        data = as_data(X, second_argument("Y", Y, "y", y), lengths=lengths)
        problem = self._on(self._problem(data), checkpoint)
        if not data.n_outputs:
            raise ValueError(
                f"`Y` is missing: fit needs outputs ({type(self).__name__} requires y to be "
                f"passed, but the target y is None)"
            )
        problem, start = self._start(problem, data.n_outputs, checkpoint)
        if problem.settings.activation.degree == 1:
            self.model_, self.report_ = self._fit_linear(problem)
            self.chain_ = None
        else:
            fitted = run_fit(problem, Regression(), start)
            self.model_, self.chain_, self.report_ = fitted.model, fitted.law, fitted.report
        emit(self.report_.findings)
        self._learn_columns(data)
        self._flat_outputs = isinstance(data, Sequences) and data.flat_outputs
        return self

    def _output_weights(self, n_outputs: int, loss: Loss) -> str | Array:
        """Checked `output_weights`: a name, (n_outputs,), or (n_outputs, n_outputs)."""
        given = self.output_weights
        if isinstance(given, str) or given is None or np.ndim(given) == 0:
            names = (BY_RESIDUALS, EQUAL)
            check_choice("output_weights", given, names, "an array of weights or a metric")
            return str(given)
        if not loss.least_squares:
            raise ValueError(
                f"`output_weights` are for squared errors, and `loss` is the {loss.name!r}: leave "
                f"one of them at its default"
            )
        return output_metric(given, n_outputs)

    def _fit_linear(self, problem: FitProblem) -> tuple[Network, IdentificationReport]:
        """Realise a linear network; its states are determined up to a similarity."""
        settings = problem.settings
        if settings.bidirectional or settings.lags > 1 or settings.recurrence is None:
            raise ValueError(
                "activation='linear' is realised from its impulse response, forward in time: "
                "leave `bidirectional`, `lags` and `recurrence` as they are by default"
            )
        given = (self.moment, self.recurrence, self.refine, self.loss, self.output_weights)
        if not all(value is None or isinstance(value, str) for value in given):
            raise ValueError(
                "activation='linear' uses neither `moment` nor `recurrence`, and has a refinement "
                "of its own: leave `moment`, `recurrence`, `refine`, `loss` and `output_weights` "
                "to their names"
            )
        if settings.memory_limit is not None:
            raise ValueError(
                f"`memory_limit`={settings.memory_limit:,} cannot be kept with "
                f"activation='linear', which takes the data into memory: leave it None"
            )
        n_rows, n_inputs, n_hidden = problem.data.n_rows, problem.n_inputs, settings.n_hidden or 1
        needed = 2 * (n_inputs + n_hidden + 1)
        if n_rows < needed:
            raise TooFewSamplesError(
                f"{n_rows} sample{'s' * (n_rows > 1)} of {n_inputs} inputs are too few for a "
                f"linear network of {n_hidden} unit(s): at least {needed} are needed, twice as "
                f"many as coefficients of an output"
            )
        wanted = IdentificationSettings(
            n_linear=settings.n_hidden, n_nonlinear=0, verbose=settings.verbose
        )
        records = in_memory(problem.data)
        with messages_of_u_and_y(turned=True):
            found = identify(IdentificationProblem.of(records, wanted, problem.engine))
        return found.moments_model if settings.solver is None else found.model, found.report

    def predict(
        self,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        state: object = None,
        return_state: bool = False,
        return_std: bool = False,
    ) -> Any:
        """Outputs expected given the inputs, in the form of `X`.

        Parameters
        ----------
        X : array or list
            Inputs; or data kept anywhere else, in every form that `fit` takes (outputs that they
            hold are not used), or inputs alone in these forms.
        lengths : sequence of int, optional
        state : ndarray of shape (n_state,) or (n_sequences, n_state), optional
            State before the first step of each sequence; zeros by default. See `IORNN.predict`.
        return_state : bool, default False
            Whether to return the states after the last steps too, to go on from.
        return_std : bool, default False
            Whether to return standard deviations too: those of a new observation, from the
            standard errors of the weights and the residuals of the fit.

        Returns
        -------
        predictions : array or list
            Without the last axis, if `fit` was given outputs without it. For data in several parts
            a list of arrays, one for each sequence in the order of the data.
        std : array or list
            With `return_std`; alike.
        state : ndarray of shape (n_state,) or (n_sequences, n_state)
            With `return_state`; a vector for a single sequence of two dimensions.

        Raises
        ------
        ValueError
            With `return_std`, if the fit has no standard errors of all weights; the message says
            how to get them.

        Notes
        -----
        Data in several parts are read twice, a few parts at a time, where the `engine` runs: the
        predictions have to fit into memory, the data have not. Standard deviations (see
        :ref:`theory-prediction-errors`) take as many times as long as there are weights, about.
        They tell what noise did to the weights and will do to outputs; not what a wrong class of
        networks does, nor that noise has other sizes elsewhere.
        """
        check_is_fitted(self, "model_")
        convert = _first_column if self._flat_outputs else np.asarray
        if not return_std:
            return self._predictions(X, lengths, convert, state, return_state)
        *both, last = self._with_errors(X, lengths, state, self._weight_errors())
        return (*both, last) if return_state else tuple(both)

    def score(
        self,
        X: object,
        Y: object = None,
        *,
        skip: int = 0,
        lengths: ArrayLike | None = None,
        y: object = None,
    ) -> float:
        """Coefficient of determination R^2, averaged over outputs.

        Parameters
        ----------
        X, Y : array or list
            Or data kept anywhere else, in every form that `fit` takes; of those only sums are kept.
        skip : int, default 0
            Steps to leave out at the start of every sequence.
        lengths : sequence of int, optional
        y : array or list
            Another name of `Y`.

        Returns
        -------
        float
        """
        check_is_fitted(self, "model_")
        Y = second_argument("Y", Y, "y", y)
        data = as_data(X, Y, lengths=lengths, keep_tensors=False)
        self._check_columns(data)
        return score_model(self.model_, data, skip=skip, engine=self.engine, verbose=self.verbose)


def _first_column(rows: Array) -> Array:
    return rows[:, 0]
