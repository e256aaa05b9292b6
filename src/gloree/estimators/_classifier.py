"""`SpectralRNNClassifier`: sequence labelling with a network found from moments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from gloree._arrays import like
from gloree._random import RandomState
from gloree.activations import Activation
from gloree.diagnostics import LabelWarning, emit, warn_caller
from gloree.estimators._base import check_choice
from gloree.estimators._going_on import ClassifierGoingOn
from gloree.estimators._interface import second_argument
from gloree.estimators._labels import (
    Labels,
    accuracy,
    distinct,
    first_shown,
    flatten_labels,
    label_numbers,
    labels_of_steps,
    numbers_of,
    of_type,
)
from gloree.fitting import LabelCoding, Labelling, run_fit
from gloree.models import sum_predictions
from gloree.moments import FirstMomentEstimator
from gloree.recurrence import RecurrenceEstimator
from gloree.refinement import LBFGS, FisherScoring, Loss, Solver, softmax
from gloree.sequences import Array, Sequences
from gloree.sources import as_data

_READOUTS = ("logistic", "least-squares")


class SpectralRNNClassifier(ClassifierMixin, ClassifierGoingOn):  # type: ignore[misc]
    r"""Label every step of a sequence by a recurrent network whose units come from moments.

    The indicators of the labels take the place of the outputs: a linear path from the inputs is
    fitted first, its residual is whitened over the classes, and the hidden units and recurrences
    are recovered from its moments as in `SpectralRNNRegressor`. A readout on their states gives
    the labels,

    .. math:: P(y_t = c | x) \propto \exp(A_2^T h_t + D^T x_t + c)_c

    Parameters
    ----------
    n_hidden : int, pair of int or None, default None
        Hidden units; for a bidirectional network the total, or (forward, backward). None chooses
        their number from split halves of the data.
    bidirectional : bool, default False
        Whether a second chain runs backward.
    activation : str or Activation, default "quadratic"
        As in `SpectralRNNRegressor`; not "linear".
    chain : "gaussian-var", InputLaw, callable or arrays, default "gaussian-var"
        Law of the inputs: fitted (a `GaussianVAR` of order 1), or given, see
        `SpectralRNNRegressor`.
    moment : str or FirstMomentEstimator, default "auto"
        As in `SpectralRNNRegressor`.
    direct : bool, default True
        Whether there is a linear path from the inputs to the labels. It is fitted before anything
        else, so that the units look for what it leaves.
    fit_bias : bool, default True
    recurrence : str, RecurrenceEstimator or None, default "instrument"
        Estimator of the recurrent weights: "instrument", "least-squares" or "cross"; None does
        without a recurrence.
    lags : int, default 1
        Forward units see the windows [x_t, .., x_{t-lags+1}], backward ones
        [x_t, .., x_{t+lags-1}], the direct path both.
    max_rounds : int, default 5
    refine : {"full", "likelihood"}, Solver or None, default "full"
        "full" minimises the cross-entropy over all weights by L-BFGS with exact gradients, with a
        tenth of the segments held out for early stopping; "likelihood" goes on to the maximum of
        the likelihood of all data (`gloree.refinement.FisherScoring`), where the weights have
        standard errors and intervals (`report_.intervals()`): for many more steps than weights;
        None stays with the moments.
    loss : "cross-entropy" or Loss, default "cross-entropy"
        What the refinement minimises, a function of logits and label numbers.
    readout : {"logistic", "least-squares"}, default "logistic"
        Logistic regression on states and inputs, or the paper's least squares of the indicators,
        whose estimates of the probabilities need not lie between 0 and 1 (`predict_proba` clips
        them); it goes with refine=None.
    batch_size, memory_limit, warm_start, random_state, engine, verbose
        As in `SpectralRNNRegressor`.

    Attributes
    ----------
    model_ : IORNN or BRNN
        Its outputs are the logits of the labels (with the least-squares readout, estimates of
        their probabilities).
    classes_ : ndarray of shape (n_classes,)
        The labels: sorted where they can be, else in the order of their first appearance.
    chain_ : InputLaw or None
    report_ : FitReport
    n_features_in_ : int
    feature_names_in_ : ndarray of str of shape (n_inputs,)
        Names of the inputs, if they came as data frames: other names, or another order, are an
        error in `predict` and `score`.

    See Also
    --------
    SpectralRNNRegressor

    Notes
    -----
    With fewer than ten steps for each weight of the readout, five parts of the data that are held
    out in turn choose its ridge, and whether the units have a part in it: a linear model of the
    inputs stays unless another readout is clearly better (a `LinearModelWarning` says so).

    Of labels with equal outputs `predict` takes the one that comes first in `classes_`. A label
    that was not seen in `fit` is never predicted, and `score` counts it as an error.

    References
    ----------
    .. [SA16] H. Sedghi, A. Anandkumar, "Training Input-Output Recurrent Neural Networks through
       Spectral Methods", arXiv:1603.00954.

    Examples
    --------
    >>> import numpy as np
    >>> from gloree import SpectralRNNClassifier, datasets
    >>> X, Y, _, _ = datasets.make_rnn(1000, 10, 4, 2, 3, random_state=0)
    >>> labels = np.array(["low", "middle", "high"])[Y.argmax(axis=2)]
    >>> clf = SpectralRNNClassifier(n_hidden=2, random_state=0).fit(X, labels)
    >>> clf.predict(X).shape, bool(clf.score(X, labels) > 0.8)
    ((1000, 10), True)
    """

    classes_: Labels

    _solvers: Mapping[str, Solver] = {"full": LBFGS(), "likelihood": FisherScoring()}

    def __init__(
        self,
        n_hidden: int | tuple[int, int] | None = None,
        *,
        bidirectional: bool = False,
        activation: str | Activation = "quadratic",
        chain: object = "gaussian-var",
        moment: str | FirstMomentEstimator = "auto",
        direct: bool = True,
        fit_bias: bool = True,
        recurrence: str | RecurrenceEstimator | None = "instrument",
        lags: int = 1,
        max_rounds: int = 5,
        refine: str | Solver | None = "full",
        loss: str | Loss = "cross-entropy",
        readout: str = "logistic",
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
        self.refine, self.loss, self.readout = refine, loss, readout
        self.batch_size, self.memory_limit = batch_size, memory_limit
        self.warm_start = warm_start
        self.random_state, self.engine, self.verbose = random_state, engine, verbose

    def fit(
        self,
        X: object,
        y: object = None,
        *,
        labels: object = None,
        lengths: ArrayLike | None = None,
        checkpoint: str | Path | None = None,
    ) -> SpectralRNNClassifier:
        """Recover a labelling network.

        Parameters
        ----------
        X : array of shape (n_sequences, n_steps, n_inputs) or (n_steps, n_inputs), or a list
            Inputs (see `gloree.sequences.as_sequences`), of NumPy or as PyTorch tensors on any
            device, where all passes over them then run; or inputs and labels together, kept
            anywhere else (see `gloree.sources`): labels are whole numbers then.
        y : sequence, or sequence of sequences
            The labels, one for each step: strings, whole numbers, tuples, anything hashable. For
            flat arrays also one column of a data frame, or an array of one column.
        labels : sequence, or sequence of sequences
            Another name of `y`, the one that messages use.
        lengths : sequence of int, optional
            Steps of each sequence, for flat arrays.
        checkpoint : str or Path, optional
            File in which the result of every pass over the data is kept: an interrupted fit that is
            called again with the same data, parameters and file goes on where it ended.

        Returns
        -------
        SpectralRNNClassifier
            Itself.

        Raises
        ------
        ValueError, TypeError
            If parameters or data are not usable; the message says what to do.
        IdentifiabilityError
            If sizes leave the weights undetermined by any amount of data.
        TooFewSamplesError
            If the data are too few for the unknowns.
        """
        check_choice("readout", self.readout, _READOUTS)
        if self.readout == "least-squares" and self.refine is not None:
            raise ValueError(
                "readout='least-squares' goes with refine=None: the refinement minimises the "
                "cross-entropy of a logistic readout. Change `readout` or `refine`"
            )
        labels = second_argument("y", y, "labels", labels)
        problem = self._problem(as_data(X, lengths=lengths))
        data = problem.data
        if isinstance(data, Sequences) and data.Y is None:
            self._check_law(problem)
            flat = flatten_labels(labels_of_steps(labels, X, lengths), data)
            classes = of_type(distinct(flat), labels)
            data = replace(data, Y=like(data.X, numbers_of(flat, classes)[:, None]))
            problem = self._on(replace(problem, data=data), checkpoint)
        elif labels is not None:
            raise ValueError("`labels` were given beside data that hold labels: leave them out")
        else:
            problem = self._on(problem, checkpoint)
            classes = label_numbers(data, problem.engine)
            problem = problem.with_outputs(LabelCoding(classes))
        if classes.shape[0] < 2:
            raise ValueError(
                f"all {data.n_rows} labels are {first_shown(classes)}: there is nothing to "
                f"tell apart in `labels` with one class"
            )
        problem, start = self._start_of_labels(problem, classes, checkpoint)
        fitted = run_fit(problem, Labelling(classes.shape[0], self.readout), start)
        self.model_, self.chain_, self.report_ = fitted.model, fitted.law, fitted.report
        self.classes_, self._fitted_readout = classes, self.readout
        self._learn_columns(data)
        emit(fitted.report.findings)
        return self

    def decision_function(
        self,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        state: object = None,
        return_state: bool = False,
    ) -> Any:
        """Outputs of the network for every label; parameters and form as in `predict`.

        For two labels one number a step, as scikit-learn has it: the output for the second one
        minus that for the first, positive where `predict` gives the second.
        """
        check_is_fitted(self, "model_")
        two = self.classes_.shape[0] == 2
        convert = _difference if two else np.asarray
        return self._predictions(X, lengths, convert, state, return_state)

    def predict(
        self,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        state: object = None,
        return_state: bool = False,
    ) -> Any:
        """Most probable label of every step.

        Parameters
        ----------
        X : array or list
            Inputs; or data kept anywhere else, in every form that `fit` takes (labels that they
            hold are not used), or inputs alone in these forms.
        lengths : sequence of int, optional
        state : ndarray of shape (n_state,) or (n_sequences, n_state), optional
            State before the first step of each sequence; zeros by default. See `IORNN.predict`.
        return_state : bool, default False
            Whether to return the states after the last steps too, to go on from.

        Returns
        -------
        labels : ndarray or list of ndarray
            In the form of `X`, without its last axis. For data in several parts a list, one array
            for each sequence in the order of the data.
        state : ndarray of shape (n_state,) or (n_sequences, n_state)
            With `return_state`; a vector for a single sequence of two dimensions.

        Notes
        -----
        Data in several parts are read twice, a few parts at a time, where the `engine` runs: the
        predictions have to fit into memory, the data have not.
        """
        check_is_fitted(self, "model_")
        convert = partial(_most_probable, classes=self.classes_)
        return self._predictions(X, lengths, convert, state, return_state)

    def predict_proba(
        self,
        X: object,
        *,
        lengths: ArrayLike | None = None,
        state: object = None,
        return_state: bool = False,
    ) -> Any:
        """Probabilities of the labels at every step, in the order of `classes_`.

        Parameters
        ----------
        X, lengths, state, return_state
            As in `predict`.

        Returns
        -------
        probabilities : ndarray of shape (..., n_classes) or list of them
            Rows sum to one. With the least-squares readout, estimates below zero are cut off and
            the rest is scaled to sum to one.
        state : ndarray of shape (n_state,) or (n_sequences, n_state)
            With `return_state`.
        """
        convert = _softmax if self._has_logits else _cut_off
        return self._predictions(X, lengths, convert, state, return_state)

    def score(
        self,
        X: object,
        y: object = None,
        *,
        labels: object = None,
        lengths: ArrayLike | None = None,
    ) -> float:
        """Share of the steps that are labelled correctly.

        Parameters
        ----------
        X : array or list
            Or inputs and labels together, kept anywhere else, in every form that `fit` takes; of
            those only sums are kept.
        y, labels : sequence, or sequence of sequences
            As in `fit`. Labels that were not seen in `fit` count as errors, with a warning.
        lengths : sequence of int, optional

        Returns
        -------
        float
        """
        check_is_fitted(self, "model_")
        labels = second_argument("y", y, "labels", labels)
        data = as_data(X, lengths=lengths, keep_tensors=False)
        self._check_columns(data)
        if isinstance(data, Sequences) and data.Y is None:
            flat = flatten_labels(labels_of_steps(labels, X, lengths), data)
            codes = numbers_of(flat, self.classes_)
            unseen = sorted({str(flat[i]) for i in np.flatnonzero(codes < 0)})
            data = replace(data, Y=codes[:, None])
            function = partial(accuracy, classes=None)
        elif labels is not None:
            raise ValueError("`labels` were given beside data that hold labels: leave them out")
        else:
            function, unseen = partial(accuracy, classes=self.classes_), None
        sums = sum_predictions(
            function, self.model_, data, engine=self.engine, verbose=self.verbose
        )
        if sums.n_unseen:
            names = list(map(str, sums.unseen.values)) if unseen is None else unseen
            warn_caller(
                f"{int(sums.n_unseen)} steps have labels that were not seen in `fit` "
                f"({', '.join(names[:5])}{', ..' if len(names) > 5 else ''}): they count as "
                f"errors",
                LabelWarning,
            )
        return sums.n_correct / sums.n_rows


def _most_probable(outputs: Array, classes: Labels) -> Labels:
    labels: Labels = classes[outputs.argmax(axis=1)]
    return labels


def _difference(outputs: Array) -> Array:
    return np.asarray(outputs[:, 1] - outputs[:, 0])


def _softmax(outputs: Array) -> Array:
    return softmax(outputs)[0]


def _cut_off(outputs: Array) -> Array:
    positive = np.maximum(outputs, 1e-12)
    return np.asarray(positive / positive.sum(axis=1, keepdims=True))
